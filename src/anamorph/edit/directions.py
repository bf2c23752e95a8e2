"""Directions in latent spaces: found without labels or with them, kept in files, and gone along.

Without labels: principal components (Harkonen et al. 2020, GANSpace, arXiv:2004.02546), and the closed form that factorises
the layers that turn codes into styles (Shen and Zhou 2020, SeFa, arXiv:2007.06600). With labels: the normals of planes that
separate a class from the others (Shen et al. 2019, InterFaceGAN, arXiv:1907.10786; Pidhorskyi et al. 2020, section 6.2).
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
    "conditioned",
    "deviations",
    "flat",
    "move",
    "principal",
    "separating",
    "style_factors",
]

FEWEST = 10
"""Codes that a class needs to get a direction."""
Classifier = Literal["svm", "logistic", "linear", "means"]
"""Linear support-vector machine, logistic regression, least squares, or the way from the mean of the others to that of a class:
the plane halfway tells them apart less well, but the way stays where codes are."""


@dataclass(frozen=True)
class Directions:
    """Ways to go from a code of one space.

    vectors: unit vectors [K, D]. scales: the standard deviation of codes along each [K], in which steps are counted. names:
    one each. layers: those that they act on, in a layered space; None: all. measures: numbers about each, such as its
    accuracy on held-out codes. method: how they were found. model: the fingerprint of the model that they belong to.
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
        """The place of a name. Raises: UserError naming those that there are."""
        if name not in self.names:
            raise UserError(f"no direction {name!r}: {nearest(name, self.names)}")
        return self.names.index(name)

    def only(self, names: Sequence[str]) -> Self:
        """Some of them, in this order."""
        places = [self.at(name) for name in names]
        return replace(
            self,
            names=tuple(names),
            vectors=self.vectors[places],
            scales=self.scales[places],
            measures={name: tuple(values[i] for i in places) for name, values in self.measures.items()},
        )

    def check(self, spaces: Sequence[Space]) -> Space:
        """The space that they belong to. Raises: UserError if it is not among these, or has another width."""
        for space in spaces:
            if space.name == self.space:
                width = _width(space)
                if self.vectors.shape[1] != width:
                    raise UserError(f"these directions have {self.vectors.shape[1]} numbers, codes of {space} have {width}")
                if self.layers is not None and not (space.layered and all(0 <= i < space.shape[0] for i in self.layers)):
                    raise UserError(f"these directions act on the layers {self.layers}, and codes of {space} lack some")
                return space
        raise UserError(f"these directions are of the space {self.space!r}, the model has {', '.join(map(str, spaces))}")

    def write(self, path: Path) -> None:
        """As safetensors, with all but the numbers as JSON in its metadata."""
        facts = {name: getattr(self, name) for name in ("space", "names", "layers", "measures", "method", "model")}
        write_tensors(path, {"vectors": self.vectors, "scales": self.scales}, {"directions": json.dumps(facts)})

    @staticmethod
    def read(path: Path) -> Directions:
        """Raises: UserError if the file holds no directions."""
        tensors, facts = read_tensors(path)
        try:
            said: dict[str, Any] = json.loads(facts["directions"])
            layers = said.pop("layers")
            return Directions(
                vectors=tensors["vectors"].float(),
                scales=tensors["scales"].float(),
                layers=None if layers is None else tuple(map(int, layers)),
                names=tuple(map(str, said.pop("names"))),
                measures={name: tuple(map(float, values)) for name, values in said.pop("measures").items()},
                **said,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path} holds no directions: write it with `anamorph directions`") from error


def _width(space: Space) -> int:
    """Numbers in a direction: of one layer, or of the whole code."""
    width = 1
    for side in space.shape[1:] if space.layered else space.shape:
        width *= side
    return width


def flat(codes: Tensor, space: Space) -> Tensor:
    """Codes [N, *shape] as vectors [N, D]: of a layered space, the mean over its layers.

    Raises: UserError for codes that are whole numbers.
    """
    if not codes.is_floating_point():
        raise UserError(f"codes of {space} are whole numbers: there are no directions among them")
    return codes.mean(1) if space.layered else codes.flatten(1)


def move(
    codes: Codes, directions: Directions, which: int, steps: float | Tensor, space: Space, layers: Layers | None = None
) -> Codes:
    """Codes moved along one direction by so many standard deviations: a number, or one for each code [B].

    layers: in a layered space, those that are moved, instead of those that the direction says.
    """
    directions.check([space])
    value = codes[space.name]
    way = (directions.vectors[which] * directions.scales[which]).to(value)
    step = torch.as_tensor(steps, dtype=value.dtype, device=value.device)
    if not bool(torch.isfinite(step).all()):
        raise UserError(f"steps are finite numbers, got {steps}")
    step = step.view(-1, *[1] * (value.dim() - 1))
    if not space.layered:
        return {**codes, space.name: value + step * way.view(space.shape)}
    layers = layers if layers is not None else directions.layers
    moved = torch.ones(space.shape[0], 1, dtype=value.dtype, device=value.device)
    if layers is not None:
        moved.zero_()[check_layers(layers, space.shape[0])] = 1
    return {**codes, space.name: value + step * moved * way}


def deviations(codes: Tensor, vectors: Tensor) -> Tensor:
    """The standard deviation [K] of codes [N, D] along each of some vectors [K, D]."""
    return ((codes - codes.mean(0)).double() @ vectors.T.to(codes).double()).std(0).float()


def principal(codes: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The first k principal components of codes [N, D]: unit vectors [k, D], the standard deviation along each [k], and the
    share of the variance that each has [k]. Each points to where its largest number is positive.

    Raises: UserError if there are fewer codes than numbers in each, or fewer of those than k.
    """
    n, d = codes.shape
    if n <= d:
        raise UserError(f"principal components of codes of {d} numbers need more than {d} codes, got {n}")
    centred = (codes - codes.mean(0)).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred / (n - 1))
    values = values.clamp_min(0)
    return _first(vectors, k), values.flip(0)[:k].sqrt().float(), (values.flip(0)[:k] / values.sum()).float()


def style_factors(weights: Sequence[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """The k directions [k, D] that change styles most, A n for a step n of length one, given the matrices A of some layers,
    each [styles, D]; and by how much they change them [k]. The eigenvectors of A^T A (SeFa, equation 6).

    Raises: UserError if no layer is given, or k is more than D.
    """
    if not weights:
        raise UserError("no layer turns codes into styles: choose others")
    a = torch.cat([weight.double() for weight in weights])
    values, vectors = torch.linalg.eigh(a.T @ a)
    return _first(vectors, k), values.flip(0)[:k].clamp_min(0).sqrt().float()


def _first(vectors: Tensor, k: int) -> Tensor:
    """The last k columns, as rows, the last first; signs made unique."""
    if not 1 <= k <= vectors.shape[1]:
        raise UserError(f"there are 1 to {vectors.shape[1]} directions, got {k}")
    rows = vectors.T.flip(0)[:k]
    return (rows * rows.gather(1, rows.abs().argmax(1, keepdim=True)).sign()).float()


def separating(codes: Tensor, classes: Tensor, method: Classifier = "svm", seed: int = 0) -> tuple[Tensor, Tensor, list[int]]:
    """For each class that codes [N, D] have, the unit normal [K, D] of the plane that tells it from the others; with the
    balanced accuracy [K] on a fifth of each class's codes, which are held out; and the classes.

    A class with fewer than ten codes gets no normal, and its codes are left out. Of two classes, only the second has one: that
    of the first is its opposite.
    Raises: UserError if there are not two classes left.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import balanced_accuracy_score

    found, counts = torch.unique(classes, return_counts=True)
    if len(found) < 2:
        raise UserError("all of these images are of one class: a direction needs some of another")
    found = found[counts >= FEWEST]
    if len(found) < 2:
        raise UserError(f"a direction needs two classes with at least {FEWEST} images each: take more images")
    enough = torch.isin(classes, found)
    codes, classes = codes[enough], classes[enough]
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
    held = torch.cat([order[classes[order] == value][::5] for value in found])
    rest = order[~torch.isin(order, held)]
    x, y = codes.double().numpy(), classes.numpy()
    names = found.tolist() if len(found) > 2 else found[1:].tolist()
    normals, accuracies = [], []
    for value in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a plane that could still turn a little
            plane = _plane(method, seed % 2**32).fit(x[rest], 2.0 * (y[rest] == value) - 1)
        said = plane.predict(x[held]) > 0
        accuracies.append(balanced_accuracy_score(y[held] == value, said))
        normal = torch.from_numpy(plane.coef_).flatten()
        normals.append((normal / normal.norm()).float())
    return torch.stack(normals), torch.tensor(accuracies), names


def _plane(method: Classifier, seed: int) -> Any:
    """An estimator of +-1 with a linear boundary; rare classes weigh as much as the others."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.svm import LinearSVC

    if method == "svm":
        return LinearSVC(class_weight="balanced", dual=False, random_state=seed)
    if method == "logistic":
        return LogisticRegression(class_weight="balanced", max_iter=1000)
    if method == "linear":
        return _Weighted(Ridge(alpha=1e-3))
    if method == "means":
        return _Means()
    raise UserError(f"a plane is found by {', '.join(get_args(Classifier))}; got {method!r}")


class _Means:
    """The plane halfway between two means."""

    def fit(self, x: Any, y: Any) -> Any:
        ours, others = x[y > 0].mean(0), x[y < 0].mean(0)
        self.coef_, self.middle = ours - others, (ours + others) / 2
        return self

    def predict(self, x: Any) -> Any:
        return (x - self.middle) @ self.coef_


class _Weighted:
    """Least squares in which both sides weigh the same."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def fit(self, x: Any, y: Any) -> Any:
        share = (y > 0).mean()
        return self.model.fit(x, y, sample_weight=(y > 0) / share + (y < 0) / (1 - share))


def conditioned(directions: Directions, on: Sequence[str], codes: Tensor) -> Directions:
    """The others, without what they have in common with some: moved along them, a linear score of those stays.

    InterFaceGAN, section 2.3: n - (n . m) m; with several m, what lies in their span is left out. codes [N, D]: to scale the
    new directions by. What was measured along the old ones is dropped.
    Raises: UserError if nothing is left.
    """
    names = [name for name in directions.names if name not in on]
    _, strength, basis = torch.linalg.svd(directions.only(on).vectors.double(), full_matrices=False)
    basis = basis[strength > 1e-6]
    if not names:
        raise UserError(f"without {', '.join(on)} there is no direction left")
    others = directions.only(names)
    left = others.vectors.double() - others.vectors.double() @ basis.T @ basis
    length = left.norm(dim=1)
    for name, value in zip(names, length, strict=True):
        if float(value) < 1e-4:
            raise UserError(f"nothing is left of {name!r} without {', '.join(on)}")
    vectors = (left / length[:, None]).float()
    method = f"{others.method}, without {', '.join(on)}"
    return replace(others, vectors=vectors, scales=deviations(codes, vectors).cpu(), measures={}, method=method)
