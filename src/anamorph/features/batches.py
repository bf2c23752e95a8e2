"""Features of a source's images and of a model's samples, computed batch by batch."""

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
    """A batch of decoded images [B, C, H, W], their codes, and the originals of reconstructions."""

    images: Tensor
    codes: Codes
    originals: Tensor | None = None


def quantise_8bit(x: Tensor) -> Tensor:
    """Round images in [-1, 1] to the 256 values of an 8-bit file, half up, and clamp them."""
    return (x * 127.5 + 128).floor().clamp(0, 255) / 127.5 - 1


@torch.no_grad()
def sampled(
    model: LatentModel, n: int, random: Random, labels: Mapping[str, Tensor] | None = None, progress: Progress = no_progress
) -> Iterator[Decoded]:
    """Yield n samples of a model, with fresh noise, in batches.

    Args:
        model: a model that samples.
        n: number of samples.
        random: source of all random numbers.
        labels: classes [n] by label, for a conditional model.
        progress: called with how many of how many samples are done.

    Raises:
        UserError: if the model does not sample.
    """
    sampler, at_once = require(model, Samples, "samples"), min(BATCH, chunk_size(model))
    for start in range(0, n, at_once):
        count = min(at_once, n - start)
        some = {name: value[start : start + count] for name, value in (labels or {}).items()}
        codes = sampler.sample_codes(count, random, some or None)
        yield Decoded(model.decode(codes, random), codes)
        progress(start + count, n)


@torch.no_grad()
def reconstructed(model: LatentModel, source: Source, n: int, progress: Progress = no_progress) -> Iterator[Decoded]:
    """Yield reconstructions of n images of a source, clamped, with the originals.

    Raises:
        UserError: if the model does not encode, or the source has fewer images.
    """
    encoder, at_once = require(model, Encodes, "reconstructions"), min(BATCH, chunk_size(model))
    _check_size(source, n)
    for start in range(0, n, at_once):
        x = source.take(start, min(at_once, n - start)).signals
        codes = encoder.encode(x)
        yield Decoded(model.decode(codes).clamp(-1, 1), codes, x)
        progress(start + len(x), n)


def source_batches(source: Source, n: int, progress: Progress = no_progress) -> Iterator[Tensor]:
    """Yield the first n images of a source in batches [B, C, H, W].

    Raises:
        UserError: if it has fewer, since images would be counted more than once.
    """
    _check_size(source, n)
    for start in range(0, n, BATCH):
        yield source.take(start, min(BATCH, n - start)).signals
        progress(min(start + BATCH, n), n)


def _check_size(source: Source, n: int) -> None:
    if not isinstance(source.signal, Image):
        raise UserError("feature networks need images, and this source holds sounds")
    if not 1 <= n <= source.size:
        raise UserError(f"{n:,} images were asked for, and there are {source.size:,}: ask for as many at most")


@torch.no_grad()
def features_of(images: Iterator[Tensor], networks: Sequence[FeatureNetwork], description: str) -> list[FeatureSet]:
    """Compute the features of batches of images with each network; `description` says which images they are."""
    parts: list[list[Tensor]] = [[] for _ in networks]
    for x in images:
        for network, features in zip(networks, parts, strict=True):
            features.append(network(x).float().cpu())
    if not parts or not parts[0]:
        raise UserError(f"there are no {description}, or no feature network to measure them with: give at least one of each")
    return [
        FeatureSet(torch.cat(features), n.name, n.resizer, description) for n, features in zip(networks, parts, strict=True)
    ]


def features_of_source(
    source: Source, n: int, networks: Sequence[FeatureNetwork], description: str, progress: Progress = no_progress
) -> list[FeatureSet]:
    """Compute the features of the first n images of a source with each network.

    Raises:
        UserError: if the source holds no images, or fewer than n.
    """
    return features_of(source_batches(source, n, progress), networks, description)
