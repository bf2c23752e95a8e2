"""A classifier of known factors: which of them reconstructions preserve, and how samples are spread over them."""

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
        """Make factors of every label of a source that has classes."""
        return FactorClassifier(source.signal, {label.name: len(label.classes) for label in source.labels if label.classes})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.trunk(x)
        return {name: head(features) for name, head in self.heads.items()}

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return the class [B] of each factor, by name."""
        return {name: probabilities.argmax(1) for name, probabilities in self.probabilities(x).items()}

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the probabilities [B, classes] of the classes of each factor, by name."""
        parts = [self(part) for part in x.split(256)]
        return {name: torch.cat([part[name] for part in parts]).softmax(1) for name in self.heads}


@torch.enable_grad()
def train_factor_classifier(
    source: ImageSource, images: int, seed: int = 0, stop: Callable[[], bool] = lambda: False
) -> FactorClassifier | None:
    """Train a classifier of every label that has classes, by cross-entropy (AdamW, one-cycle learning rate).

    Returns None if it was stopped.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = FactorClassifier.of(source)
    optimizer = torch.optim.AdamW(classifier.parameters())
    steps = max(1, images // BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for step in range(steps):
        if stop():
            return None
        batch = source.take(step * BATCH, BATCH)
        loss = torch.stack([F.cross_entropy(z, batch.labels[name]) for name, z in classifier(batch.signals).items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cycle.step()
    return classifier.eval().requires_grad_(False)


def cached_factor_classifier(
    path: Path,
    identity: str,
    train: ImageSource,
    held_out: Source,
    images: int,
    n: int,
    note: Callable[[str], None],
    stop: Callable[[], bool] = lambda: False,
) -> tuple[FactorClassifier, dict[str, float]] | None:
    """Load or train a classifier of a source's labels; returns it with its accuracies on n held-out images.

    Args:
        path: the file, which is read if it has this identity, and else written.
        identity: names the training data and settings.
        train: images to learn from.
        held_out: images for the accuracies.
        images: how many images to train for.
        n: held-out images.
        note: is given messages for the user.
        stop: returns whether to stop; the result is then None.
    """
    if path.is_file() and read_metadata(path).get("trained") == identity:
        tensors, facts = read_tensors(path)
        classifier = FactorClassifier.of(train)
        classifier.load_state_dict(tensors)
        return classifier.eval().requires_grad_(False), json.loads(facts["accuracy"])
    note(f"training a classifier of {', '.join(label.name for label in train.labels)}")
    trained = train_factor_classifier(train, images, stop=stop)
    if trained is None:
        return None
    accuracies = accuracy(trained, held_out, n)
    write_tensors(path, trained.state_dict(), {"trained": identity, "accuracy": json.dumps(accuracies)})
    note("it is right on held-out images: " + ", ".join(f"{name} {share:.1%}" for name, share in accuracies.items()))
    return trained, accuracies


def accuracy(classifier: FactorClassifier, source: Source, n: int) -> dict[str, float]:
    """Compute the accuracy on n images, by factor."""
    batch = source.take(0, n)
    return agreement(classifier.predict(batch.signals), batch.labels)


def agreement(predicted: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> dict[str, float]:
    """Compute the share of images whose predicted class is the true one, by factor."""
    return {name: float((classes == true[name]).float().mean()) for name, classes in predicted.items()}


def effective_classes(predicted: Mapping[str, Tensor]) -> dict[str, float]:
    """Compute the effective number of classes by factor: exp of the entropy of their shares (1: all are alike)."""
    counts = {}
    for name, classes in predicted.items():
        share = classes.bincount().float() / len(classes)
        counts[name] = float(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))
    return counts
