"""The features, codes, errors and images that measures are computed from. Each image is decoded once."""

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
from anamorph.core.model import (
    Encodes,
    HasMapping,
    HasNoise,
    LatentModel,
    Samples,
    chunk_size,
    code_space,
    code_spaces,
    require,
)
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
"""Given the name of a piece of work, returns a context manager that yields a function of (done, total)."""
CacheEntry = dict[str, Tensor]
"""Tensors by name, each with one row per image."""

PART = 500
"""Images per file: the most that an interruption loses."""
MAX_IMAGE_VALUES = 1 << 26
"""Pixel values saved for the report."""
MAX_CODE_SIZE = 8192
"""Codes of more values than this are not saved."""


def no_step_progress(task: str) -> AbstractContextManager[Progress]:
    """Report no progress."""
    return nullcontext(no_progress)


class FeatureCache:
    """What measures of a run are computed from. Each entry is computed on first access and saved in the run's folder."""

    def __init__(self, subject: EvaluatedRun, progress: StepProgress = no_step_progress) -> None:
        self.subject, self.progress = subject, progress
        self.folder = subject.folder / "looks" / subject.key

    @cached_property
    def samples(self) -> CacheEntry:
        """Entries of n samples: features.K per network, chance.LABEL (class probabilities), code, z, and the first images.

        With an encoder also code_error or code_found.
        """
        return self._computed("sampling", "samples", self.subject.n, self._sample)

    @cached_property
    def reconstructions(self) -> CacheEntry:
        """Entries of reconstructed held-out images: features.K, mse, ssim, distance, code, usage.SPACE, label.NAME.

        The first images and originals are kept as bytes.
        """
        return self._computed("reconstructing", "reconstructions", self.subject.n_real, self._reconstruct)

    @cached_property
    def encoded(self) -> CacheEntry:
        """Entries of training images: code and label.NAME."""
        return self._computed("encoding", "encoded", self.subject.n_train, self._encode)

    @cached_property
    def real_features(self) -> list[Tensor]:
        """Features of held-out images by each network."""
        return [entry["features"] for entry in self.real_outputs]

    @cached_property
    def real_outputs(self) -> list[CacheEntry]:
        """Outputs of each network for held-out images: features, and chance.LABEL if it is a classifier."""
        return self._outputs_for(self.subject.data.held_out, self.subject.n_real)

    @cached_property
    def train_features(self) -> list[Tensor]:
        """Features of training images by each network."""
        return [entry["features"] for entry in self._outputs_for(self.subject.data.train, self.subject.n_train)]

    def _outputs_for(self, source: DownsampledSource, n: int) -> list[CacheEntry]:
        outputs = []
        for network in self.subject.networks.all:
            with self.progress(f"features of {source.name}") as progress:
                outputs.append(cached_features(source, n, network, progress, self.subject.device))
        return outputs

    def _computed(self, task: str, name: str, n: int, compute: Callable[[int, int], CacheEntry]) -> CacheEntry:
        """Join an entry from its saved parts; missing parts are computed now, each a function of its position alone."""
        parts = []
        with self.progress(task) as progress, torch.no_grad():
            for start in range(0, n, PART):
                count = min(PART, n - start)
                path = self.folder / f"{name}-{start:07d}.safetensors"
                part = _read_entry(path)
                if part is None:
                    part = compute(start, count)
                    write_tensors(path, part, {})
                parts.append(part)
                progress(start + count, n)
        return _joined(parts)

    @property
    def _max_images(self) -> int:
        """How many images are saved for the report."""
        return max(64, MAX_IMAGE_VALUES // math.prod(self.subject.model.signal.shape))

    def _network_outputs(self, images: Tensor) -> CacheEntry:
        outputs = {}
        for i, network in enumerate(self.subject.networks.all):
            outputs[f"features.{i}"] = network(images).float().cpu()
        classifier = self.subject.networks.classifier
        if isinstance(classifier, ClassifierNetwork):
            outputs |= {f"chance.{name}": p.float().cpu() for name, p in classifier.probabilities(images).items()}
        return outputs

    def _sample(self, start: int, count: int) -> CacheEntry:
        subject, parts = self.subject, []
        sampler = require(subject.model, Samples, "samples")
        device = subject.device
        random = Seeded(subject.seed, "samples", start, device=device)
        labels = self._classes(start, count)
        z = random.normal(count, *sampler.z_space.shape) if isinstance(sampler, HasMapping) else None
        codes = (
            sampler.map(z, labels)
            if isinstance(sampler, HasMapping) and z is not None
            else sampler.sample_codes(count, random, labels)
        )
        step = chunk_size(subject.model)
        for first in range(0, count, step):
            some = {name: code[first : first + step] for name, code in codes.items()}
            x = sampler.decode(some, random if isinstance(sampler, HasNoise) else "fixed").float()
            part = self._network_outputs(quantise_8bit(x)) | self._images("images", x, start + first)
            if isinstance(sampler, Encodes):
                part |= _code_errors(sampler, some, sampler.encode(x))
            parts.append(part)
        found = _joined(parts)
        found |= {} if z is None else {"z": z.flatten(1).cpu()}
        return found | _code(sampler, codes)

    def _classes(self, start: int, count: int) -> dict[str, Tensor] | None:
        """Return the labels of held-out images as conditions; None if the model has none, or they are of other classes."""
        classes, held = self.subject.model.classes, self.subject.data.held_out
        known = {label.name: len(label.classes) for label in held.labels}
        if not classes or any(known.get(name) != count for name, count in classes.items()):
            return None
        labels = held.take(start, count).labels
        return {name: labels[name] for name in classes}

    def _images(self, name: str, x: Tensor, at: int) -> CacheEntry:
        count = min(len(x), self._max_images - at)
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
            reconstruction = encoder.decode(codes).float().clamp(-1, 1)
            rounded = quantise_8bit(reconstruction)
            part = (
                self._network_outputs(rounded)
                | {"mse": mse(reconstruction, x).cpu()}
                | _structural_similarity(reconstruction, x)
                | _usage(encoder, codes)
            )
            part |= _code(encoder, codes) | {f"label.{name}": value.cpu() for name, value in batch.labels.items()}
            network = subject.networks.distance
            if isinstance(network, DistanceNetwork):
                part["distance"] = network.distance(rounded, x).float().cpu()
            parts.append(part | self._images("images", reconstruction, first) | self._images("originals", x, first))
        return _joined(parts)

    def _encode(self, start: int, count: int) -> CacheEntry:
        encoder = require(self.subject.model, Encodes, "codes")
        device, parts = self.subject.device, []
        step = chunk_size(encoder)
        for first in range(start, start + count, step):
            batch = self.subject.data.train.take(first, min(step, start + count - first)).to(device)
            labels = {f"label.{name}": value.cpu() for name, value in batch.labels.items()}
            parts.append(_code(encoder, encoder.encode(batch.signals)) | labels)
        return _joined(parts)

    def save(self, name: str, entry: CacheEntry) -> None:
        """Save an entry for the report."""
        write_tensors(self.folder / f"{name}.safetensors", entry, {})

    def saved(self, name: str) -> CacheEntry:
        """Return an entry saved for the report; empty if there is none."""
        return _read_entry(self.folder / f"{name}.safetensors") or {}

    def remove_stale(self) -> None:
        """Remove the entries of earlier weights or settings of this run."""
        for other in self.folder.parent.glob("*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)


def _read_entry(path: Path) -> CacheEntry | None:
    """Return what was kept in a file; None if it is not there, or damaged, so that it is to be found reconstruction."""
    try:
        return read_tensors(path)[0]
    except UserError:
        return None


def _joined(parts: list[CacheEntry]) -> CacheEntry:
    """Concatenate parts; a tensor that only the first parts have is kept from those."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: torch.cat([part[name] for part in parts if name in part]) for name in names}


def as_bytes(x: Tensor) -> Tensor:
    """Round images in [-1, 1] to bytes."""
    return (x.cpu() * 127.5 + 128).floor().clamp(0, 255).to(torch.uint8)


def _structural_similarity(reconstruction: Tensor, x: Tensor) -> CacheEntry:
    """Compute ssim, and ms_ssim over as many scales as fit, if that is more than one."""
    found = {"ssim": ssim(reconstruction, x).cpu()} if min(x.shape[2:]) >= smallest_side(1) else {}
    scales = scales_of(min(x.shape[2:]))
    return found | ({"ms_ssim": ms_ssim(reconstruction, x, scales).cpu()} if scales > 1 else {})


def scales_of(side: int) -> int:
    """Return over how many scales, at most five, MS-SSIM of images with this shorter side is defined."""
    return sum(side >= smallest_side(scales) for scales in range(1, 6))


def code_vectors(space: Space, code: Tensor) -> Tensor:
    """Flatten a real code [B, *shape] to vectors [B, D]; of layers that are all equal, only one is kept."""
    if space.layered and bool((code == code[:, :1]).all()):
        code = code[:, 0]
    return code.flatten(1).float().cpu()


def _code(model: LatentModel, codes: Codes) -> CacheEntry:
    """Return the code of the space that tools edit, if it is real and not too large."""
    space = code_space(model)
    if not space.is_real or space.name not in codes or math.prod(space.shape) > MAX_CODE_SIZE:
        return {}
    return {"code": code_vectors(space, codes[space.name])}


def _code_errors(model: LatentModel, sampled: Codes, encoded: Codes) -> CacheEntry:
    """Compare sampled codes with those encoded from their images, over the latent spaces that both have.

    code_error: |E(G(w)) - w| of each, over real spaces; code_found: the share of equal codes, over discrete ones.
    """
    spaces = [space for space in code_spaces(model) if space.name in sampled and space.name in encoded]
    real = [space for space in spaces if space.is_real]
    discrete = [space for space in spaces if not space.is_real]
    errors: CacheEntry = {}
    if real:
        a, b = (torch.cat([code_vectors(s, codes[s.name]) for s in real], 1) for codes in (sampled, encoded))
        errors["code_error"] = (a - b).norm(dim=1)
    if discrete:
        equal = [(encoded[s.name] == sampled[s.name]).flatten(1).float().cpu() for s in discrete]
        errors["code_found"] = torch.cat(equal, 1).mean(1)
    return errors


def _usage(model: LatentModel, codes: Codes) -> CacheEntry:
    """Count the use of each code of a discrete latent space, [1, num_codes] per space."""
    spaces = [space for space in code_spaces(model) if space.num_codes is not None and space.name in codes]
    counts = {s.name: torch.bincount(codes[s.name].flatten().long().cpu(), minlength=s.num_codes or 0) for s in spaces}
    return {f"usage.{name}": value[None] for name, value in counts.items()}


def cached_features(
    source: DownsampledSource,
    n: int,
    network: FeatureNetwork,
    progress: Progress = no_progress,
    device: torch.device | str = "cpu",
) -> CacheEntry:
    """Return the outputs of a network for the first n images of a source, saved in the user's cache.

    These are features, and chance.LABEL (class probabilities) if it is a classifier.
    """
    name = hashlib.blake2b(f"{source.fingerprint} {network.fingerprint} {n}".encode(), digest_size=8).hexdigest()
    path = _cache() / f"{name}.safetensors"
    saved = _read_entry(path)
    if saved is not None:
        return saved
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
