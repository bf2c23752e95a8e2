"""`anamorph features train SOURCE | list | add NAME [FILE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from anamorph.cli.options import emit, parse, parse_size, report_progress
from anamorph.core.errors import UserError

__all__ = ["main"]


@dataclass(frozen=True)
class Features:
    """The networks that look at images when runs are measured. train SOURCE: a small one that learns to see a source's images,
    with their labels where they have some, in about a minute. list: what there is. add NAME FILE: one from a file, or, under
    the name of a standard one, the file that its authors have published; without FILE, that is fetched."""

    what: Annotated[tyro.conf.Positional[Literal["train", "list", "add"]], tyro.conf.arg(metavar="train|list|add")]
    """What to do."""
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE or NAME")] = ""
    """The images to learn from; or the network's name."""
    file: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="FILE")] = None
    """The file to add."""
    called: str = ""
    """The new network's name; by default the source's, as in mnist-classifier."""
    images: int | None = None
    """How many images it learns from, counting repetitions."""
    size: str | None = None
    """Read images at this size, such as 64 or 64x48 (height x width)."""
    seed: int = 0
    """Of its weights."""
    json: bool = False
    """Print the result as JSON."""


def main(words: Sequence[str]) -> int:
    options = parse(Features, "features", words)
    if options.what == "list":
        return _list(options)
    if not options.name:
        raise UserError(f"features {options.what} needs a name: {'SOURCE' if options.what == 'train' else 'NAME FILE'}")
    return _train(options) if options.what == "train" else _add(options)


def _train(options: Features) -> int:
    from anamorph.data.images import images_of
    from anamorph.data.open import ReadOptions, open_source
    from anamorph.evaluation.networks import describe_network, train_network

    wanted = ReadOptions(parse_size(options.size))
    with report_progress("reading images") as progress:
        train, held = (images_of(open_source(options.name, wanted, split=s, progress=progress)) for s in ("train", "test"))
    with report_progress("learning to look") as progress:
        network, facts = train_network(train, held, options.called, options.images, options.seed, progress=progress)
    right = "".join(f"; {label}: right on {share:.1%} of held-out images" for label, share in facts.get("accuracy", {}).items())
    emit(options.json, f"{describe_network(network)}{right}", name=network.name, width=network.width, **facts)
    return 0


def _list(options: Features) -> int:
    from anamorph.evaluation.networks import BUILT_IN, has_published_files, known_networks, published_folder
    from anamorph.interop.published_features import BACKBONE_OF, PUBLISHED

    standard = {name: has_published_files(name) for name in BACKBONE_OF}
    there = known_networks()
    lines = [f"{name:<34} {what}" for name, what in BUILT_IN.items()]
    for name, about in there.items():
        trained = about.get("trained", {})
        lines.append(f"{name:<34} {about['kind']}, of {trained.get('source', '?')}, {trained.get('images', 0):,} images")
    for name, here in standard.items():
        absent = f"not at hand: put {PUBLISHED[BACKBONE_OF[name]].file} into {published_folder()}"
        lines.append(f"{name:<34} {'standard, at hand' if here else absent}")
    emit(options.json, "\n".join(lines), built_in=BUILT_IN, known=there, standard=standard)
    return 0


def _add(options: Features) -> int:
    from anamorph.evaluation.networks import add_network, add_published, describe_network, fetch_published
    from anamorph.interop.published_features import BACKBONE_OF

    if options.name in BACKBONE_OF:
        paths = fetch_published(options.name) if options.file is None else [add_published(options.name, options.file)]
        emit(options.json, "\n".join(f"{options.name}: {path}" for path in paths), name=options.name, paths=paths)
        return 0
    if options.file is None:
        raise UserError(f"features add {options.name} needs the file to add: features add {options.name} FILE")
    network = add_network(options.name, options.file)
    emit(options.json, describe_network(network), name=options.name, width=network.width)
    return 0
