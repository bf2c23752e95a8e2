"""`anamorph features train SOURCE | list | add NAME [FILE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from anamorph.cli.options import SizeArgument, check_at_least, emit, parse_size, report_progress
from anamorph.cli.parsing import parse
from anamorph.core.errors import UserError

__all__ = ["main"]


@dataclass(frozen=True)
class Features:
    """Manage the feature networks of FID and other metrics.

    train SOURCE: train a small network on a source's images and labels, in about a minute.

    list: list all networks.

    add NAME [FILE]: add a network from a file; a standard one without FILE is downloaded.
    """

    what: Annotated[tyro.conf.Positional[Literal["train", "list", "add"]], tyro.conf.arg(metavar="train|list|add")]
    """Action: train, list or add."""
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[SOURCE|NAME]")] = ""
    """Images to train on; or name of the network to add."""
    file: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[FILE]")] = None
    """File to add."""
    called: Annotated[str, tyro.conf.arg(metavar="NAME")] = ""
    """Name of the trained network. Default: after the source, as in mnist-classifier."""
    images: int | None = None
    """Total of images to train on, counting repetitions, at least 1. Default: enough for about a minute."""
    size: SizeArgument = None
    """Crop and resize images to this size in pixels, 64 or 64x48 (height x width). Default: as they are."""
    seed: int = 0
    """Seed of the initial weights, at least 0."""
    json: bool = False
    """Print the result as JSON."""


def main(words: Sequence[str]) -> int:
    options = parse(Features, "features", words)
    check_at_least(1, images=options.images)
    if options.what == "list":
        return _list(options)
    if not options.name:
        raise UserError(
            f"features {options.what} needs {'a SOURCE to train on' if options.what == 'train' else 'the NAME of a network'}"
        )
    return _train(options) if options.what == "train" else _add(options)


def _train(options: Features) -> int:
    from anamorph.data.images import images_of
    from anamorph.data.open import ReadOptions, open_source
    from anamorph.evaluation.networks import describe_network, train_network

    read_options = ReadOptions(parse_size(options.size))
    with report_progress("reading images") as progress:
        train, held_out = (
            images_of(open_source(options.name, read_options, split=s, progress=progress)) for s in ("train", "test")
        )
    with report_progress("training") as progress:
        network, facts = train_network(train, held_out, options.called, options.images, options.seed, progress=progress)
    accuracies = "".join(
        f"; {label}: right on {share:.1%} of held-out images" for label, share in facts.get("accuracy", {}).items()
    )
    emit(options.json, f"{describe_network(network)}{accuracies}", name=network.name, width=network.width, **facts)
    return 0


def _list(options: Features) -> int:
    from anamorph.evaluation.networks import BUILT_IN, has_published_files, known_networks, published_folder
    from anamorph.interop.published_features import BACKBONE_OF, PUBLISHED

    standard = {name: has_published_files(name) for name in BACKBONE_OF}
    networks = known_networks()
    lines = [f"{name:<34} {description}" for name, description in BUILT_IN.items()]
    for name, about in networks.items():
        trained = about.get("trained", {})
        lines.append(f"{name:<34} {about['kind']}, of {trained.get('source', '?')}, {trained.get('images', 0):,} images")
    for name, has_files in standard.items():
        missing = (
            f"missing: put {PUBLISHED[BACKBONE_OF[name]].file} into {published_folder()}, or `anamorph features add {name}`"
        )
        lines.append(f"{name:<34} {'standard, files found' if has_files else missing}")
    emit(options.json, "\n".join(lines), built_in=BUILT_IN, known=networks, standard=standard)
    return 0


def _add(options: Features) -> int:
    from anamorph.evaluation.networks import add_network, add_published, describe_network, fetch_published
    from anamorph.interop.published_features import BACKBONE_OF

    if options.name in BACKBONE_OF:
        paths = fetch_published(options.name) if options.file is None else [add_published(options.name, options.file)]
        emit(options.json, "\n".join(f"{options.name}: {path}" for path in paths), name=options.name, paths=paths)
        return 0
    if options.file is None:
        raise UserError(f"{options.name} is no standard network: give its file, `anamorph features add {options.name} FILE`")
    network = add_network(options.name, options.file)
    emit(options.json, describe_network(network), name=options.name, width=network.width)
    return 0
