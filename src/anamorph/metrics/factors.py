"""Known factors, read off images by a classifier: what a reconstruction keeps of its original, and how samples are spread."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.files import read_metadata, read_tensors, write_tensors
from anamorph.core.signal import Image, Source

__all__ = [
    "FactorClassifier",
    "accuracy",
    "agreement",
    "cached_factor_classifier",
    "effective_classes",
    "train_factor_classifier",
]

BATCH = 64


class ImageSource(Source, Protocol):
    """A source of images."""

    @property
    def signal(self) -> Image: ...


class FactorClassifier(nn.Module):
    """Logits [B, classes] of each factor, by name, of images [B, C, H, W] in [-1, 1]: one head per factor on shared layers.

    Raises: UserError if there is no factor to read.
    """

    def __init__(self, image: Image, factors: Mapping[str, int], width: int = 32) -> None:
        super().__init__()
        if not factors:
            raise UserError("these images have no labels that a classifier could learn to read")
        layers: list[nn.Module] = [nn.Conv2d(image.channels, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU()]
        side = (image.height, image.width)
        while max(side) > 4:
            layers += [nn.Conv2d(width, wider := min(2 * width, 128), 3, 2, 1), nn.BatchNorm2d(wider), nn.ReLU()]
            width, side = wider, (-(-side[0] // 2), -(-side[1] // 2))
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side[0] * side[1], 256), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(256, classes) for name, classes in factors.items()})

    @staticmethod
    def of(source: ImageSource) -> FactorClassifier:
        """For every label of a source that has classes."""
        return FactorClassifier(source.signal, {label.name: len(label.classes) for label in source.labels if label.classes})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.trunk(x)
        return {name: head(features) for name, head in self.heads.items()}

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """The class [B] of each factor, by name."""
        return {name: chances.argmax(1) for name, chances in self.probabilities(x).items()}

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> dict[str, Tensor]:
        """Of every class [B, classes] of each factor, by name."""
        parts = [self(part) for part in x.split(256)]
        return {name: torch.cat([part[name] for part in parts]).softmax(1) for name in self.heads}


@torch.enable_grad()
def train_factor_classifier(
    source: ImageSource, images: int, seed: int = 0, stop: Callable[[], bool] = lambda: False
) -> FactorClassifier | None:
    """A reader of every label that has classes, trained on so many images by cross-entropy (AdamW, one cycle of its rate);
    None if it was stopped."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = FactorClassifier.of(source)
    optimizer = torch.optim.AdamW(reader.parameters())
    steps = max(1, images // BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for step in range(steps):
        if stop():
            return None
        batch = source.take(step * BATCH, BATCH)
        loss = torch.stack([F.cross_entropy(z, batch.labels[name]) for name, z in reader(batch.signals).items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
    return reader.eval().requires_grad_(False)


def cached_factor_classifier(
    path: Path,
    wanted: str,
    train: ImageSource,
    held: Source,
    images: int,
    n: int,
    say: Callable[[str], None],
    stop: Callable[[], bool] = lambda: False,
) -> tuple[FactorClassifier, dict[str, float]] | None:
    """A reader of a source's labels, and how often it is right on n held-out images: as kept in a file, if it is the one
    that is wanted, or else trained on so many images and written there; None if that was stopped."""
    if path.is_file() and read_metadata(path).get("trained") == wanted:
        tensors, facts = read_tensors(path)
        reader = FactorClassifier.of(train)
        reader.load_state_dict(tensors)
        return reader.eval().requires_grad_(False), json.loads(facts["accuracy"])
    say(f"training a classifier of {', '.join(label.name for label in train.labels)}")
    trained = train_factor_classifier(train, images, stop=stop)
    if trained is None:
        return None
    read = accuracy(trained, held, n)
    write_tensors(path, trained.state_dict(), {"trained": wanted, "accuracy": json.dumps(read)})
    say("it is right on held-out images: " + ", ".join(f"{name} {share:.1%}" for name, share in read.items()))
    return trained, read


def accuracy(reader: FactorClassifier, source: Source, n: int) -> dict[str, float]:
    """The share of n images whose factor is read rightly, by factor."""
    batch = source.take(0, n)
    return agreement(reader.predict(batch.signals), batch.labels)


def agreement(read: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, float]:
    """The share of images of which the class is as wanted, by factor."""
    return {name: float((found == wanted[name]).float().mean()) for name, found in read.items()}


def effective_classes(read: Mapping[str, Tensor]) -> dict[str, float]:
    """Over how many classes images are spread, by factor: exp of the entropy of the classes' shares (1: all are alike)."""
    found = {}
    for name, classes in read.items():
        share = classes.bincount().float() / len(classes)
        found[name] = float(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))
    return found
