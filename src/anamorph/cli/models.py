"""`anamorph models [NAME]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import tyro

from anamorph.catalog import MODELS, PRIORS, model_entry
from anamorph.cli.options import emit, parse
from anamorph.presets import presets_of

__all__ = ["main"]

SHOWN = ("representation", "learning", "data_distribution", "latent_distribution", "reciprocity", "paper")


@dataclass(frozen=True)
class Models:
    """The models that can be trained, the priors that learn their codes, and their place among their relatives: what their
    codes are, what is optimised, how the laws of data and of codes are matched, and in what sense encoder and decoder undo
    each other."""

    name: tyro.conf.Positional[str | None] = None
    """One of them."""
    json: bool = False
    """Print the result as JSON."""


def main(words: Sequence[str]) -> int:
    options = parse(Models, "models", words)
    shown = [model_entry(options.name)] if options.name else [*MODELS.values(), *PRIORS.values()]
    lines = []
    for model in shown:
        lines.append(f"{model.name}: {model.title}")
        lines += [f"    {field.replace('_', ' '):<15} {getattr(model, field)}" for field in SHOWN]
        lines += [f"    {f'--preset {p.size}':<15} {p.images:,} images; {p.about}" for p in presets_of(model.name)]
    if not options.name:
        lines.append("`anamorph train MODEL --help` lists a model's settings.")
    facts = [{**asdict(model), "presets": [asdict(p) for p in presets_of(model.name)]} for model in shown]
    emit(options.json, "\n".join(lines), models=facts)
    return 0
