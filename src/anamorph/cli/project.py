"""`anamorph project RUN IMAGE... --space w|w+|noise`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tyro

from anamorph.cli.options import Common, ImageArguments, RunArgument, emit, parse, report_progress
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.core.model import LatentModel
    from anamorph.core.space import Codes
    from anamorph.edit.project import CodeStatistics

__all__ = ["main"]


@dataclass(frozen=True)
class Project(Common):
    """Find the codes of images by optimisation: from what the encoder answers, or from the nearest of many drawn images."""

    run: RunArgument = tyro.MISSING
    """The run's folder."""
    images: ImageArguments = ()
    """Files, seed:7, data:12."""
    space: Literal["w", "w+", "noise"] = "w"
    """What is free. w: one code. w+: one code per layer, which comes closer, and edits less well. noise: noise maps, too."""
    steps: int = 500
    """Steps of the optimisation."""
    learning_rate: float = 0.05
    """Its rate, in standard deviations of drawn codes."""
    prior_weight: float = 0.0
    """How much it costs to leave the start: 0.01 keeps codes near what the encoder answered."""
    drawn: bool = False
    """Start from drawn images even if the model has an encoder."""


def main(words: Sequence[str]) -> int:
    options = parse(Project, "project", words)
    if not options.images:
        raise UserError("name the images to project: files, data:12, seed:7")

    import torch

    from anamorph.cli.image_arguments import read_arguments
    from anamorph.core.fingerprint import fingerprint_of
    from anamorph.core.space import write_codes
    from anamorph.edit.project import project
    from anamorph.figures.grid import Row
    from anamorph.figures.show import show

    model = options.load(options.run)
    with options.computing(), report_progress("projecting") as progress:
        x = torch.cat([image for _, image in read_arguments(model, options.run, options.images)])
        start, law = _start(model, x, options)
        found = project(
            model,
            x,
            start,
            options.space,
            options.steps,
            options.learning_rate,
            statistics=law,
            prior_weight=options.prior_weight,
            progress=progress,
        )
        first = model.decode(start)
    path = options.out or options.run / "project.png"
    title = f"{options.steps} steps in {options.space}"
    lines = [Row(name, [x[i], first[i], found.images[i]]) for i, name in enumerate(options.images)]
    written = show(path, model.signal, lines, title, (model.signal.noun, "start", "found"))
    codes = path.with_name(f"{path.stem}-codes.safetensors")
    write_codes(codes, found.codes, model.spaces, {"model": fingerprint_of(model), "images": " ".join(options.images)})
    rows = [
        {"image": name, "before": float(found.before[i]), "after": float(found.after[i])}
        | ({"outside": [float(found.outside[0][i]), float(found.outside[1][i])]} if found.outside else {})
        for i, name in enumerate(options.images)
    ]
    told = [_describe(row) for row in rows]
    emit(options.json, "\n".join([f"{written}, {codes}: {title}", *told]), **written.paths, codes=codes, images=rows)
    return 0


def _start(model: LatentModel, x: Tensor, options: Project) -> tuple[Codes, CodeStatistics | None]:
    """From the encoder's answer, or else from drawn images; and the law of drawn codes, where there is one."""
    from anamorph.core.model import Encodes, Samples, code_space, require
    from anamorph.core.random import Seeded
    from anamorph.edit.project import NUM_CANDIDATES, CodeStatistics, nearest_samples

    random = Seeded(options.seed, "project", device=options.device)
    if options.drawn or not isinstance(model, Encodes):
        return nearest_samples(require(model, Samples, "projecting from drawn images"), x, random)
    law = (
        CodeStatistics.of(model.sample_codes(NUM_CANDIDATES, random)[code_space(model).name])
        if isinstance(model, Samples)
        else None
    )
    return model.encode(x), law


def _describe(row: dict[str, object]) -> str:
    outside = row.get("outside")
    far = f"; from the mean, drawn codes being 1: {outside[0]:.2f}, then {outside[1]:.2f}" if isinstance(outside, list) else ""
    return f"  {row['image']}: mean squared error {row['before']:.4f}, then {row['after']:.4f}{far}"
