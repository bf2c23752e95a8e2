"""`anamorph directions RUN [SOURCE --label NAME] --method pca|sefa|svm|logistic|linear|means`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from anamorph.cli.options import Common, RunArgument, emit, note, parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.core.model import LatentModel
    from anamorph.core.space import Space
    from anamorph.data.dataset import Dataset
    from anamorph.edit.directions import Directions
    from anamorph.edit.layers import Layers

__all__ = ["main"]


@dataclass(frozen=True)
class Find(Common):
    """Find directions in the latent space and write them to a file, for `anamorph traverse`.

    pca: principal components of drawn codes (or of those of a SOURCE). sefa: what changes a style-based model's styles most.
    svm, logistic, linear, means: what tells a class of a label from the others, in the codes of a SOURCE that has labels.
    """

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")] = ""
    """Images to encode: a name, a folder, a file; its training images, or write :test or :all behind it."""
    method: Literal["pca", "sefa", "svm", "logistic", "linear", "means"] = "pca"
    """How they are found."""
    k: int = 10
    """How many, for pca and sefa."""
    n: int = 10_000
    """Codes to find them from."""
    label: str | None = None
    """The label whose classes are told apart; all labels by default."""
    layers: str = "all"
    """The layers that they act on (and, for sefa, are found from): coarse, middle, fine, all, 0-3 or 0-1,6."""
    without: tuple[str, ...] = ()
    """Directions, by their names, that the others are to leave alone: what they share with these is left out."""


def main(words: Sequence[str]) -> int:
    options = parse(Find, "directions", words)
    if options.n < 2:
        raise UserError(f"--n must be at least 2, got {options.n}")

    from anamorph.edit.directions import orthogonalize

    model = options.load(options.run)
    with options.computing():
        find = _free if options.method in ("pca", "sefa") else _supervised
        found, codes = find(model, options)
    if options.without:
        found = orthogonalize(found, options.without, codes)
    path = options.out or options.run / f"directions-{options.method}.safetensors"
    found.write(path)
    emit(options.json, f"{path}: {len(found)} directions in {found.space}\n{_describe(found)}", path=path, **_facts(found))
    return 0


def _facts(found: Directions) -> dict[str, Any]:
    return {"names": found.names, "measures": found.measures, "space": found.space, "layers": found.layers}


def _describe(found: Directions) -> str:
    lines = []
    for i, name in enumerate(found.names):
        told = ", ".join(f"{what} {values[i]:.3g}" for what, values in found.measures.items())
        lines.append(f"  {name:<24} {told}")
    return "\n".join(lines)


def _layers(space: Space, text: str) -> Layers | None:
    from anamorph.edit.layers import layers_among

    return None if text == "all" else layers_among(text, [space])


def _free(model: LatentModel, options: Find) -> tuple[Directions, Tensor]:
    """Without labels; and the codes that they are scaled by."""
    from anamorph.core.fingerprint import fingerprint_of
    from anamorph.core.model import HasStyles, code_space, require
    from anamorph.edit.directions import Directions, deviations, principal, style_factors

    space = code_space(model)
    layers, codes = _layers(space, options.layers), _codes(model, space, options)
    if options.method == "pca":
        vectors, scales, shares = principal(codes, options.k)
        measures = {"variance": tuple(shares.tolist())}
    else:
        weights = require(model, HasStyles, "factorising styles (sefa)").style_weights()
        vectors, gains = style_factors([w for i, w in enumerate(weights) if layers is None or i in layers], options.k)
        scales, measures = deviations(codes, vectors), {"gain": tuple(gains.tolist())}
    names = tuple(f"{options.method}{i}" for i in range(options.k))
    model_id = fingerprint_of(model)
    return Directions(space.name, names, vectors.cpu(), scales.cpu(), layers, measures, options.method, model_id), codes


def _codes(model: LatentModel, space: Space, options: Find) -> Tensor:
    """Drawn codes, or those of a source, as vectors [N, D]."""
    from anamorph.core.model import Samples, require
    from anamorph.core.random import Seeded
    from anamorph.edit.directions import flat

    if options.source:
        return _encoded(model, space, _opened(model, options), options)[0]
    drawer = require(model, Samples, "finding directions without a SOURCE of images")
    return flat(drawer.sample_codes(options.n, Seeded(options.seed, "directions", device=options.device))[space.name], space)


def _opened(model: LatentModel, options: Find) -> Dataset:
    from anamorph.cli.image_arguments import open_like

    return open_like(model, options.run, options.source or "", "train").shuffled()


def _encoded(model: LatentModel, space: Space, source: Dataset, options: Find) -> tuple[Tensor, dict[str, Tensor]]:
    """Codes of images as vectors [N, D], and their labels [N]."""
    from anamorph.cli.image_arguments import encode_source
    from anamorph.core.model import Encodes, require
    from anamorph.edit.directions import flat

    encoder = require(model, Encodes, "finding directions from images")
    codes, labels = encode_source(encoder, source, min(options.n, source.size))
    return flat(codes[space.name], space).float(), labels


def _supervised(model: LatentModel, options: Find) -> tuple[Directions, Tensor]:
    """With labels; and the codes that they are scaled by."""
    import torch

    from anamorph.core.fingerprint import fingerprint_of
    from anamorph.core.model import code_space
    from anamorph.edit.directions import FEWEST, Directions, deviations, separating

    if not options.source:
        raise UserError("name a SOURCE whose labels tell what to look for, as in `anamorph directions RUN avatars-cats`")
    assert options.method != "pca"
    assert options.method != "sefa"
    space, source = code_space(model), _opened(model, options)
    labels = [label for label in source.labels if label.classes]
    if options.label is not None:
        labels = list(source.with_labels([options.label]).labels)
    if not labels:
        raise UserError(f"{options.source} has no labels: --method pca and sefa need none")
    codes, values = _encoded(model, space, source, options)
    codes = codes.cpu()
    if len(codes) <= codes.shape[1]:
        note(f"{len(codes)} codes of {codes.shape[1]} numbers each: a plane separates these by luck; trust only the accuracies")
    names: list[str] = []
    normals, accuracies = [], []
    for label in labels:
        found, right, classes = separating(codes, values[label.name], options.method, options.seed)
        names += [f"{label.name}={label.classes[c]}" for c in classes]
        normals.append(found)
        accuracies.append(right)
        rare = int((values[label.name].bincount() < FEWEST).sum())
        if rare:
            note(f"{rare} classes of {label.name!r} have fewer than {FEWEST} of these images, and get no direction")
    vectors, layers = torch.cat(normals), _layers(space, options.layers)
    measures = {"balanced accuracy": tuple(torch.cat(accuracies).tolist())}
    scales, model_id = deviations(codes, vectors), fingerprint_of(model)
    return Directions(space.name, tuple(names), vectors, scales, layers, measures, options.method, model_id), codes
