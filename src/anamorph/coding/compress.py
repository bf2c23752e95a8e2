"""Compress signals to small files, and decompress these to the model's reconstructions, bit for bit."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anamorph.coding.container import Packed, pack, unpack
from anamorph.coding.lockstep import LANES, Position, decode_lockstep, distributions_of, fixed_arithmetic
from anamorph.coding.model_identity import fingerprint, older_fingerprints
from anamorph.coding.range_coder import Frequencies, Ids, Reader, Writer
from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel
from anamorph.core.progress import Progress, no_progress
from anamorph.core.space import Codes, Space, check_codes, concatenate
from anamorph.models.autoregressive.common import Autoregressive
from anamorph.models.two_stage import TwoStageModel

__all__ = ["Unpacked", "compress", "decompress", "reconstruct"]


@dataclass(frozen=True)
class Unpacked:
    """The content of a file.

    Args:
        signals: [n, *shape] in [-1, 1].
        codes: that the signals were decoded from.
        labels: the classes [n] that the prior was conditioned on, by label.
        originals: per signal, its size before it was resized to the model's; empty if it was not.
    """

    signals: Tensor
    codes: Codes
    labels: Mapping[str, Tensor]
    originals: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _LaneGroup:
    """Examples of a stream, and their lanes in the batch."""

    stream: int
    examples: list[int]
    lanes: list[int]


def compress(
    model: LatentModel,
    x: Tensor,
    labels: Mapping[str, Tensor] | None = None,
    *,
    joint: bool = False,
    originals: Sequence[tuple[int, ...]] = (),
    progress: Progress = no_progress,
) -> list[bytes]:
    """Compress each signal to the bytes of a file. A signal's file does not depend on what is compressed with it.

    Args:
        model: encodes signals, and has a prior over the codes.
        x: signals [n, *signal.shape] in [-1, 1].
        labels: the classes [n] that the prior is conditioned on, by label.
        joint: write one file for all signals.
        originals: per signal, its size before it was resized, to be stored with it.
        progress: called with the codes done, and their total.

    Raises:
        UserError: if the model has no prior over codes, a label is missing, or signals are of another shape.
    """
    known, distributions = distributions_of(model)
    if tuple(x.shape[1:]) != known.signal.shape or not len(x):
        raise UserError(f"this model compresses signals [n, {', '.join(map(str, known.signal.shape))}], got {list(x.shape)}")
    with fixed_arithmetic():
        codes = concatenate([known.encode(one) for one in x.float().split(1)])
        codes = {distribution.space.name: codes[distribution.space.name] for distribution in distributions}
        check_codes(codes, known.prior.spaces)
        given = _classes(known, labels, len(x))
        groups = [list(range(len(x)))] if joint else [[i] for i in range(len(x))]
        checks = [_check_of(distributions, codes, group) for group in groups]
        lanes = [check % LANES if len(group) == 1 else 0 for group, check in zip(groups, checks, strict=True)]
        payloads = _write(distributions, codes, given, _rounds([len(g) for g in groups], lanes), len(groups), progress)
    label_rows = list(zip(*(given[space.name].tolist() for space in known.conditions), strict=True))
    name = fingerprint(known)
    files = []
    for group, lane, payload, check in zip(groups, lanes, payloads, checks, strict=True):
        rows, sizes = (tuple(tuple(table[i]) for i in group) if table else () for table in (label_rows, originals))
        files.append(pack(Packed(name, known.signal, len(group), lane, rows, sizes, payload, check)))
    return files


def decompress(
    model: LatentModel, files: Sequence[bytes], names: Sequence[str] | None = None, progress: Progress = no_progress
) -> list[Unpacked]:
    """Decompress files to exactly the `reconstruct` of what was compressed.

    Args:
        model: the model that compressed them.
        files: the bytes of each file.
        names: of the files, for messages.
        progress: called with the codes done, and their total.

    Raises:
        UserError: if a file is damaged, of another model, or was written by another arithmetic.
    """
    known, distributions = distributions_of(model)
    names = [f"file {i}" for i in range(len(files))] if names is None else names
    packed = [unpack(data, name) for data, name in zip(files, names, strict=True)]
    mine = [fingerprint(known), *older_fingerprints(known)]
    for one, name in zip(packed, names, strict=True):
        _check_fit(known, one, name, mine)
    labels = [row for one in packed for row in (one.labels or ((),) * one.count)]
    given = {s.name: torch.tensor([row[j] for row in labels]) for j, s in enumerate(known.conditions)}
    with fixed_arithmetic():
        codes = _read(
            distributions, given, _rounds([p.count for p in packed], [p.lane for p in packed]), packed, names, progress
        )
        ends = np.cumsum([0, *(p.count for p in packed)])
        contents = []
        for one, name, start, end in zip(packed, names, ends, ends[1:], strict=False):
            group = list(range(start, end))
            if _check_of(distributions, codes, group) != one.check:
                raise _arithmetic_error(name)
            own, labels_of_file = ({key: value[group] for key, value in part.items()} for part in (codes, given))
            contents.append(Unpacked(_decoded(known, own, labels_of_file), own, labels_of_file, one.originals))
    return contents


def reconstruct(model: LatentModel, x: Tensor, labels: Mapping[str, Tensor] | None = None) -> Tensor:
    """Encode and decode signals x [n, *signal.shape] one at a time, in the arithmetic of compression."""
    known, distributions = distributions_of(model)
    with fixed_arithmetic():
        codes = concatenate([known.encode(one) for one in x.float().split(1)])
        return _decoded(
            known,
            {distribution.space.name: codes[distribution.space.name] for distribution in distributions},
            _classes(known, labels, len(x)),
        )


def _classes(model: TwoStageModel, labels: Mapping[str, Tensor] | None, n: int) -> Codes:
    """Return the classes [n] that the prior and the decoder are conditioned on.

    Raises:
        UserError: if a label is missing or out of range.
    """
    labels = labels or {}
    for space in model.conditions:
        if space.name not in labels:
            raise UserError(
                f"this model is conditioned on {space.name}: give its labels (labels={{...}}, or --label {space.name}=NAME)"
            )
    given = {space.name: labels[space.name].long() for space in model.conditions}
    if check_codes(given, model.conditions) not in ((n,) if given else (0,)):
        raise UserError(f"got {n} signals and labels of another number: give one label per signal")
    return given


def _rounds(counts: Sequence[int], lanes: Sequence[int]) -> list[list[_LaneGroup]]:
    """Assign examples to batches: streams of one example share a batch, each in its lane; longer ones have their own."""
    shared: list[list[_LaneGroup]] = []
    own: list[list[_LaneGroup]] = []
    taken = [0] * LANES
    first = 0
    for stream, (count, lane) in enumerate(zip(counts, lanes, strict=True)):
        if count == 1:
            if taken[lane] == len(shared):
                shared.append([])
            shared[taken[lane]].append(_LaneGroup(stream, [first], [lane]))
            taken[lane] += 1
        else:
            for start in range(0, count, LANES):
                size = min(LANES, count - start)
                own.append([_LaneGroup(stream, list(range(first + start, first + start + size)), list(range(size)))])
        first += count
    return shared + own


def _write(
    distributions: Sequence[Autoregressive],
    codes: Codes,
    given: Codes,
    rounds: Sequence[Sequence[_LaneGroup]],
    streams: int,
    progress: Progress,
) -> list[bytes]:
    """Encode the codes to the payload of each stream."""
    writers = [Writer() for _ in range(streams)]
    for number, groups_in_round in enumerate(rounds):
        true = {
            distribution.space.name: _in_lanes(codes[distribution.space.name], groups_in_round)
            .view(LANES, *distribution.grid)
            .numpy()
            for distribution in distributions
        }

        def code_source(
            space: Space,
            place: Position,
            distribution: Frequencies,
            true: dict[str, Any] = true,
            groups_in_round: Sequence[_LaneGroup] = groups_in_round,
        ) -> Ids:
            ids: Ids = true[space.name][(slice(None), *place)].astype(np.int32)
            for group in groups_in_round:
                writers[group.stream].write(ids[group.lanes], distribution[group.lanes])
            return ids

        decode_lockstep(
            distributions, _batched_conditions(given, groups_in_round), code_source, _part_of(progress, number, len(rounds))
        )
    return [writer.finish() for writer in writers]


def _read(
    distributions: Sequence[Autoregressive],
    given: Codes,
    rounds: Sequence[Sequence[_LaneGroup]],
    packed: Sequence[Packed],
    names: Sequence[str],
    progress: Progress,
) -> Codes:
    """Decode the codes [n, *shape] of all examples."""
    readers = [Reader(one.payload) for one in packed]
    n = sum(one.count for one in packed)
    codes = {
        distribution.space.name: torch.zeros(n, *distribution.space.shape, dtype=torch.long) for distribution in distributions
    }
    for number, groups_in_round in enumerate(rounds):

        def code_source(
            space: Space, place: Position, distribution: Frequencies, groups_in_round: Sequence[_LaneGroup] = groups_in_round
        ) -> Ids:
            ids: Ids = np.zeros(LANES, np.int32)
            for group in groups_in_round:
                try:
                    ids[group.lanes] = readers[group.stream].read(distribution[group.lanes])
                except UserError as error:
                    raise _arithmetic_error(names[group.stream]) from error
            return ids

        found = decode_lockstep(
            distributions, _batched_conditions(given, groups_in_round), code_source, _part_of(progress, number, len(rounds))
        )
        for name, value in found.items():
            for group in groups_in_round:
                codes[name][group.examples] = value[group.lanes]
    return codes


def _in_lanes(values: Tensor, groups_in_round: Sequence[_LaneGroup]) -> Tensor:
    """Put values [n, ...] in their lanes [LANES, ...]; the other lanes are zero."""
    placed = values.new_zeros(LANES, *values.shape[1:])
    for group in groups_in_round:
        placed[group.lanes] = values[group.examples]
    return placed


def _batched_conditions(given: Codes, groups_in_round: Sequence[_LaneGroup]) -> Codes:
    return {name: _in_lanes(value, groups_in_round) for name, value in given.items()}


def _part_of(progress: Progress, number: int, of: int) -> Progress:
    """Return the progress of one batch among several."""
    return lambda done, total: progress(number * total + done, of * total)


def _decoded(model: TwoStageModel, codes: Codes, given: Codes) -> Tensor:
    """Decode codes, and labels if the decoder reads them, one at a time: the last bits depend on the batch size."""
    n = len(next(iter(codes.values())))
    read = codes | {space.name: given[space.name] for space in model.spaces if space.name in given}
    return torch.cat([model.decode({name: value[i : i + 1] for name, value in read.items()}) for i in range(n)])


def _check_of(distributions: Sequence[Autoregressive], codes: Codes, examples: list[int]) -> int:
    """Compute the CRC-32 of the codes of some examples, space after space, as little-endian 32-bit numbers."""
    check = 0
    for distribution in distributions:
        check = zlib.crc32(codes[distribution.space.name][examples].numpy().astype("<u4").tobytes(), check)
    return check


def _check_fit(model: TwoStageModel, packed: Packed, name: str, mine: Sequence[bytes]) -> None:
    """Check that a file is of this model, and that its header is possible.

    Raises:
        UserError: if it is not.
    """
    if packed.fingerprint not in mine:
        raise UserError(
            f"{name} was compressed by another model, or by this one with other weights ({packed.fingerprint.hex()}, and this "
            f"is {mine[0].hex()}): use the run that compressed it, as it was then"
        )
    num_classes = tuple(space.num_codes or 0 for space in model.conditions)
    rows = packed.labels or ((),) * packed.count
    if (
        packed.signal != model.signal
        or packed.lane >= (LANES if packed.count == 1 else 1)
        or any(len(row) != len(num_classes) or any(v >= k for v, k in zip(row, num_classes, strict=True)) for row in rows)
    ):
        raise UserError(f"{name} has a header that does not fit its model: it was not written by anamorph")


def _arithmetic_error(name: str) -> UserError:
    return UserError(
        f"{name} cannot be decoded exactly: it was compressed by another arithmetic (another kind of processor, or "
        f"another version of torch); decompress it where it was compressed"
    )
