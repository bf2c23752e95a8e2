"""Maps of the data: held-out images placed in two dimensions by their codes, by PCA, t-SNE or UMAP."""

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
"""Pixels of a side of a thumbnail."""
COLUMNS = 64
"""Thumbnails in a row of the atlas."""


@dataclass(frozen=True)
class Map:
    """A map of the first N held-out images.

    Args:
        codes: their codes [N, D].
        places: their places [N, 2], scaled so that nearly all lie in [-1, 1].
        shares: the explained share of the variance of both axes; empty, unless these are principal components.
        labels: by label, the class names and the class of each image.
        atlas: their thumbnails as one WebP.
    """

    codes: Tensor
    places: Tensor
    shares: tuple[float, ...]
    labels: dict[str, tuple[tuple[str, ...], list[int]]]
    atlas: bytes

    def to_json(self) -> dict[str, Any]:
        """Return the map without its atlas, as JSON values."""
        return {
            "places": [[round(x, 4), round(y, 4)] for x, y in self.places.tolist()],
            "shares": list(self.shares),
            "labels": {name: {"classes": list(classes), "of": values} for name, (classes, values) in self.labels.items()},
            "side": SIDE,
            "columns": COLUMNS,
        }

    def neighbours(self, index: int, count: int) -> list[int]:
        """Return the images whose codes are nearest to those of one image, without itself.

        Raises:
            UserError: if the image is not on the map.
        """
        if not 0 <= index < len(self.codes):
            raise UserError(f"the map shows {len(self.codes)} images, numbered from 0; got image {index}")
        distances = (self.codes - self.codes[index]).norm(dim=1)
        distances[index] = torch.inf
        return distances.argsort()[:count].tolist()


@dataclass(frozen=True)
class MapPart:
    """A part of a map's images.

    Args:
        codes: their codes [N, D].
        thumbnails: the images [N, C, H, W].
        values: by label, the class of each image.
    """

    codes: Tensor
    thumbnails: Tensor
    values: dict[str, list[int]]


@torch.no_grad()
def encode_part(bench: Bench, start: int, count: int) -> MapPart:
    """Encode held-out images.

    Args:
        bench: evaluates them.
        start: number of the first image.
        count: number of images; fewer, if there are not so many.

    Raises:
        UserError: for a model without an encoder, or of discrete codes.
    """
    model = require(bench.model, Encodes, "placing images by their codes")
    space = code_space(model)
    batch = bench.held_out(start, count)
    codes = flat(encode_in_chunks(model, batch.signals)[space.name], space).float()
    return MapPart(codes, batch.signals, {name: values.tolist() for name, values in batch.labels.items()})


def draw_map(parts: Sequence[MapPart], labels: Sequence[Label], layout: Layout = "pca") -> Map:
    """Make a map.

    Args:
        parts: its images.
        labels: their labels.
        layout: method by which they are placed.

    Raises:
        UserError: for fewer than three images, or a layout whose library is not installed.
    """
    codes = torch.cat([part.codes for part in parts])
    if len(codes) < 3:
        raise UserError(
            f"a map needs at least 3 images, and the run has {len(codes)} held-out images: choose a run of more data"
        )
    places, shares = _principal_components(codes) if layout == "pca" else (_neighbour_embedding(codes, layout), ())
    places = places / places.abs().quantile(0.99).clamp_min(1e-12)
    values = {label.name: [value for part in parts for value in part.values[label.name]] for label in labels}
    classes = {label.name: (label.classes, values[label.name]) for label in labels if label.classes}
    thumbnails = atlas([image for part in parts for image in part.thumbnails], SIDE, COLUMNS)
    return Map(codes, places.float(), shares, classes, thumbnails)


def _principal_components(codes: Tensor) -> tuple[Tensor, tuple[float, ...]]:
    """Return places [N, 2] along the first two principal components, and the share of the variance of each."""
    centred = (codes - codes.mean(0)).double()
    _, singular_values, axes = torch.linalg.svd(centred, full_matrices=False)
    shares = singular_values[:2].square() / singular_values.square().sum().clamp_min(1e-30)
    return centred @ axes[:2].T, tuple(shares.tolist())


def _neighbour_embedding(codes: Tensor, layout: Layout) -> Tensor:
    """Return places [N, 2] by t-SNE (van der Maaten and Hinton 2008) or UMAP (McInnes et al. 2018, arXiv:1802.03426).

    Both have their library's default settings, a fixed seed, and fewer neighbours for few images.
    """
    n = len(codes)
    if layout == "tsne":
        from sklearn.manifold import TSNE

        embedding = TSNE(perplexity=min(30.0, (n - 1) / 3), init="pca", random_state=0).fit_transform(codes.numpy())
    else:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ImportWarning)  # about TensorFlow, which it can do without
                from umap import UMAP
        except ImportError as error:
            raise UserError(
                "UMAP needs a package that is not installed: pip install anamorph[umap], or choose t-SNE"
            ) from error
        embedding = UMAP(
            n_neighbors=min(15, n - 1), init="random" if n < 16 else "spectral", random_state=0, n_jobs=1
        ).fit_transform(codes.numpy())
    places = torch.from_numpy(np.asarray(embedding)).double()
    return places - places.mean(0)
