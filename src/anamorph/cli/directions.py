"""`anamorph directions RUN [SOURCE --label NAME] --method pca|sefa|svm|logistic|linear|means`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from anamorph.cli.options import Common, LayersArgument, RunArgument, check_at_least, emit, note
from anamorph.cli.parsing import ADVANCED, parse
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
class FindDirections(Common):
    """Find directions in the latent space, and write them to a file for `anamorph traverse`."""

    run: RunArgument = tyro.MISSING
    """Folder of the run."""
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[SOURCE]")] = ""
    """Images to encode: a name, a folder or a file. Its training part is used; with :test or :all behind it, that. Optional for
    pca and sefa."""
    method: Literal["pca", "sefa", "svm", "logistic", "linear", "means"] = "pca"
    """How to find them. pca: principal components of sampled codes, or of those of SOURCE. sefa: what changes the styles of a
    style-based model most. svm, logistic, linear, means: what separates a class from the others, in codes of a SOURCE with
    labels."""
    label: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Label whose classes are separated. Default: each label of SOURCE."""
    k: int = 10
    """Number of directions by pca and sefa, at least 1."""
    n: int = 10_000
    """Number of codes to find directions from, at least 2."""
    layers: LayersArgument = "all"
    """Layers that the directions act on, and that sefa reads: coarse, middle, fine, all, 0-3 or 0-1,6."""
    without: Annotated[tuple[str, ...], ADVANCED, tyro.conf.arg(metavar="NAME...")] = ()
    """Project these directions out of the others, which then leave them unchanged."""


def main(words: Sequence[str]) -> int:
    options = parse(FindDirections, "directions", words)
    check_at_least(2, n=options.n)
    check_at_least(1, k=options.k)

    from anamorph.edit.directions import orthogonalize

    model = options.load(options.run)
    with options.computing():
        find = _unsupervised if options.method in ("pca", "sefa") else _supervised
        directions, codes = find(model, options)
    if options.without:
        directions = orthogonalize(directions, options.without, codes)
    path = options.out or options.run / f"directions-{options.method}.safetensors"
    directions.write(path)
    text = f"{path}: {len(directions)} directions in {directions.space}\n{_describe(directions)}"
    emit(options.json, text, path=path, **_facts(directions))
    return 0


def _facts(directions: Directions) -> dict[str, Any]:
    return {
        "names": directions.names,
        "measures": directions.measures,
        "space": directions.space,
        "layers": directions.layers,
    }


def _describe(directions: Directions) -> str:
    lines = []
    for i, name in enumerate(directions.names):
        measures = ", ".join(f"{measure} {values[i]:.3g}" for measure, values in directions.measures.items())
        lines.append(f"  {name:<24} {measures}")
    return "\n".join(lines)


def _layers(space: Space, text: str) -> Layers | None:
    from anamorph.edit.layers import layers_among

    return None if text == "all" else layers_among(text, [space])


def _unsupervised(model: LatentModel, options: FindDirections) -> tuple[Directions, Tensor]:
    """Return directions found without labels, and the codes that they were found in."""
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


def _codes(model: LatentModel, space: Space, options: FindDirections) -> Tensor:
    """Return sampled codes, or those of the source, as vectors [N, D]."""
    from anamorph.core.model import Samples, require
    from anamorph.core.random import Seeded
    from anamorph.edit.directions import flat

    if options.source:
        return _encode(model, space, _open(model, options), options)[0]
    sampler = require(model, Samples, "finding directions without a SOURCE of images")
    return flat(sampler.sample_codes(options.n, Seeded(options.seed, "directions", device=options.device))[space.name], space)


def _open(model: LatentModel, options: FindDirections) -> Dataset:
    from anamorph.cli.image_arguments import open_like

    return open_like(model, options.run, options.source or "", "train").shuffled()


def _encode(model: LatentModel, space: Space, source: Dataset, options: FindDirections) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the codes of images as vectors [N, D], and their labels [N]."""
    from anamorph.cli.image_arguments import encode_source
    from anamorph.core.model import Encodes, require
    from anamorph.edit.directions import flat

    encoder = require(model, Encodes, "finding directions from images")
    codes, labels = encode_source(encoder, source, min(options.n, source.size))
    return flat(codes[space.name], space).float(), labels


def _supervised(model: LatentModel, options: FindDirections) -> tuple[Directions, Tensor]:
    """Return directions found with labels, and the codes that they were found in."""
    import torch

    from anamorph.core.fingerprint import fingerprint_of
    from anamorph.core.model import code_space
    from anamorph.edit.directions import FEWEST, Directions, deviations, separating

    if not options.source:
        raise UserError(
            f"--method {options.method} needs a SOURCE with labels, as in `anamorph directions RUN avatars-cats --method "
            f"{options.method}`"
        )
    assert options.method != "pca"
    assert options.method != "sefa"
    space, source = code_space(model), _open(model, options)
    labels = [label for label in source.labels if label.classes]
    if options.label is not None:
        labels = list(source.with_labels([options.label]).labels)
    if not labels:
        raise UserError(f"{options.source} has no labels: choose another SOURCE, or --method pca or sefa, which need none")
    codes, values = _encode(model, space, source, options)
    codes = codes.cpu()
    if len(codes) <= codes.shape[1]:
        note(
            f"{len(codes)} codes of {codes.shape[1]} numbers each can be separated by chance: trust only the accuracies, or "
            f"use more images"
        )
    names: list[str] = []
    normals, accuracies = [], []
    for label in labels:
        vectors_of_label, balanced, classes = separating(codes, values[label.name], options.method, options.seed)
        names += [f"{label.name}={label.classes[c]}" for c in classes]
        normals.append(vectors_of_label)
        accuracies.append(balanced)
        rare = int((values[label.name].bincount() < FEWEST).sum())
        if rare:
            note(f"{rare} classes of {label.name!r} have fewer than {FEWEST} of these images, and get no direction: raise --n")
    vectors, layers = torch.cat(normals), _layers(space, options.layers)
    measures = {"balanced accuracy": tuple(torch.cat(accuracies).tolist())}
    scales, model_id = deviations(codes, vectors), fingerprint_of(model)
    return Directions(space.name, tuple(names), vectors, scales, layers, measures, options.method, model_id), codes
