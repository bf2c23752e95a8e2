"""The directions that a model's sliders go along: computed on demand, read from its run's files, or made from two groups."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from anamorph.core.errors import UserError, nearest
from anamorph.core.model import Encodes, HasStyles, LatentModel, Samples, code_space, encode_in_chunks, level_of, require
from anamorph.core.random import Seeded
from anamorph.core.space import Codes, Space
from anamorph.data.images import Images, images_of
from anamorph.edit.directions import Directions, deviations, flat, principal, separating, style_factors
from anamorph.run_data import open_data
from anamorph.runs import settings_of
from anamorph.studio.stores import Store
from anamorph.training.folder import RunFolder

__all__ = ["CODES", "COUNT", "OWN", "DirectionSets"]

COUNT = 16
"""Directions of each kind that are shown."""
CODES = 4000
"""Drawn codes from which principal components and scales are computed, if those have fewer numbers."""
OWN = 256
"""Directions made from groups that are kept."""
ENCODED = 2000
"""Images whose codes are told apart by their labels."""
CLASSES = 40
"""A label with more classes is an identity, and gets no directions."""
LABELS = "labels:"


class DirectionSets:
    """Sets of directions by name: pca, sefa, the stem of a file RUN/directions*.safetensors, labels:NAME for what tells
    the classes of a label apart in the run's training images, or the digest of one's own."""

    def __init__(self, model: LatentModel, run: Path) -> None:
        self.model, self.run = model, run
        self.space = code_space(model)
        self.own: Store[Directions] = Store(OWN)
        self._found: dict[str, Directions] = {}
        self._codes: Tensor | None = None

    def names(self) -> list[str]:
        """The sets that there are without asking anyone."""
        if self.space.num_codes is not None:
            return []
        computed = [
            *(["pca"] if isinstance(self.model, Samples) else []),
            *(["sefa"] if isinstance(self.model, HasStyles) else []),
        ]
        return computed + sorted(self._files()) + [LABELS + name for name in self._labels()]

    def of(self, name: str) -> Directions:
        """Raises: UserError for a name that is not known, or a file that does not fit the model."""
        own = self.own.get(name)
        if own is not None:
            return own
        if name not in self._found:
            if name not in self.names():
                gone = re.fullmatch(r"[0-9a-f]{32}", name)
                told = "it was made in another studio: make it again" if gone else nearest(name, self.names())
                raise UserError(f"no directions {name!r}: {told}")
            self._found[name] = self._make(name)
        return self._found[name]

    def _labels(self) -> list[str]:
        """The labels of the run's images, if it encodes them and they are at hand."""
        if not isinstance(self.model, Encodes):
            return []
        try:
            return [label.name for label in self._images.labels if 2 <= len(label.classes) <= CLASSES]
        except (UserError, OSError):
            return []

    @cached_property
    def _images(self) -> Images:
        return images_of(open_data(settings_of(RunFolder(self.run)))).shuffled()

    def _files(self) -> Mapping[str, Path]:
        return {path.stem: path for path in self.run.glob("directions*.safetensors") if path.is_file()}

    def _make(self, name: str) -> Directions:
        if name in self._files():
            found = Directions.read(self._files()[name])
            found.check([self.space])
            return found
        if name.startswith(LABELS):
            return self._between_classes(name.removeprefix(LABELS))
        codes = self.drawn()
        if name == "pca":
            vectors, scales, shares = principal(codes, min(COUNT, codes.shape[1]))
            measures = {"variance": tuple(shares.tolist())}
        else:
            weights = require(self.model, HasStyles, "factorising styles (sefa)").style_weights()
            vectors, gains = style_factors(weights, min(COUNT, codes.shape[1]))
            scales, measures = deviations(codes, vectors), {"gain": tuple(gains.tolist())}
        names = tuple(f"{name}{i}" for i in range(len(vectors)))
        return Directions(self.space.name, names, vectors.cpu(), scales.cpu(), None, measures, name)

    @torch.no_grad()
    def _between_classes(self, label: str) -> Directions:
        """What tells each class of a label from the others, with the balanced accuracy on codes that were held out."""
        model, parts, classes = require(self.model, Encodes, "directions from labels"), [], []
        for start in range(0, min(ENCODED, self._images.size), 128):
            batch = self._images.take(start, min(128, self._images.size - start), level_of(model, self._images.signal))
            parts.append(encode_in_chunks(model, batch.signals))
            classes.append(batch.labels[label])
        codes = _plain(parts, self.space).float()
        vectors, accuracies, found = separating(codes, torch.cat(classes), "logistic")
        names = next(known.classes for known in self._images.labels if known.name == label)
        measures = {"balanced accuracy": tuple(accuracies.tolist())}
        told, scales = tuple(f"{label} {names[c]}" for c in found), deviations(codes, vectors)
        return Directions(self.space.name, told, vectors, scales, None, measures, "logistic")

    @torch.no_grad()
    def between(self, name: str, towards: Sequence[Codes], away: Sequence[Codes]) -> Directions:
        """The way from the mean of some codes to that of others, counted in standard deviations of drawn codes; for a model
        that draws none, in the distance of the two means.

        Raises: UserError if the two means are the same.
        """
        way = _plain(towards, self.space).mean(0) - _plain(away, self.space).mean(0)
        length = way.norm()
        if not float(length) > 1e-6:
            raise UserError("both groups have the same mean: there is no way from one to the other")
        vector = (way / length)[None].float()
        scale = deviations(self.drawn(), vector) if isinstance(self.model, Samples) else length[None].float()
        measures = {"distance": (float(length / scale[0]),)}
        return Directions(self.space.name, (name,), vector, scale, None, measures, "means")

    @torch.no_grad()
    def drawn(self) -> Tensor:
        """Codes that the model draws, as vectors [N, D]."""
        if self._codes is None:
            model = require(self.model, Samples, "scaling directions")
            width = self.space.shape[-1] if self.space.layered else int(torch.tensor(self.space.shape).prod())
            n = max(CODES, 2 * width)
            self._codes = flat(model.sample_codes(n, Seeded(0, "directions"))[self.space.name], self.space).float()
        return self._codes


def _plain(codes: Sequence[Codes], space: Space) -> Tensor:
    return flat(torch.cat([code[space.name] for code in codes]), space)
