"""Signals as small files, and back to what the model makes of them, bit for bit."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anamorph.coding.container import Packed, pack, unpack
from anamorph.coding.lockstep import LANES, Place, decode_lockstep, distributions_of, fixed_arithmetic
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
    """What a file held: signals [n, *shape] in [-1, 1], the codes that they were decoded from, the classes that the prior was
    told, by label [n]; originals: per signal, the size that it had before it was fitted to the model, if it was."""

    signals: Tensor
    codes: Codes
    labels: Mapping[str, Tensor]
    originals: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _LaneGroup:
    """Some examples of a stream, and the lanes that they sit in."""

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
    """The bytes of one file per signal of x [n, *signal.shape] in [-1, 1], or of one for all of them (together).

    The codes that the model finds are coded under its prior. The file of a signal is the same whatever is compressed with it.
    labels: the classes [n] that the prior is told, if it is. originals: the sizes that signals had, to be told with them.
    Raises: UserError if the model has no prior over codes, a label is missing, or signals are not of the model's shape.
    """
    known, laws = distributions_of(model)
    if tuple(x.shape[1:]) != known.signal.shape or not len(x):
        raise UserError(f"this model compresses signals [n, {', '.join(map(str, known.signal.shape))}], got {list(x.shape)}")
    with fixed_arithmetic():
        codes = concatenate([known.encode(one) for one in x.float().split(1)])
        codes = {law.space.name: codes[law.space.name] for law in laws}
        check_codes(codes, known.prior.spaces)
        given = _classes(known, labels, len(x))
        groups = [list(range(len(x)))] if joint else [[i] for i in range(len(x))]
        checks = [_check_of(laws, codes, group) for group in groups]
        lanes = [check % LANES if len(group) == 1 else 0 for group, check in zip(groups, checks, strict=True)]
        payloads = _write(laws, codes, given, _rounds([len(g) for g in groups], lanes), len(groups), progress)
    told = list(zip(*(given[space.name].tolist() for space in known.conditions), strict=True))
    name = fingerprint(known)
    files = []
    for group, lane, payload, check in zip(groups, lanes, payloads, checks, strict=True):
        rows, sizes = (tuple(tuple(table[i]) for i in group) if table else () for table in (told, originals))
        files.append(pack(Packed(name, known.signal, len(group), lane, rows, sizes, payload, check)))
    return files


def decompress(
    model: LatentModel, files: Sequence[bytes], names: Sequence[str] | None = None, progress: Progress = no_progress
) -> list[Unpacked]:
    """What the bytes of each file stand for; exactly the `reconstruct` of what was compressed.

    names: of the files, for what goes wrong with them.
    Raises: UserError if a file is damaged, or of another model, or does not come out as it went in because this machine
    computes otherwise.
    """
    known, laws = distributions_of(model)
    names = [f"file {i}" for i in range(len(files))] if names is None else names
    packed = [unpack(data, name) for data, name in zip(files, names, strict=True)]
    mine = [fingerprint(known), *older_fingerprints(known)]
    for one, name in zip(packed, names, strict=True):
        _check_fit(known, one, name, mine)
    labels = [row for one in packed for row in (one.labels or ((),) * one.count)]
    given = {s.name: torch.tensor([row[j] for row in labels]) for j, s in enumerate(known.conditions)}
    with fixed_arithmetic():
        codes = _read(laws, given, _rounds([p.count for p in packed], [p.lane for p in packed]), packed, names, progress)
        ends = np.cumsum([0, *(p.count for p in packed)])
        found = []
        for one, name, start, end in zip(packed, names, ends, ends[1:], strict=False):
            group = list(range(start, end))
            if _check_of(laws, codes, group) != one.check:
                raise _otherwise(name)
            own, told = ({key: value[group] for key, value in part.items()} for part in (codes, given))
            found.append(Unpacked(_decoded(known, own, told), own, told, one.originals))
    return found


def reconstruct(model: LatentModel, x: Tensor, labels: Mapping[str, Tensor] | None = None) -> Tensor:
    """What is left of signals x [n, *signal.shape]: encoded and decoded one at a time, in the arithmetic of compression."""
    known, laws = distributions_of(model)
    with fixed_arithmetic():
        codes = concatenate([known.encode(one) for one in x.float().split(1)])
        return _decoded(known, {law.space.name: codes[law.space.name] for law in laws}, _classes(known, labels, len(x)))


def _classes(model: TwoStageModel, labels: Mapping[str, Tensor] | None, n: int) -> Codes:
    """The classes [n] that the prior is told, and those that are decoded with the codes.

    Raises: UserError if there is none, or one that it does not know.
    """
    labels = labels or {}
    for space in model.conditions:
        if space.name not in labels:
            raise UserError(f"this model is told the {space.name} of what it codes: give --label {space.name}=NAME")
    given = {space.name: labels[space.name].long() for space in model.conditions}
    if check_codes(given, model.conditions) not in ((n,) if given else (0,)):
        raise UserError(f"{n} signals are to be compressed, and the labels are of another number of them")
    return given


def _rounds(counts: Sequence[int], lanes: Sequence[int]) -> list[list[_LaneGroup]]:
    """Who sits together: streams of one example share a round, each in its lane; a longer one fills rounds of its own."""
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
    laws: Sequence[Autoregressive],
    codes: Codes,
    given: Codes,
    rounds: Sequence[Sequence[_LaneGroup]],
    streams: int,
    progress: Progress,
) -> list[bytes]:
    """The payload of each stream."""
    writers = [Writer() for _ in range(streams)]
    for number, seats in enumerate(rounds):
        true = {law.space.name: _seated(codes[law.space.name], seats).view(LANES, *law.grid).numpy() for law in laws}

        def speak(
            space: Space, place: Place, law: Frequencies, true: dict[str, Any] = true, seats: Sequence[_LaneGroup] = seats
        ) -> Ids:
            ids: Ids = true[space.name][(slice(None), *place)].astype(np.int32)
            for seat in seats:
                writers[seat.stream].write(ids[seat.lanes], law[seat.lanes])
            return ids

        decode_lockstep(laws, _told(given, seats), speak, _part_of(progress, number, len(rounds)))
    return [writer.finish() for writer in writers]


def _read(
    laws: Sequence[Autoregressive],
    given: Codes,
    rounds: Sequence[Sequence[_LaneGroup]],
    packed: Sequence[Packed],
    names: Sequence[str],
    progress: Progress,
) -> Codes:
    """The codes [n, *shape] of all examples."""
    readers = [Reader(one.payload) for one in packed]
    n = sum(one.count for one in packed)
    codes = {law.space.name: torch.zeros(n, *law.space.shape, dtype=torch.long) for law in laws}
    for number, seats in enumerate(rounds):

        def speak(space: Space, place: Place, law: Frequencies, seats: Sequence[_LaneGroup] = seats) -> Ids:
            ids: Ids = np.zeros(LANES, np.int32)
            for seat in seats:
                try:
                    ids[seat.lanes] = readers[seat.stream].read(law[seat.lanes])
                except UserError as error:
                    raise _otherwise(names[seat.stream]) from error
            return ids

        found = decode_lockstep(laws, _told(given, seats), speak, _part_of(progress, number, len(rounds)))
        for name, value in found.items():
            for seat in seats:
                codes[name][seat.examples] = value[seat.lanes]
    return codes


def _seated(values: Tensor, seats: Sequence[_LaneGroup]) -> Tensor:
    """Of values [n, ...] each in its lane [LANES, ...]; zeros in the others."""
    placed = values.new_zeros(LANES, *values.shape[1:])
    for seat in seats:
        placed[seat.lanes] = values[seat.examples]
    return placed


def _told(given: Codes, seats: Sequence[_LaneGroup]) -> Codes:
    return {name: _seated(value, seats) for name, value in given.items()}


def _part_of(progress: Progress, number: int, of: int) -> Progress:
    """Progress of one round among several."""
    return lambda done, total: progress(number * total + done, of * total)


def _decoded(model: TwoStageModel, codes: Codes, given: Codes) -> Tensor:
    """Signals of codes, one at a time, since a decoder's last bits depend on how many it is given; and of labels, if it reads
    them."""
    n = len(next(iter(codes.values())))
    read = codes | {space.name: given[space.name] for space in model.spaces if space.name in given}
    return torch.cat([model.decode({name: value[i : i + 1] for name, value in read.items()}) for i in range(n)])


def _check_of(laws: Sequence[Autoregressive], codes: Codes, examples: list[int]) -> int:
    """CRC-32 of the codes of some examples, space after space, as 32-bit numbers with the low byte first."""
    check = 0
    for law in laws:
        check = zlib.crc32(codes[law.space.name][examples].numpy().astype("<u4").tobytes(), check)
    return check


def _check_fit(model: TwoStageModel, packed: Packed, name: str, mine: Sequence[bytes]) -> None:
    """Raises: UserError if a file is of another model, or says what cannot be."""
    if packed.fingerprint not in mine:
        raise UserError(
            f"{name} was compressed by another model, or by this one with other weights ({packed.fingerprint.hex()}, and this "
            f"is {mine[0].hex()}): use the run that compressed it, as it was then"
        )
    wanted = tuple(space.num_codes or 0 for space in model.conditions)
    rows = packed.labels or ((),) * packed.count
    if (
        packed.signal != model.signal
        or packed.lane >= (LANES if packed.count == 1 else 1)
        or any(len(row) != len(wanted) or any(v >= k for v, k in zip(row, wanted, strict=True)) for row in rows)
    ):
        raise UserError(f"{name} says what does not go with its model: it was not written by `anamorph compress`")


def _otherwise(name: str) -> UserError:
    return UserError(
        f"{name} does not come out as it went in: it was compressed by another arithmetic (another kind of processor, or "
        f"another version of torch); decompress it where it was compressed"
    )
