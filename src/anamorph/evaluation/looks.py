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
from anamorph.core.model import Draws, Encodes, Maps, Noisy, at_a_time, require
from anamorph.core.progress import Progress, quiet
from anamorph.core.random import Seeded
from anamorph.core.space import Codes, Space
from anamorph.data.shards import cache_folder
from anamorph.evaluation.subject import Halved, Subject
from anamorph.features.network import Classifies, Compares, FeatureNetwork
from anamorph.features.stream import as_bytes_see
from anamorph.metrics.similarity import ms_ssim, mse, smallest_side, ssim

__all__ = ["Look", "Looks", "Tell", "as_bytes", "kept_features", "scales_of", "untold", "vector_of"]

Tell = Callable[[str], AbstractContextManager[Progress]]
"""Told what comes now, gives somebody to tell how far it is."""
Look = dict[str, Tensor]

PART = 500
"""Images between two files: what an interruption loses at most."""
SHOWN_VALUES = 1 << 26
"""Pixels that are kept to be shown."""
MOST_CODE = 8192
"""Numbers of a code that are kept."""


def untold(what: str) -> AbstractContextManager[Progress]:
    """Tells nobody."""
    return nullcontext(quiet)


class Looks:
    """What is seen of a subject: each look is taken when it is first asked for, and kept."""

    def __init__(self, subject: Subject, tell: Tell = untold) -> None:
        self.subject, self.tell = subject, tell
        self.folder = subject.folder / "looks" / subject.key

    @cached_property
    def samples(self) -> Look:
        """Of n samples: features.K by each network, chance.LABEL of classes, their code and z, code_error where there is an
        encoder, and images as bytes of the first ones."""
        return self._taken("drawing samples", "samples", self.subject.n, self._draw)

    @cached_property
    def reconstructions(self) -> Look:
        """Of held-out images put through encoder and decoder: features.K, mse, ssim, distance; code, usage.SPACE; label.NAME;
        and as bytes images and originals of the first ones."""
        return self._taken("reconstructing", "reconstructions", self.subject.n_real, self._reconstruct)

    @cached_property
    def encoded(self) -> Look:
        """Of training images: their code, and label.NAME."""
        return self._taken("encoding", "encoded", self.subject.n_train, self._encode)

    @cached_property
    def real(self) -> list[Tensor]:
        """Features of held-out images by each network."""
        return [look["features"] for look in self.real_seen]

    @cached_property
    def real_seen(self) -> list[Look]:
        """What each network sees in held-out images: features, and chance.LABEL of classes, if it knows some."""
        return self._kept(self.subject.data.held, self.subject.n_real)

    @cached_property
    def known(self) -> list[Tensor]:
        """Features of training images by each network."""
        return [look["features"] for look in self._kept(self.subject.data.train, self.subject.n_train)]

    def _kept(self, source: Halved, n: int) -> list[Look]:
        found = []
        for network in self.subject.eyes.all:
            with self.tell(f"looking at {source.name}") as progress:
                found.append(kept_features(source, n, network, progress, self.subject.device))
        return found

    def _taken(self, what: str, name: str, n: int, look: Callable[[int, int], Look]) -> Look:
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

    def _seen(self, images: Tensor) -> Look:
        found = {}
        for i, network in enumerate(self.subject.eyes.all):
            found[f"features.{i}"] = network(images).float().cpu()
        classifier = self.subject.eyes.classifier
        if isinstance(classifier, Classifies):
            found |= {f"chance.{name}": p.float().cpu() for name, p in classifier.probabilities(images).items()}
        return found

    def _draw(self, start: int, count: int) -> Look:
        subject, parts = self.subject, []
        drawer = require(subject.model, Draws, "samples")
        device = subject.device
        random = Seeded(subject.seed, "samples", start, device=device)
        labels = self._classes(start, count)
        z = random.normal(count, *drawer.prior.shape) if isinstance(drawer, Maps) else None
        codes = drawer.map(z, labels) if isinstance(drawer, Maps) and z is not None else drawer.draw(count, random, labels)
        step = at_a_time(subject.model)
        for first in range(0, count, step):
            some = {name: code[first : first + step] for name, code in codes.items()}
            x = drawer.decode(some, random if isinstance(drawer, Noisy) else "fixed").float()
            part = self._seen(as_bytes_see(x)) | self._images("images", x, start + first)
            if isinstance(drawer, Encodes):
                part |= _missed(drawer.spaces, some, drawer.encode(x))
            parts.append(part)
        found = _joined(parts)
        found |= {} if z is None else {"z": z.flatten(1).cpu()}
        return found | _code(drawer.spaces, codes)

    def _classes(self, start: int, count: int) -> dict[str, Tensor] | None:
        """Of the classes that a model is told, as many of each as held-out images have."""
        wanted, held = self.subject.model.classes, self.subject.data.held
        there = {label.name: len(label.classes) for label in held.labels}
        if not wanted or any(there.get(name) != classes for name, classes in wanted.items()):
            return None
        labels = held.take(start, count).labels
        return {name: labels[name] for name in wanted}

    def _images(self, name: str, x: Tensor, at: int) -> Look:
        count = min(len(x), self._shown - at)
        return {name: as_bytes(x[:count])} if count > 0 else {}

    def _reconstruct(self, start: int, count: int) -> Look:
        subject = self.subject
        encoder = require(subject.model, Encodes, "reconstructions")
        device, parts = subject.device, []
        step = at_a_time(encoder)
        for first in range(start, start + count, step):
            batch = subject.data.held.take(first, min(step, start + count - first)).to(device)
            x = batch.signals
            codes = encoder.encode(x)
            again = encoder.decode(codes).float().clamp(-1, 1)
            shown = as_bytes_see(again)
            part = self._seen(shown) | {"mse": mse(again, x).cpu()} | _structure(again, x) | _usage(encoder.spaces, codes)
            part |= _code(encoder.spaces, codes) | {f"label.{name}": value.cpu() for name, value in batch.labels.items()}
            network = subject.eyes.distance
            if isinstance(network, Compares):
                part["distance"] = network.distance(shown, x).float().cpu()
            parts.append(part | self._images("images", again, first) | self._images("originals", x, first))
        return _joined(parts)

    def _encode(self, start: int, count: int) -> Look:
        encoder = require(self.subject.model, Encodes, "codes")
        device, parts = self.subject.device, []
        step = at_a_time(encoder)
        for first in range(start, start + count, step):
            batch = self.subject.data.train.take(first, min(step, start + count - first)).to(device)
            labels = {f"label.{name}": value.cpu() for name, value in batch.labels.items()}
            parts.append(_code(encoder.spaces, encoder.encode(batch.signals)) | labels)
        return _joined(parts)

    def keep(self, name: str, look: Look) -> None:
        """Keep what is to be shown."""
        write_tensors(self.folder / f"{name}.safetensors", look, {})

    def kept(self, name: str) -> Look:
        """What was kept to be shown; nothing, if there is nothing."""
        return _whole(self.folder / f"{name}.safetensors") or {}

    def sweep(self) -> None:
        """Remove what was kept of the same run as it was earlier."""
        for other in self.folder.parent.glob("*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)


def _whole(path: Path) -> Look | None:
    """What was kept in a file; None if it is not there, or damaged, so that it is to be found again."""
    try:
        return read_tensors(path)[0]
    except UserError:
        return None


def _joined(parts: list[Look]) -> Look:
    """Parts one after the other; of what only the first ones have, those."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: torch.cat([part[name] for part in parts if name in part]) for name in names}


def as_bytes(x: Tensor) -> Tensor:
    return (x.cpu() * 127.5 + 128).floor().clamp(0, 255).to(torch.uint8)


def _structure(again: Tensor, x: Tensor) -> Look:
    """ssim, and ms_ssim over as many scales as fit, if that is more than one."""
    found = {"ssim": ssim(again, x).cpu()} if min(x.shape[2:]) >= smallest_side(1) else {}
    scales = scales_of(min(x.shape[2:]))
    return found | ({"ms_ssim": ms_ssim(again, x, scales).cpu()} if scales > 1 else {})


def scales_of(side: int) -> int:
    """Over how many scales the structure of an image can be compared; at most five."""
    return sum(side >= smallest_side(scales) for scales in range(1, 6))


def vector_of(space: Space, code: Tensor) -> Tensor:
    """A real code [B, *shape] as vectors [B, D]; of layers that are all alike, one."""
    if space.layered and bool((code == code[:, :1]).all()):
        code = code[:, 0]
    return code.flatten(1).float().cpu()


def _code(spaces: tuple[Space, ...], codes: Codes) -> Look:
    """The first code that cannot be done without, if it is real and not too large."""
    space = next(space for space in spaces if not space.optional)
    if space.vocabulary is not None or math.prod(space.shape) > MOST_CODE:
        return {}
    return {"code": vector_of(space, codes[space.name])}


def _missed(spaces: tuple[Space, ...], wanted: Codes, found: Codes) -> Look:
    """code_error: |E(G(w)) - w| of each; or code_found: the share of its whole numbers that are found again."""
    needed = [space for space in spaces if not space.optional and space.name in wanted]
    if all(space.vocabulary is None for space in needed):
        pairs = [(vector_of(s, wanted[s.name]), vector_of(s, found[s.name])) for s in needed]
        return {"code_error": (torch.cat([a for a, _ in pairs], 1) - torch.cat([b for _, b in pairs], 1)).norm(dim=1)}
    same = [(found[s.name] == wanted[s.name]).flatten(1).float().cpu() for s in needed if s.vocabulary is not None]
    return {"code_found": torch.cat(same, 1).mean(1)}


def _usage(spaces: tuple[Space, ...], codes: Codes) -> Look:
    """How often each whole number of a space is used, [1, vocabulary]."""
    found = {}
    for space in spaces:
        if space.vocabulary is not None and not space.optional:
            counts = torch.bincount(codes[space.name].flatten().long().cpu(), minlength=space.vocabulary)
            found[f"usage.{space.name}"] = counts[None]
    return found


def kept_features(
    source: Halved, n: int, network: FeatureNetwork, progress: Progress = quiet, device: torch.device | str = "cpu"
) -> Look:
    """What a network sees in the first n images of a source, found once and kept in the user's cache: features, and
    chance.LABEL of classes, if it knows some."""
    name = hashlib.blake2b(f"{source.fingerprint} {network.fingerprint} {n}".encode(), digest_size=8).hexdigest()
    path = _cache() / f"{name}.safetensors"
    there = _whole(path)
    if there is not None:
        return there
    parts: list[Look] = []
    with torch.no_grad():
        for start in range(0, n, PART):
            x = source.take(start, min(PART, n - start)).signals.to(device)
            chances = network.probabilities(x) if isinstance(network, Classifies) else {}
            parts.append({"features": network(x).float().cpu(), **{f"chance.{k}": p.float().cpu() for k, p in chances.items()}})
            progress(min(start + PART, n), n)
    found = _joined(parts)
    write_tensors(path, found, {"network": network.name, "source": source.name})
    return found


def _cache() -> Path:
    return cache_folder() / "features" / "of-data"
