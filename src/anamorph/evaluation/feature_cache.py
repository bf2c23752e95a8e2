"""What is seen of a model, each image decoded once: features, codes, errors and some images, a part at a time, kept."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.files import read_tensors, write_tensors
from anamorph.core.model import Encodes, HasMapping, HasNoise, Samples, chunk_size, require
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Seeded
from anamorph.core.space import Codes, Space
from anamorph.data.shards import cache_folder
from anamorph.evaluation.evaluated_run import DownsampledSource, EvaluatedRun
from anamorph.features.batches import quantise_8bit
from anamorph.features.network import ClassifierNetwork, DistanceNetwork, FeatureNetwork
from anamorph.metrics.similarity import ms_ssim, mse, smallest_side, ssim

__all__ = [
    "CacheEntry",
    "FeatureCache",
    "StepProgress",
    "as_bytes",
    "cached_features",
    "code_vectors",
    "no_step_progress",
    "scales_of",
]

StepProgress = Callable[[str], AbstractContextManager[Progress]]
"""Told what comes now, gives somebody to tell how far it is."""
CacheEntry = dict[str, Tensor]

PART = 500
"""Images between two files: what an interruption loses at most."""
SHOWN_VALUES = 1 << 26
"""Pixels that are kept to be shown."""
MOST_CODE = 8192
"""Numbers of a code that are kept."""


def no_step_progress(what: str) -> AbstractContextManager[Progress]:
    """Tells nobody."""
    return nullcontext(no_progress)


class FeatureCache:
    """What is seen of a subject: each look is taken when it is first asked for, and kept."""

    def __init__(self, subject: EvaluatedRun, tell: StepProgress = no_step_progress) -> None:
        self.subject, self.tell = subject, tell
        self.folder = subject.folder / "looks" / subject.key

    @cached_property
    def samples(self) -> CacheEntry:
        """Of n samples: features.K by each network, chance.LABEL of classes, their code and z, code_error where there is an
        encoder, and images as bytes of the first ones."""
        return self._taken("drawing samples", "samples", self.subject.n, self._draw)

    @cached_property
    def reconstructions(self) -> CacheEntry:
        """Of held-out images put through encoder and decoder: features.K, mse, ssim, distance; code, usage.SPACE; label.NAME;
        and as bytes images and originals of the first ones."""
        return self._taken("reconstructing", "reconstructions", self.subject.n_real, self._reconstruct)

    @cached_property
    def encoded(self) -> CacheEntry:
        """Of training images: their code, and label.NAME."""
        return self._taken("encoding", "encoded", self.subject.n_train, self._encode)

    @cached_property
    def real(self) -> list[Tensor]:
        """Features of held-out images by each network."""
        return [look["features"] for look in self.real_seen]

    @cached_property
    def real_seen(self) -> list[CacheEntry]:
        """What each network sees in held-out images: features, and chance.LABEL of classes, if it knows some."""
        return self._kept(self.subject.data.held_out, self.subject.n_real)

    @cached_property
    def known(self) -> list[Tensor]:
        """Features of training images by each network."""
        return [look["features"] for look in self._kept(self.subject.data.train, self.subject.n_train)]

    def _kept(self, source: DownsampledSource, n: int) -> list[CacheEntry]:
        found = []
        for network in self.subject.networks.all:
            with self.tell(f"looking at {source.name}") as progress:
                found.append(cached_features(source, n, network, progress, self.subject.device))
        return found

    def _taken(self, what: str, name: str, n: int, look: Callable[[int, int], CacheEntry]) -> CacheEntry:
        """A look from its parts; those that are not there yet are taken now, each a function of its place alone."""
        parts = []
        with self.tell(what) as progress, torch.no_grad():
            for start in range(0, n, PART):
                count = min(PART, n - start)
                path = self.folder / f"{name}-{start:07d}.safetensors"
                part = _whole(path)
                if part is None:
                    part = look(start, count)
                    write_tensors(path, part, {})
                parts.append(part)
                progress(start + count, n)
        return _joined(parts)

    @property
    def _shown(self) -> int:
        """How many images are kept to be shown."""
        return max(64, SHOWN_VALUES // math.prod(self.subject.model.signal.shape))

    def _seen(self, images: Tensor) -> CacheEntry:
        found = {}
        for i, network in enumerate(self.subject.networks.all):
            found[f"features.{i}"] = network(images).float().cpu()
        classifier = self.subject.networks.classifier
        if isinstance(classifier, ClassifierNetwork):
            found |= {f"chance.{name}": p.float().cpu() for name, p in classifier.probabilities(images).items()}
        return found

    def _draw(self, start: int, count: int) -> CacheEntry:
        subject, parts = self.subject, []
        drawer = require(subject.model, Samples, "samples")
        device = subject.device
        random = Seeded(subject.seed, "samples", start, device=device)
        labels = self._classes(start, count)
        z = random.normal(count, *drawer.z_space.shape) if isinstance(drawer, HasMapping) else None
        codes = (
            drawer.map(z, labels)
            if isinstance(drawer, HasMapping) and z is not None
            else drawer.sample_codes(count, random, labels)
        )
        step = chunk_size(subject.model)
        for first in range(0, count, step):
            some = {name: code[first : first + step] for name, code in codes.items()}
            x = drawer.decode(some, random if isinstance(drawer, HasNoise) else "fixed").float()
            part = self._seen(quantise_8bit(x)) | self._images("images", x, start + first)
            if isinstance(drawer, Encodes):
                part |= _missed(drawer.spaces, some, drawer.encode(x))
            parts.append(part)
        found = _joined(parts)
        found |= {} if z is None else {"z": z.flatten(1).cpu()}
        return found | _code(drawer.spaces, codes)

    def _classes(self, start: int, count: int) -> dict[str, Tensor] | None:
        """Of the classes that a model is told, as many of each as held-out images have."""
        wanted, held = self.subject.model.classes, self.subject.data.held_out
        there = {label.name: len(label.classes) for label in held.labels}
        if not wanted or any(there.get(name) != classes for name, classes in wanted.items()):
            return None
        labels = held.take(start, count).labels
        return {name: labels[name] for name in wanted}

    def _images(self, name: str, x: Tensor, at: int) -> CacheEntry:
        count = min(len(x), self._shown - at)
        return {name: as_bytes(x[:count])} if count > 0 else {}

    def _reconstruct(self, start: int, count: int) -> CacheEntry:
        subject = self.subject
        encoder = require(subject.model, Encodes, "reconstructions")
        device, parts = subject.device, []
        step = chunk_size(encoder)
        for first in range(start, start + count, step):
            batch = subject.data.held_out.take(first, min(step, start + count - first)).to(device)
            x = batch.signals
            codes = encoder.encode(x)
            again = encoder.decode(codes).float().clamp(-1, 1)
            shown = quantise_8bit(again)
            part = self._seen(shown) | {"mse": mse(again, x).cpu()} | _structure(again, x) | _usage(encoder.spaces, codes)
            part |= _code(encoder.spaces, codes) | {f"label.{name}": value.cpu() for name, value in batch.labels.items()}
            network = subject.networks.distance
            if isinstance(network, DistanceNetwork):
                part["distance"] = network.distance(shown, x).float().cpu()
            parts.append(part | self._images("images", again, first) | self._images("originals", x, first))
        return _joined(parts)

    def _encode(self, start: int, count: int) -> CacheEntry:
        encoder = require(self.subject.model, Encodes, "codes")
        device, parts = self.subject.device, []
        step = chunk_size(encoder)
        for first in range(start, start + count, step):
            batch = self.subject.data.train.take(first, min(step, start + count - first)).to(device)
            labels = {f"label.{name}": value.cpu() for name, value in batch.labels.items()}
            parts.append(_code(encoder.spaces, encoder.encode(batch.signals)) | labels)
        return _joined(parts)

    def keep(self, name: str, look: CacheEntry) -> None:
        """Keep what is to be shown."""
        write_tensors(self.folder / f"{name}.safetensors", look, {})

    def kept(self, name: str) -> CacheEntry:
        """What was kept to be shown; nothing, if there is nothing."""
        return _whole(self.folder / f"{name}.safetensors") or {}

    def sweep(self) -> None:
        """Remove what was kept of the same run as it was earlier."""
        for other in self.folder.parent.glob("*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)


def _whole(path: Path) -> CacheEntry | None:
    """What was kept in a file; None if it is not there, or damaged, so that it is to be found again."""
    try:
        return read_tensors(path)[0]
    except UserError:
        return None


def _joined(parts: list[CacheEntry]) -> CacheEntry:
    """Parts one after the other; of what only the first ones have, those."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: torch.cat([part[name] for part in parts if name in part]) for name in names}


def as_bytes(x: Tensor) -> Tensor:
    return (x.cpu() * 127.5 + 128).floor().clamp(0, 255).to(torch.uint8)


def _structure(again: Tensor, x: Tensor) -> CacheEntry:
    """ssim, and ms_ssim over as many scales as fit, if that is more than one."""
    found = {"ssim": ssim(again, x).cpu()} if min(x.shape[2:]) >= smallest_side(1) else {}
    scales = scales_of(min(x.shape[2:]))
    return found | ({"ms_ssim": ms_ssim(again, x, scales).cpu()} if scales > 1 else {})


def scales_of(side: int) -> int:
    """Over how many scales the structure of an image can be compared; at most five."""
    return sum(side >= smallest_side(scales) for scales in range(1, 6))


def code_vectors(space: Space, code: Tensor) -> Tensor:
    """A real code [B, *shape] as vectors [B, D]; of layers that are all alike, one."""
    if space.layered and bool((code == code[:, :1]).all()):
        code = code[:, 0]
    return code.flatten(1).float().cpu()


def _code(spaces: tuple[Space, ...], codes: Codes) -> CacheEntry:
    """The first code that cannot be done without, if it is real and not too large."""
    space = next(space for space in spaces if not space.optional)
    if space.num_codes is not None or math.prod(space.shape) > MOST_CODE:
        return {}
    return {"code": code_vectors(space, codes[space.name])}


def _missed(spaces: tuple[Space, ...], wanted: Codes, found: Codes) -> CacheEntry:
    """code_error: |E(G(w)) - w| of each; or code_found: the share of its whole numbers that are found again."""
    needed = [space for space in spaces if not space.optional and space.name in wanted]
    if all(space.num_codes is None for space in needed):
        pairs = [(code_vectors(s, wanted[s.name]), code_vectors(s, found[s.name])) for s in needed]
        return {"code_error": (torch.cat([a for a, _ in pairs], 1) - torch.cat([b for _, b in pairs], 1)).norm(dim=1)}
    same = [(found[s.name] == wanted[s.name]).flatten(1).float().cpu() for s in needed if s.num_codes is not None]
    return {"code_found": torch.cat(same, 1).mean(1)}


def _usage(spaces: tuple[Space, ...], codes: Codes) -> CacheEntry:
    """How often each whole number of a space is used, [1, vocabulary]."""
    found = {}
    for space in spaces:
        if space.num_codes is not None and not space.optional:
            counts = torch.bincount(codes[space.name].flatten().long().cpu(), minlength=space.num_codes)
            found[f"usage.{space.name}"] = counts[None]
    return found


def cached_features(
    source: DownsampledSource,
    n: int,
    network: FeatureNetwork,
    progress: Progress = no_progress,
    device: torch.device | str = "cpu",
) -> CacheEntry:
    """What a network sees in the first n images of a source, found once and kept in the user's cache: features, and
    chance.LABEL of classes, if it knows some."""
    name = hashlib.blake2b(f"{source.fingerprint} {network.fingerprint} {n}".encode(), digest_size=8).hexdigest()
    path = _cache() / f"{name}.safetensors"
    there = _whole(path)
    if there is not None:
        return there
    parts: list[CacheEntry] = []
    with torch.no_grad():
        for start in range(0, n, PART):
            x = source.take(start, min(PART, n - start)).signals.to(device)
            chances = network.probabilities(x) if isinstance(network, ClassifierNetwork) else {}
            parts.append({"features": network(x).float().cpu(), **{f"chance.{k}": p.float().cpu() for k, p in chances.items()}})
            progress(min(start + PART, n), n)
    found = _joined(parts)
    write_tensors(path, found, {"network": network.name, "source": source.name})
    return found


def _cache() -> Path:
    return cache_folder() / "features" / "of-data"
