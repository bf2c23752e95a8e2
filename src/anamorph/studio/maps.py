"""Images of the data placed by their codes: in the plane where these differ most, or so that neighbours stay neighbours."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, code_space, encode_in_chunks, require
from anamorph.core.signal import Label
from anamorph.edit.directions import flat
from anamorph.studio.bench import Bench
from anamorph.studio.image_media import atlas

__all__ = ["COLUMNS", "SIDE", "Layout", "Map", "MapPart", "draw_map", "encode_part"]

Layout = Literal["pca", "tsne", "umap"]

SIDE = 32
"""Pixels of a thumbnail."""
COLUMNS = 64
"""Thumbnails in a row of the atlas."""


@dataclass(frozen=True)
class Map:
    """Codes [N, D] of the first N held-out images, their places [N, 2], scaled so that nearly all lie in [-1, 1], the shares of
    the variance along both axes (empty, unless these are principal components), their labels, and their thumbnails as one
    picture."""

    codes: Tensor
    places: Tensor
    shares: tuple[float, ...]
    labels: dict[str, tuple[tuple[str, ...], list[int]]]
    atlas: bytes

    def facts(self) -> dict[str, Any]:
        """As the page reads it."""
        return {
            "places": [[round(x, 4), round(y, 4)] for x, y in self.places.tolist()],
            "shares": list(self.shares),
            "labels": {name: {"classes": list(classes), "of": of} for name, (classes, of) in self.labels.items()},
            "side": SIDE,
            "columns": COLUMNS,
        }

    def neighbours(self, index: int, count: int) -> list[int]:
        """The images whose codes are nearest to that of one, without itself.

        Raises: UserError if it is not on the map.
        """
        if not 0 <= index < len(self.codes):
            raise UserError(f"the map shows {len(self.codes)} images, numbered from 0; got {index}")
        distances = (self.codes - self.codes[index]).norm(dim=1)
        distances[index] = torch.inf
        return distances.argsort()[:count].tolist()


@dataclass(frozen=True)
class MapPart:
    """Some images of a map: their codes [N, D], what they look like, and the class of each label."""

    codes: Tensor
    thumbnails: Tensor
    values: dict[str, list[int]]


@torch.no_grad()
def encode_part(bench: Bench, start: int, count: int) -> MapPart:
    """Held-out images from one on, as many of them as there are.

    Raises: UserError for codes that are whole numbers.
    """
    model = require(bench.model, Encodes, "placing images by their codes")
    space = code_space(model)
    batch = bench.held_out(start, count)
    codes = flat(encode_in_chunks(model, batch.signals)[space.name], space).float()
    return MapPart(codes, batch.signals, {name: of.tolist() for name, of in batch.labels.items()})


def draw_map(parts: Sequence[MapPart], labels: Sequence[Label], layout: Layout = "pca") -> Map:
    """The map of the images of some parts.

    Raises: UserError for fewer than three images, or a layout whose library is not installed.
    """
    codes = torch.cat([part.codes for part in parts])
    if len(codes) < 3:
        raise UserError(f"a map needs at least 3 images, and the run holds out {len(codes)}")
    places, shares = _principal(codes) if layout == "pca" else (_neighbourly(codes, layout), ())
    places = places / places.abs().quantile(0.99).clamp_min(1e-12)
    values = {label.name: [value for part in parts for value in part.values[label.name]] for label in labels}
    named = {label.name: (label.classes, values[label.name]) for label in labels if label.classes}
    thumbnails = atlas([image for part in parts for image in part.thumbnails], SIDE, COLUMNS)
    return Map(codes, places.float(), shares, named, thumbnails)


def _principal(codes: Tensor) -> tuple[Tensor, tuple[float, ...]]:
    """Places [N, 2] along the first two principal components, and the shares of the variance there."""
    centred = (codes - codes.mean(0)).double()
    _, stretch, axes = torch.linalg.svd(centred, full_matrices=False)
    shares = stretch[:2].square() / stretch.square().sum().clamp_min(1e-30)
    return centred @ axes[:2].T, tuple(shares.tolist())


def _neighbourly(codes: Tensor, layout: Layout) -> Tensor:
    """Places [N, 2] by t-SNE (van der Maaten and Hinton 2008) or UMAP (McInnes et al. 2018, arXiv:1802.03426), both with their
    libraries' settings, a fixed seed, and fewer neighbours where there are few images."""
    n = len(codes)
    if layout == "tsne":
        from sklearn.manifold import TSNE

        found = TSNE(perplexity=min(30.0, (n - 1) / 3), init="pca", random_state=0).fit_transform(codes.numpy())
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ImportWarning)  # of what it can do with TensorFlow
                from umap import UMAP
        except ImportError as error:
            raise UserError("UMAP is an extra: pip install anamorph[umap], or choose t-SNE") from error
        found = UMAP(
            n_neighbors=min(15, n - 1), init="random" if n < 16 else "spectral", random_state=0, n_jobs=1
        ).fit_transform(codes.numpy())
    places = torch.from_numpy(np.asarray(found)).double()
    return places - places.mean(0)
