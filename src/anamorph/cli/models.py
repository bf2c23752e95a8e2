"""`anamorph models [NAME]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from anamorph.catalog import MODELS, PRIORS, model_entry
from anamorph.cli.options import emit
from anamorph.cli.parsing import parse
from anamorph.presets import presets_of

__all__ = ["main"]

ENTRY_FIELDS = ("representation", "learning", "data_distribution", "latent_distribution", "reciprocity", "paper")


@dataclass(frozen=True)
class Models:
    """List the models and priors, and how they differ.

    Listed are their codes and objectives, how the distributions of data and codes are matched,
    and in what sense encoder and decoder invert each other.
    """

    name: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="[NAME]")] = None
    """Model to describe. Default: all."""
    json: bool = False
    """Print the result as JSON."""


def main(words: Sequence[str]) -> int:
    options = parse(Models, "models", words)
    entries = [model_entry(options.name)] if options.name else [*MODELS.values(), *PRIORS.values()]
    lines = []
    for model in entries:
        lines.append(f"{model.name}: {model.title}")
        lines += [f"    {field.replace('_', ' '):<15} {getattr(model, field)}" for field in ENTRY_FIELDS]
        lines += [f"    {f'--preset {p.size}':<15} {p.images:,} images; {p.about}" for p in presets_of(model.name)]
    if not options.name:
        lines.append("`anamorph train MODEL --help` describes a model's settings.")
    facts = [{**asdict(model), "presets": [asdict(p) for p in presets_of(model.name)]} for model in entries]
    emit(options.json, "\n".join(lines), models=facts)
    return 0
