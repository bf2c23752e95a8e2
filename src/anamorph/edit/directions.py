"""Directions in latent spaces: finding them without and with labels, storing them, and moving codes along them.

Without labels: principal components (Harkonen et al. 2020, GANSpace, arXiv:2004.02546), and closed-form factorisation of the
layers from codes to styles (Shen and Zhou 2020, SeFa, arXiv:2007.06600). With labels: normals of hyperplanes that separate a
class from the others (Shen et al. 2019, InterFaceGAN, arXiv:1907.10786; Pidhorskyi et al. 2020, section 6.2).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from anamorph.core.errors import UserError, nearest
from anamorph.core.files import read_tensors, write_tensors
from anamorph.core.space import Codes, Space
from anamorph.edit.layers import Layers, check_layers

__all__ = [
    "FEWEST",
    "Classifier",
    "Directions",
    "deviations",
    "flat",
    "move",
    "orthogonalize",
    "principal",
    "separating",
    "style_factors",
]

FEWEST = 10
"""The fewest codes of a class for which a direction is found."""
Classifier = Literal["svm", "logistic", "linear", "means"]
"""Linear support-vector machine, logistic regression, least squares, or the difference between the mean of a class and that of
the others (means). The latter separates less well, but moves codes to where other codes are."""


@dataclass(frozen=True)
class Directions:
    """Directions in one latent space.

    Args:
        space: its name.
        names: one for each of K directions, all different.
        vectors: unit vectors [K, D].
        scales: standard deviation of codes along each vector [K], the unit of steps.
        layers: those that the directions move, in a layered space; None: all.
        measures: numbers about each direction, such as its accuracy on held-out codes.
        method: how they were found.
        model: fingerprint of the model that they belong to.

    Raises: UserError if the numbers of names, vectors, scales and measures differ, or numbers are not finite.
    """

    space: str
    names: tuple[str, ...]
    vectors: Tensor
    scales: Tensor
    layers: Layers | None = None
    measures: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    method: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        k = len(self.names)
        if self.vectors.dim() != 2 or len(self.vectors) != k or tuple(self.scales.shape) != (k,) or not k:
            raise UserError(
                f"{k} names, vectors {list(self.vectors.shape)} and scales {list(self.scales.shape)} do not make directions"
            )
        if not bool(torch.isfinite(self.vectors).all() and torch.isfinite(self.scales).all()):
            raise UserError("directions must be finite numbers")
        if any(len(values) != k for values in self.measures.values()) or len(set(self.names)) != k:
            raise UserError("directions need one name each, all different, and one of each measure")

    def __len__(self) -> int:
        return len(self.names)

    def at(self, name: str) -> int:
        """Return the index of a direction.

        Raises: UserError if there is none of that name.
        """
        if name not in self.names:
            raise UserError(f"no direction {name!r}: {nearest(name, self.names)}")
        return self.names.index(name)

    def only(self, names: Sequence[str]) -> Self:
        """Return the directions of these names, in this order.

        Raises: UserError as `at`.
        """
        indices = [self.at(name) for name in names]
        return replace(
            self,
            names=tuple(names),
            vectors=self.vectors[indices],
            scales=self.scales[indices],
            measures={name: tuple(values[i] for i in indices) for name, values in self.measures.items()},
        )

    def check(self, spaces: Sequence[Space]) -> Space:
        """Return the space that the directions belong to.

        Raises: UserError if it is not among these spaces, or its codes have another size or other layers.
        """
        for space in spaces:
            if space.name == self.space:
                width = _width(space)
                if self.vectors.shape[1] != width:
                    raise UserError(f"these directions have {self.vectors.shape[1]} numbers, and codes of {space} have {width}")
                if self.layers is not None and not (space.layered and all(0 <= i < space.shape[0] for i in self.layers)):
                    raise UserError(f"these directions act on the layers {self.layers}, and codes of {space} lack some")
                return space
        raise UserError(f"these directions are of the space {self.space!r}, the model has {', '.join(map(str, spaces))}")

    def write(self, path: Path) -> None:
        """Write the directions as safetensors, with names and settings as JSON in its metadata."""
        metadata = {name: getattr(self, name) for name in ("space", "names", "layers", "measures", "method", "model")}
        write_tensors(path, {"vectors": self.vectors, "scales": self.scales}, {"directions": json.dumps(metadata)})

    @staticmethod
    def read(path: Path) -> Directions:
        """Read directions from a file that `write` has written.

        Raises: UserError if the file holds no directions.
        """
        tensors, metadata = read_tensors(path)
        try:
            fields: dict[str, Any] = json.loads(metadata["directions"])
            layers = fields.pop("layers")
            return Directions(
                vectors=tensors["vectors"].float(),
                scales=tensors["scales"].float(),
                layers=None if layers is None else tuple(map(int, layers)),
                names=tuple(map(str, fields.pop("names"))),
                measures={name: tuple(map(float, values)) for name, values in fields.pop("measures").items()},
                **fields,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{path} holds no directions: write them with `Directions.write`, or `anamorph directions` on the command line"
            ) from error


def _width(space: Space) -> int:
    """Return the length of a direction: that of one layer's code, or of the whole code."""
    width = 1
    for side in space.shape[1:] if space.layered else space.shape:
        width *= side
    return width


def flat(codes: Tensor, space: Space) -> Tensor:
    """Flatten codes [N, *shape] to vectors [N, D]; of a layered space, take the mean over layers.

    Raises: UserError for codes that are whole numbers.
    """
    if not codes.is_floating_point():
        raise UserError(f"codes of {space} are whole numbers: directions are for real codes")
    return codes.mean(1) if space.layered else codes.flatten(1)


def move(
    codes: Codes, directions: Directions, index: int, steps: float | Tensor, space: Space, layers: Layers | None = None
) -> Codes:
    """Move codes along one direction.

    Args:
        codes: by space [B, ...].
        directions: in one of these spaces.
        index: of the direction.
        steps: standard deviations, one number or one for each code [B].
        space: the space of the directions.
        layers: those that are moved, instead of the directions' own, in a layered space.

    Raises: UserError if the directions do not fit the space, steps are not finite, or there are no such layers.
    """
    directions.check([space])
    value = codes[space.name]
    unit = (directions.vectors[index] * directions.scales[index]).to(value)
    step = torch.as_tensor(steps, dtype=value.dtype, device=value.device)
    if not bool(torch.isfinite(step).all()):
        raise UserError(f"steps must be finite, got {steps}")
    step = step.view(-1, *[1] * (value.dim() - 1))
    if not space.layered:
        return {**codes, space.name: value + step * unit.view(space.shape)}
    layers = layers if layers is not None else directions.layers
    moved = torch.ones(space.shape[0], 1, dtype=value.dtype, device=value.device)
    if layers is not None:
        moved.zero_()[check_layers(layers, space.shape[0])] = 1
    return {**codes, space.name: value + step * moved * unit}


def deviations(codes: Tensor, vectors: Tensor) -> Tensor:
    """Return the standard deviation [K] of codes [N, D] along each of some vectors [K, D]."""
    return ((codes - codes.mean(0)).double() @ vectors.T.to(codes).double()).std(0).float()


def principal(codes: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first k principal components of codes [N, D].

    Returns: unit vectors [k, D], standard deviation along each [k], share of the variance of each [k]. The largest number of
        each vector is positive.

    Raises: UserError unless 1 <= k <= D < N.
    """
    n, d = codes.shape
    if n <= d:
        raise UserError(f"principal components of codes of {d} numbers need more than {d} codes, got {n}")
    centred = (codes - codes.mean(0)).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred / (n - 1))
    values = values.clamp_min(0)
    return _first(vectors, k), values.flip(0)[:k].sqrt().float(), (values.flip(0)[:k] / values.sum()).float()


def style_factors(weights: Sequence[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """Return the k unit vectors n that maximise |A n|, where A are the style matrices of some layers (SeFa, equation 6).

    Args:
        weights: matrices [styles, D], one per layer.
        k: number of directions.

    Returns: the first eigenvectors of A^T A [k, D], and |A n| of each [k].

    Raises: UserError if no matrix is given, or unless 1 <= k <= D.
    """
    if not weights:
        raise UserError("none of these layers has a style matrix: choose other layers")
    a = torch.cat([weight.double() for weight in weights])
    values, vectors = torch.linalg.eigh(a.T @ a)
    return _first(vectors, k), values.flip(0)[:k].clamp_min(0).sqrt().float()


def _first(vectors: Tensor, k: int) -> Tensor:
    """Return the last k columns as rows, the last first, with a positive largest number."""
    if not 1 <= k <= vectors.shape[1]:
        raise UserError(f"there are 1 to {vectors.shape[1]} directions, got {k}")
    rows = vectors.T.flip(0)[:k]
    return (rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()).float()


def separating(codes: Tensor, classes: Tensor, method: Classifier = "svm", seed: int = 0) -> tuple[Tensor, Tensor, list[int]]:
    """Fit a hyperplane that separates each class of codes from the others.

    Classes with fewer than ten codes are left out. Of two classes, only the second gets a hyperplane.

    Args:
        codes: [N, D].
        classes: of each code [N].
        method: how hyperplanes are fitted.
        seed: of the held-out codes, a fifth of each class.

    Returns: unit normals [K, D], balanced accuracies on held-out codes [K], and the classes.

    Raises: UserError if there are not two classes left.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import balanced_accuracy_score

    present, counts = torch.unique(classes, return_counts=True)
    if len(present) < 2:
        raise UserError("all of these images are of one class: a direction needs some of another")
    present = present[counts >= FEWEST]
    if len(present) < 2:
        raise UserError(f"a direction needs two classes with at least {FEWEST} images each: take more images")
    enough = torch.isin(classes, present)
    codes, classes = codes[enough], classes[enough]
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
    held = torch.cat([order[classes[order] == value][::5] for value in present])
    rest = order[~torch.isin(order, held)]
    x, y = codes.double().numpy(), classes.numpy()
    names = present.tolist() if len(present) > 2 else present[1:].tolist()
    normals, accuracies = [], []
    for value in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the hyperplane could still turn a little
            classifier = _linear_classifier(method, seed % 2**32).fit(x[rest], 2.0 * (y[rest] == value) - 1)
        predicted = classifier.predict(x[held]) > 0
        accuracies.append(balanced_accuracy_score(y[held] == value, predicted))
        normal = torch.from_numpy(classifier.coef_).flatten()
        normals.append((normal / normal.norm()).float())
    return torch.stack(normals), torch.tensor(accuracies), names


def _linear_classifier(method: Classifier, seed: int) -> Any:
    """Return an estimator of +-1 with a linear boundary, in which both classes have the same weight."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.svm import LinearSVC

    if method == "svm":
        return LinearSVC(class_weight="balanced", dual=False, random_state=seed)
    if method == "logistic":
        return LogisticRegression(class_weight="balanced", max_iter=1000)
    if method == "linear":
        return _BalancedRegression(Ridge(alpha=1e-3))
    if method == "means":
        return _MeanDifference()
    raise UserError(f"a separating hyperplane is fitted by {', '.join(get_args(Classifier))}; got {method!r}")


class _MeanDifference:
    """The hyperplane halfway between the means of two classes."""

    def fit(self, x: Any, y: Any) -> Any:
        positive, negative = x[y > 0].mean(0), x[y < 0].mean(0)
        self.coef_, self.midpoint = positive - negative, (positive + negative) / 2
        return self

    def predict(self, x: Any) -> Any:
        return (x - self.midpoint) @ self.coef_


class _BalancedRegression:
    """Least squares in which both classes have the same weight."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(self, x: Any, y: Any) -> Any:
        share = (y > 0).mean()
        return self.model.fit(x, y, sample_weight=(y > 0) / share + (y < 0) / (1 - share))


def orthogonalize(directions: Directions, against: Sequence[str], codes: Tensor) -> Directions:
    """Project directions to the orthogonal complement of others, so that moving along them does not move along those.

    Conditional manipulation, InterFaceGAN, section 2.3: n - (n . m) m, or the projection off the span of several m.

    Args:
        directions: all of them.
        against: names of those that the others are made orthogonal to; these are left out of the result.
        codes: [N, D], from which the scales of the new directions are computed.

    Returns: the other directions, without the measures of the old ones.

    Raises: UserError if no direction remains, or one lies in the span of the others.
    """
    names = [name for name in directions.names if name not in against]
    _, strength, basis = torch.linalg.svd(directions.only(against).vectors.double(), full_matrices=False)
    basis = basis[strength > 1e-6]
    if not names:
        raise UserError(f"without {', '.join(against)} there is no direction left")
    others = directions.only(names)
    projected = others.vectors.double() - others.vectors.double() @ basis.T @ basis
    length = projected.norm(dim=1)
    for name, value in zip(names, length, strict=True):
        if float(value) < 1e-4:
            raise UserError(f"nothing is left of {name!r} without {', '.join(against)}")
    vectors = (projected / length[:, None]).float()
    method = f"{others.method}, without {', '.join(against)}"
    return replace(others, vectors=vectors, scales=deviations(codes, vectors).cpu(), measures={}, method=method)
