"""Features of a source's images and of a model's samples, a batch at a time, each image looked at once by every network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, LatentModel, Samples, chunk_size, require
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random
from anamorph.core.signal import Image, Source
from anamorph.core.space import Codes
from anamorph.features.feature_set import FeatureSet
from anamorph.features.network import FeatureNetwork

__all__ = ["Decoded", "features_of", "features_of_source", "quantise_8bit", "reconstructed", "sampled", "source_batches"]

BATCH = 256


@dataclass(frozen=True)
class Decoded:
    """A batch of decoded images [B, C, H, W], the codes they were decoded from, and what was encoded, if anything was."""

    images: Tensor
    codes: Codes
    originals: Tensor | None = None


def quantise_8bit(x: Tensor) -> Tensor:
    """Images in [-1, 1] as a file of 8 bits would hold them: rounded half up to one of 256 values, and clamped."""
    return (x * 127.5 + 128).floor().clamp(0, 255) / 127.5 - 1


@torch.no_grad()
def sampled(
    model: LatentModel, n: int, random: Random, labels: Mapping[str, Tensor] | None = None, progress: Progress = no_progress
) -> Iterator[Decoded]:
    """n samples of a model, with fresh noise; each is decoded once, for all that is to be measured of it.

    labels: [n] each, for a model that is told them. Raises: UserError if the model does not draw.
    """
    drawer, at_once = require(model, Samples, "samples"), min(BATCH, chunk_size(model))
    for start in range(0, n, at_once):
        count = min(at_once, n - start)
        some = {name: value[start : start + count] for name, value in (labels or {}).items()}
        codes = drawer.sample_codes(count, random, some or None)
        yield Decoded(model.decode(codes, random), codes)
        progress(start + count, n)


@torch.no_grad()
def reconstructed(model: LatentModel, source: Source, n: int, progress: Progress = no_progress) -> Iterator[Decoded]:
    """n images of a source as a model gives them back, clamped, with the images; each is decoded once.

    Raises: UserError if the model does not encode, or the source has fewer images.
    """
    encoder, at_once = require(model, Encodes, "reconstructions"), min(BATCH, chunk_size(model))
    _check_size(source, n)
    for start in range(0, n, at_once):
        x = source.take(start, min(at_once, n - start)).signals
        codes = encoder.encode(x)
        yield Decoded(model.decode(codes).clamp(-1, 1), codes, x)
        progress(start + len(x), n)


def source_batches(source: Source, n: int, progress: Progress = no_progress) -> Iterator[Tensor]:
    """The first n images of a source, [B, C, H, W] at a time.

    Raises: UserError if it has fewer, since each would count more than once.
    """
    _check_size(source, n)
    for start in range(0, n, BATCH):
        yield source.take(start, min(BATCH, n - start)).signals
        progress(min(start + BATCH, n), n)


def _check_size(source: Source, n: int) -> None:
    if not isinstance(source.signal, Image):
        raise UserError("feature networks look at images, and this source has none")
    if not 1 <= n <= source.size:
        raise UserError(f"{n:,} images were asked for, and there are {source.size:,}: ask for as many at most")


@torch.no_grad()
def features_of(images: Iterator[Tensor], networks: Sequence[FeatureNetwork], what: str) -> list[FeatureSet]:
    """What each network sees in images that come in batches; `what` says which images they are."""
    parts: list[list[Tensor]] = [[] for _ in networks]
    for x in images:
        for network, found in zip(networks, parts, strict=True):
            found.append(network(x).float().cpu())
    if not parts or not parts[0]:
        raise UserError(f"there are no {what} to look at, or no feature network to look with")
    return [FeatureSet(torch.cat(found), n.name, n.resizer, what) for n, found in zip(networks, parts, strict=True)]


def features_of_source(
    source: Source, n: int, networks: Sequence[FeatureNetwork], what: str, progress: Progress = no_progress
) -> list[FeatureSet]:
    """What each network sees in the first n images of a source.

    Raises: UserError as `images_of`.
    """
    return features_of(source_batches(source, n, progress), networks, what)
