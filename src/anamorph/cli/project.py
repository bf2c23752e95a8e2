"""`anamorph project RUN IMAGE... --space w|w+|noise`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from anamorph.cli.options import Common, ImageArguments, RunArgument, check_at_least, emit, report_progress
from anamorph.cli.parsing import ADVANCED, parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from anamorph.core.model import LatentModel
    from anamorph.core.space import Codes
    from anamorph.edit.project import CodeStatistics

__all__ = ["main"]


@dataclass(frozen=True)
class Project(Common):
    """Find the codes of images by optimisation.

    It starts from the encoder's codes, or else from the nearest of many samples.
    """

    run: RunArgument = tyro.MISSING
    """Folder of the run."""
    images: ImageArguments = ()
    """Files, seed:7 or data:12."""
    space: Literal["w", "w+", "noise"] = "w"
    """Codes to optimise. w: one code. w+: one code per layer, which fits better and edits less well. noise: also the noise
    maps."""
    steps: int = 500
    """Steps of the optimisation, at least 1."""
    learning_rate: Annotated[float, ADVANCED] = 0.05
    """Learning rate, in standard deviations of sampled codes, above 0."""
    prior_weight: Annotated[float, ADVANCED] = 0.0
    """Weight of the penalty for leaving the start, at least 0; 0.01 keeps codes near the encoder's."""
    drawn: Annotated[bool, ADVANCED] = False
    """Start from samples even if the model has an encoder."""


def main(words: Sequence[str]) -> int:
    options = parse(Project, "project", words)
    if not options.images:
        raise UserError("name the images to project: files, seed:7 or data:12")
    check_at_least(1, steps=options.steps)

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
        start, statistics = _start(model, x, options)
        result = project(
            model,
            x,
            start,
            options.space,
            options.steps,
            options.learning_rate,
            statistics=statistics,
            prior_weight=options.prior_weight,
            progress=progress,
        )
        start_images = model.decode(start)
    path = options.out or options.run / "project.png"
    title = f"{options.steps} steps in {options.space}"
    lines = [Row(name, [x[i], start_images[i], result.images[i]]) for i, name in enumerate(options.images)]
    written = show(path, model.signal, lines, title, (model.signal.noun, "start", "result"))
    codes = path.with_name(f"{path.stem}-codes.safetensors")
    write_codes(codes, result.codes, model.spaces, {"model": fingerprint_of(model), "images": " ".join(options.images)})
    rows = [
        {"image": name, "before": float(result.before[i]), "after": float(result.after[i])}
        | ({"outside": [float(result.distances[0][i]), float(result.distances[1][i])]} if result.distances else {})
        for i, name in enumerate(options.images)
    ]
    descriptions = [_describe(row) for row in rows]
    emit(options.json, "\n".join([f"{written}, {codes}: {title}", *descriptions]), **written.paths, codes=codes, images=rows)
    return 0


def _start(model: LatentModel, x: Tensor, options: Project) -> tuple[Codes, CodeStatistics | None]:
    """Return codes to start from, of the encoder or of the nearest samples; and statistics of sampled codes, if any."""
    from anamorph.core.model import Encodes, Samples, code_space, require
    from anamorph.core.random import Seeded
    from anamorph.edit.project import NUM_CANDIDATES, CodeStatistics, nearest_samples

    random = Seeded(options.seed, "project", device=options.device)
    if options.drawn or not isinstance(model, Encodes):
        return nearest_samples(require(model, Samples, "projecting from samples"), x, random)
    statistics = (
        CodeStatistics.of(model.sample_codes(NUM_CANDIDATES, random)[code_space(model).name])
        if isinstance(model, Samples)
        else None
    )
    return model.encode(x), statistics


def _describe(row: dict[str, object]) -> str:
    outside = row.get("outside")
    far = ""
    if isinstance(outside, list):
        far = f"; distance from the mean (1: as sampled codes) {outside[0]:.2f}, then {outside[1]:.2f}"
    return f"  {row['image']}: mean squared error {row['before']:.4f}, then {row['after']:.4f}{far}"
