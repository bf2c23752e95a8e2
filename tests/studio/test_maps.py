"""Layouts of the map: clusters of codes are clusters on the map."""

from __future__ import annotations

import sys

import pytest
import torch

from anamorph.core.errors import UserError
from anamorph.core.signal import Label
from anamorph.studio.maps import Layout, MapPart, draw_map

LABEL = Label("cluster", ("a", "b", "c", "d"))


def clusters(n: int = 96) -> MapPart:
    """Return four clusters, far apart in four of eight dimensions, so that no plane separates them all."""
    which = torch.arange(n) % 4
    codes = 20 * torch.eye(8)[which] + torch.randn(n, 8, generator=torch.Generator().manual_seed(0))
    return MapPart(codes, torch.zeros(n, 1, 4, 4), {"cluster": which.tolist()})


def apart(places: torch.Tensor, which: torch.Tensor) -> float:
    """Return the smallest distance of two clusters' centres, relative to the largest mean distance within a cluster."""
    centres = torch.stack([places[which == c].mean(0) for c in range(4)])
    spread = torch.stack([(places[which == c] - centres[c]).norm(dim=1).mean() for c in range(4)]).max()
    return float(torch.pdist(centres).min() / spread)


@pytest.mark.parametrize("layout", ["pca", "tsne", "umap"])
def test_clusters_lie_apart(layout: Layout) -> None:
    if layout == "umap":
        pytest.importorskip("umap", reason="pip install umap-learn to test UMAP")
    part = clusters()
    map_ = draw_map([part], (LABEL,), layout)
    assert map_.places.shape == (96, 2)
    assert float((map_.places.abs() <= 1.001).float().mean()) > 0.97
    assert (len(map_.shares) == 2) == (layout == "pca")
    assert apart(map_.places, torch.tensor(part.values["cluster"])) > (1 if layout == "pca" else 3)
    assert torch.equal(map_.places, draw_map([part], (LABEL,), layout).places)


@pytest.mark.parametrize("n", [3, 7])
def test_few_images_can_be_placed(n: int) -> None:
    assert draw_map([clusters(n)], (LABEL,), "tsne").places.isfinite().all()


def test_without_its_library_umap_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UserError, match=r"pip install anamorph\[umap\]"):
        draw_map([clusters()], (LABEL,), "umap")
