"""Simple classifiers on codes: how well these separate classes that the model was not trained with."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from anamorph.core.errors import UserError

__all__ = ["linear_svm_accuracy", "logistic_accuracy", "nearest_neighbour_accuracy", "neighbours_accuracy"]


def nearest_neighbour_accuracy(codes: Tensor, classes: Tensor, test_codes: Tensor, test_classes: Tensor) -> float:
    """Compute the share of test codes [M, D] whose nearest code [N, D] (Euclidean) is of their class."""
    _check(codes, classes, test_codes, test_classes)
    squared = codes.square().sum(1)
    right = 0
    for part, wanted in zip(test_codes.split(1024), test_classes.split(1024), strict=True):
        nearest = (squared - 2 * part @ codes.T).argmin(1)  # |part|^2 is the same for all
        right += int((classes[nearest] == wanted).sum())
    return right / len(test_codes)


def neighbours_accuracy(codes: Tensor, classes: Tensor, test_codes: Tensor, test_classes: Tensor, k: int = 5) -> float:
    """Compute the share of test codes [M, D] whose class is the one that most of their k nearest codes [N, D] (Euclidean)
    have, and of several such the first."""
    _check(codes, classes, test_codes, test_classes)
    if not 1 <= k <= len(codes):
        raise UserError(f"got k {k}, wanted 1 to {len(codes)}, the number of codes")
    squared, right = codes.square().sum(1), 0
    for part, wanted in zip(test_codes.split(1024), test_classes.split(1024), strict=True):
        nearest = (squared - 2 * part @ codes.T).topk(k, 1, largest=False).indices
        right += int((classes[nearest].mode(1).values == wanted).sum())
    return right / len(test_codes)


def logistic_accuracy(
    codes: Tensor, classes: Tensor, test_codes: Tensor, test_classes: Tensor, c: float = 1.0, iterations: int = 1000
) -> float:
    """Compute the accuracy on test codes of a logistic regression (scikit-learn's, L2 of strength 1 / c) trained on codes
    that are brought to mean 0 and deviation 1."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    _check(codes, classes, test_codes, test_classes)
    mean, deviation = codes.double().mean(0), codes.double().std(0)
    scale = torch.where(deviation > 0, deviation, 1.0)
    train, test = (((x.double() - mean) / scale).numpy() for x in (codes, test_codes))
    machine = LogisticRegression(C=c, max_iter=iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # more steps hardly move an accuracy
        machine.fit(train, classes.numpy())
    return float(machine.score(test, test_classes.numpy()))


def linear_svm_accuracy(
    codes: Tensor, classes: Tensor, test_codes: Tensor, test_classes: Tensor, c: float = 0.02, iterations: int = 5000
) -> float:
    """Compute the accuracy on test codes of a linear support-vector machine (scikit-learn's LinearSVC) trained on raw codes.

    c and iterations are those of the ALAE authors' MNIST evaluation.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    _check(codes, classes, test_codes, test_classes)
    machine = LinearSVC(C=c, max_iter=iterations, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the protocol stops it there
        machine.fit(codes.double().numpy(), classes.numpy())
    return float(machine.score(test_codes.double().numpy(), test_classes.numpy()))


def _check(codes: Tensor, classes: Tensor, test_codes: Tensor, test_classes: Tensor) -> None:
    if len(torch.unique(classes)) < 2:
        raise UserError("a probe needs examples of at least two classes")
    for name, tensor in (("codes", codes), ("test codes", test_codes)):
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"the {name} are not finite")
    if len(codes) != len(classes) or len(test_codes) != len(test_classes) or not len(test_codes):
        raise UserError(f"{len(codes)} and {len(test_codes)} codes, but {len(classes)} and {len(test_classes)} classes")
