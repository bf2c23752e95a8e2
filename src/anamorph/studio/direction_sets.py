"""Directions in a model's latent space: computed when they are needed, read from the run's files, or made from two groups."""

from __future__ import annotations

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
from anamorph.studio.stores import DIGEST, Store
from anamorph.training.folder import RunFolder

__all__ = ["MOST_OWN_SETS", "DirectionSets"]

COUNT = 16
"""Directions of each computed set."""
SAMPLED = 4000
"""Sampled codes from which principal components and scales are computed; more for codes of many dimensions."""
MOST_OWN_SETS = 256
"""Sets made from two groups that are stored."""
ENCODED = 2000
"""Images from whose codes directions of labels are computed."""
MOST_CLASSES = 40
"""A label with more classes than this names individuals, and has no directions."""
LABELS = "labels:"
"""Prefix of the sets of labels."""


class DirectionSets:
    """Sets of directions by name.

    Names are `pca`; `sefa`; the stem of a file RUN/directions*.safetensors; `labels:NAME`, for directions towards the classes
    of a label of the run's training images; and the digest of a set that was made from two groups.

    Args:
        model: the run's model.
        run: folder of the run.
    """

    def __init__(self, model: LatentModel, run: Path) -> None:
        self.model, self.run = model, run
        self.space = code_space(model)
        self.own: Store[Directions] = Store(MOST_OWN_SETS)
        self._computed: dict[str, Directions] = {}
        self._codes: Tensor | None = None

    def names(self) -> list[str]:
        """Return the names of all sets but those made from two groups."""
        if self.space.num_codes is not None:
            return []
        computed = [
            *(["pca"] if isinstance(self.model, Samples) else []),
            *(["sefa"] if isinstance(self.model, HasStyles) else []),
        ]
        return computed + sorted(self._files()) + [LABELS + name for name in self._labels()]

    def of(self, name: str) -> Directions:
        """Return the directions of a set.

        Raises:
            UserError: for an unknown name, or a file that does not fit the model.
        """
        stored = self.own.get(name)
        if stored is not None:
            return stored
        if name not in self._computed:
            if name not in self.names():
                remedy = (
                    "it was made in another studio: make it again" if DIGEST.fullmatch(name) else nearest(name, self.names())
                )
                raise UserError(f"no directions {name!r}: {remedy}")
            self._computed[name] = self._make(name)
        return self._computed[name]

    def _labels(self) -> list[str]:
        """Return the labels that have directions: those of images that can be found, of a model that encodes."""
        if not isinstance(self.model, Encodes):
            return []
        try:
            return [label.name for label in self._images.labels if 2 <= len(label.classes) <= MOST_CLASSES]
        except (UserError, OSError):
            return []

    @cached_property
    def _images(self) -> Images:
        return images_of(open_data(settings_of(RunFolder(self.run)))).shuffled()

    def _files(self) -> Mapping[str, Path]:
        return {path.stem: path for path in self.run.glob("directions*.safetensors") if path.is_file()}

    def _make(self, name: str) -> Directions:
        if name in self._files():
            directions = Directions.read(self._files()[name])
            directions.check([self.space])
            return directions
        if name.startswith(LABELS):
            return self._towards_classes(name.removeprefix(LABELS))
        codes = self.samples()
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
    def _towards_classes(self, label: str) -> Directions:
        """Return the direction towards each class of a label, with its balanced accuracy on held-out codes."""
        model, codes, classes = require(self.model, Encodes, "directions from labels"), [], []
        for start in range(0, min(ENCODED, self._images.size), 128):
            batch = self._images.take(start, min(128, self._images.size - start), level_of(model, self._images.signal))
            codes.append(encode_in_chunks(model, batch.signals))
            classes.append(batch.labels[label])
        points = _vectors(codes, self.space).float()
        vectors, accuracies, kept = separating(points, torch.cat(classes), "logistic")
        class_names = next(other.classes for other in self._images.labels if other.name == label)
        names = tuple(f"{label} {class_names[c]}" for c in kept)
        measures = {"balanced accuracy": tuple(accuracies.tolist())}
        return Directions(self.space.name, names, vectors, deviations(points, vectors), None, measures, "logistic")

    @torch.no_grad()
    def between(self, name: str, towards: Sequence[Codes], away: Sequence[Codes]) -> Directions:
        """Return the direction from the mean of some codes to that of others.

        Its scale is one standard deviation of sampled codes; for a model that cannot sample, the distance of the two means.

        Args:
            name: name of the direction.
            towards: codes of the group that it goes to.
            away: codes of the group that it comes from.

        Raises:
            UserError: if the two means are the same.
        """
        difference = _vectors(towards, self.space).mean(0) - _vectors(away, self.space).mean(0)
        length = difference.norm()
        if not float(length) > 1e-6:
            raise UserError("both groups have the same mean, so no direction leads from one to the other: choose other points")
        vector = (difference / length)[None].float()
        scale = deviations(self.samples(), vector) if isinstance(self.model, Samples) else length[None].float()
        measures = {"distance": (float(length / scale[0]),)}
        return Directions(self.space.name, (name,), vector, scale, None, measures, "means")

    @torch.no_grad()
    def samples(self) -> Tensor:
        """Return sampled codes as vectors [N, D]."""
        if self._codes is None:
            model = require(self.model, Samples, "scaling directions")
            width = self.space.shape[-1] if self.space.layered else int(torch.tensor(self.space.shape).prod())
            n = max(SAMPLED, 2 * width)
            self._codes = flat(model.sample_codes(n, Seeded(0, "directions"))[self.space.name], self.space).float()
        return self._codes


def _vectors(codes: Sequence[Codes], space: Space) -> Tensor:
    """Return codes of a space as vectors [N, D]."""
    return flat(torch.cat([code[space.name] for code in codes]), space)
