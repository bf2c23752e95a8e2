"""Train a compact feature network on a source: on its labels or, without any, to distinguish its images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random, Seeded
from anamorph.core.signal import Batch, Image, Source
from anamorph.features.compact import CompactClassifier, CompactNetwork
from anamorph.features.network import resized
from anamorph.features.pixels import network_image

__all__ = ["accuracy", "contrast", "train_classifier", "train_contrastive", "views"]

SUPERVISED, CONTRASTIVE = 120_000, 80_000
"""Images seen: what one core does in about a minute at 28x28."""
BATCH, PAIRS = 128, 256
RATE, DECAY = 4e-3, 0.01
TEMPERATURE = 0.2


@torch.enable_grad()
def train_classifier(
    source: Source, name: str, images: int = SUPERVISED, seed: int = 0, progress: Progress = no_progress
) -> CompactClassifier:
    """Return a network that has learned every label of a source that has two classes or more, from so many images, by
    cross-entropy (AdamW, one cycle of its rate); the same for the same seed on the same kind of machine.

    Raises: UserError if the source has no such label, or no images.
    """
    classes = {label.name: len(label.classes) for label in source.labels if len(label.classes) > 1}
    if not classes:
        raise UserError("these images have no label of two classes or more: train a network without labels")
    image = _image(source)
    with _seeded(seed):
        network = CompactClassifier(image, name, classes)
    for batch, x in _descent(network, source, image, images, BATCH, progress):
        losses = [F.cross_entropy(logits, batch.labels[label].long()) for label, logits in network.logits(x).items()]
        torch.stack(losses).sum().backward()
    return network.eval().requires_grad_(False)


@torch.enable_grad()
def train_contrastive(
    source: Source, name: str, images: int = CONTRASTIVE, seed: int = 0, progress: Progress = no_progress
) -> CompactNetwork:
    """Return a network that has learned, without labels, to tell which two views are of one image (SimCLR).

    Chen et al. 2020, arXiv:2002.05709: equation 1, with a head of two layers on the features that is thrown away.
    Raises: UserError if the source has no images, or fewer than 8, which are too few to learn from.
    """
    image = _image(source)
    if source.size < 8:
        raise UserError(f"{source.size} images are too few to learn from, at least 8 are needed: use pixels as features")
    with _seeded(seed):
        network = CompactNetwork(image, name)
        head = nn.Sequential(nn.ReLU(), nn.Linear(network.width, network.width), nn.ReLU(), nn.Linear(network.width, 64))
    pairs = min(PAIRS, source.size)
    for step, (_, x) in enumerate(_descent(nn.ModuleList([network, head]), source, image, images, pairs, progress)):
        random = Seeded(seed, "views", step)
        both = torch.cat([views(x, random), views(x, random)])
        contrast(head(network(both)), TEMPERATURE).backward()
    return network.eval().requires_grad_(False)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Weights that are made here begin from this seed; other random numbers go on as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _image(source: Source) -> Image:
    if not isinstance(source.signal, Image) or not source.size:
        raise UserError("a feature network learns from images, and this source holds sounds")
    return network_image(source.signal)


def _descent(
    modules: nn.Module, source: Source, image: Image, images: int, batch: int, progress: Progress
) -> Iterator[tuple[Batch, Tensor]]:
    """Batches, and their images at the network's size; whoever takes one leaves the gradient of its loss behind."""
    steps = max(1, images // batch)
    optimizer = torch.optim.AdamW(modules.parameters(), weight_decay=DECAY)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
    for step in range(steps):
        taken = source.take(step * batch, batch)
        optimizer.zero_grad()
        yield taken, resized(taken.signals, image.height, image.width)
        optimizer.step()
        cycle.step()
        progress((step + 1) * batch, steps * batch)


def views(x: Tensor, random: Random) -> Tensor:
    """Another view of each image [B, C, H, W]: a part of it (60 to 100 % of its sides), turned by up to 10 degrees, brighter or
    darker, flatter or stronger, with a little noise. Never mirrored, which would make one of some letters and digits."""
    u = random.uniform(len(x), 6).to(x)
    scale, angle = 0.6 + 0.4 * u[:, 0], (u[:, 1] - 0.5) * 0.35
    across, down = (2 * u[:, 2] - 1) * (1 - scale), (2 * u[:, 3] - 1) * (1 - scale)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    turn = torch.stack([torch.stack([cos, -sin, across], 1), torch.stack([sin, cos, down], 1)], 1)
    grid = F.affine_grid(turn, list(x.shape), align_corners=False)
    seen = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    strength, light = 0.6 + 0.8 * u[:, 4], (u[:, 5] - 0.5) * 0.6
    return seen * strength.view(-1, 1, 1, 1) + light.view(-1, 1, 1, 1) + 0.05 * random.normal(*x.shape).to(x)


def contrast(codes: Tensor, temperature: float) -> Tensor:
    """Return the mean loss of finding each code's twin among all others; codes [2B, D], the second half twins of the first.

    Chen et al. 2020, equation 1 (NT-Xent).
    """
    codes = F.normalize(codes, dim=1)
    likeness = (codes @ codes.mT / temperature).fill_diagonal_(-torch.inf)
    twins = torch.arange(len(codes), device=codes.device).roll(len(codes) // 2)
    return F.cross_entropy(likeness, twins)


@torch.no_grad()
def accuracy(network: CompactClassifier, source: Source, n: int) -> dict[str, float]:
    """Return the share of n images of a source whose class is found, by label."""
    right = dict.fromkeys(network.classes, 0)
    for start in range(0, n, 1024):
        batch = source.take(start, min(1024, n - start))
        for label, p in network.probabilities(batch.signals).items():
            right[label] += int((p.argmax(1) == batch.labels[label]).sum())
    return {label: count / n for label, count in right.items()}
