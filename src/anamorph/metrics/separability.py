"""Linear separability: how much of an image's attributes a plane in the latent space leaves open.

Karras et al. 2018, arXiv:1812.04948, section 4.2, as in their code.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.progress import Progress, no_progress

__all__ = ["KEPT", "SAMPLES", "Separability", "conditional_entropy_bits", "of_two", "separability"]

SAMPLES, KEPT = 200_000, 100_000
"""Of the published numbers."""


@dataclass(frozen=True)
class Separability:
    """score: 2 to the sum of the bits; 1 if planes tell all. bits: what is left open of each attribute. single: how many
    attributes had one class among the images kept, which count as predicted, and contribute nothing."""

    score: float
    bits: tuple[float, ...]
    single: int


def of_two(logits: Tensor) -> Tensor:
    """Probabilities [N, 2] of a two-class attribute from the single logit [N] of a published classifier."""
    return torch.stack([logits, -logits], 1).double().softmax(1)


def separability(
    codes: Tensor, attributes: Sequence[Tensor], keep: int | None = None, progress: Progress = no_progress
) -> Separability:
    """Compute the separability of codes [N, D] by attributes that a classifier has read off their images: of each,
    probabilities [N, classes].

    Of each attribute, the half (keep) of the images that the classifier is surest of are kept, and a linear support-vector
    machine learns its class from their codes; H(class | the machine's answer) is left open.
    Raises: UserError if there are too few images, the numbers are not finite, or no attribute has two classes.
    """
    n, keep = len(codes), keep or len(codes) // 2
    if not 10 <= keep <= n:
        raise UserError(
            f"expected at least 10 images of {n:,} kept, got {keep:,}: of few, a plane tells any classes apart, and the "
            f"score is too low; the published ones keep {KEPT:,} of {SAMPLES:,}"
        )
    if not attributes:
        raise UserError("there are no attributes: take a feature network that was trained on labels")
    if not bool(torch.isfinite(codes).all()) or any(not bool(torch.isfinite(p).all()) for p in attributes):
        raise UserError("some codes or probabilities are not finite")
    flat, bits, single = codes.flatten(1), [], 0
    for i, probabilities in enumerate(attributes):
        if probabilities.dim() != 2 or len(probabilities) != n:
            raise UserError(f"attribute {i} has probabilities {list(probabilities.shape)}, expected [{n}, classes]")
        surest = probabilities.max(1).values.sort(descending=True, stable=True).indices[:keep]
        true = probabilities[surest].argmax(1)
        alone = len(true.unique()) < 2
        single += alone
        predicted = true if alone else _predicted(flat[surest], true)
        bits.append(conditional_entropy_bits(_table(predicted, true, probabilities.shape[1])))
        progress(i + 1, len(attributes))
    if single == len(attributes):
        raise UserError(
            f"in all {single} attributes the classifier sees a single class in the images kept: there is nothing to tell apart"
        )
    return Separability(float(2 ** sum(bits)), tuple(bits), single)


def _predicted(codes: Tensor, true: Tensor) -> Tensor:
    """Return the class [N] of each of codes [N, D], by the machine that learned them: scikit-learn's LinearSVC, seeded."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    x = codes.double().cpu().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the protocol stops it after 1,000 sweeps
        found = LinearSVC(random_state=0).fit(x, true.cpu().numpy()).predict(x)
    return torch.from_numpy(found).to(true)


def _table(predicted: Tensor, true: Tensor, classes: int) -> Tensor:
    """Compute the share [predicted, true] of every pair of classes."""
    return torch.bincount(predicted * classes + true, minlength=classes**2).view(classes, classes).double() / len(predicted)


def conditional_entropy_bits(table: Tensor) -> float:
    """H(column | row) of a table of probabilities or counts; never below zero."""
    p = table.double() / table.double().sum()
    rows = p.sum(1, keepdim=True)
    found = torch.xlogy(p, rows).sum() - torch.xlogy(p, p).sum()
    return max(0.0, float(found) / float(torch.log(torch.tensor(2.0, dtype=torch.float64))))
