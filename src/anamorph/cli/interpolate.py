"""`anamorph interpolate RUN IMAGE IMAGE [IMAGE IMAGE]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from anamorph.cli.options import Common, ImageArguments, LayersArgument, RunArgument, check_at_least, emit
from anamorph.cli.parsing import parse
from anamorph.core.errors import UserError

if TYPE_CHECKING:
    from anamorph.core.model import LatentModel
    from anamorph.core.space import Codes

__all__ = ["main"]

MAX_SHOWN = 12
"""Images in the picture of a strip, at most; a video has all of them."""


@dataclass(frozen=True)
class Interpolate(Common):
    """Interpolate between images in the latent space: a strip between two, a grid between four."""

    run: RunArgument = tyro.MISSING
    """Folder of the run."""
    images: ImageArguments = ()
    """Two or four files, seed:7 or data:12."""
    steps: int = 8
    """Images from one end to the other, both included, at least 2."""
    space: Literal["w", "z"] = "w"
    """Space to interpolate in. w: along a line between codes. z: along a great arc, between the z of two seeds; for models
    without a mapping network, between any codes."""
    layers: LayersArgument = "all"
    """Interpolate only these layers, and keep the others of the first image: coarse, middle, fine, all, 0-3 or 0-1,6."""
    video: Path | None = None
    """Also write a strip as a video that goes there and back: .webp, .png, or .mp4 (needs anamorph[video]); 50 --steps take
    4 seconds."""


def main(words: Sequence[str]) -> int:
    options = parse(Interpolate, "interpolate", words)
    if len(options.images) not in (2, 4):
        raise UserError(f"interpolate between two images, or four (the corners of a grid); got {len(options.images)}")
    if options.video and len(options.images) != 2:
        raise UserError("a video goes between two images: leave out --video, or two of the images")
    check_at_least(2, steps=options.steps)

    import torch

    from anamorph.cli.image_arguments import encode_arguments
    from anamorph.core.model import decode_in_chunks
    from anamorph.core.signal import require_image
    from anamorph.edit.interpolate import plane, strip
    from anamorph.edit.layers import layers_among
    from anamorph.edit.mix import mix
    from anamorph.figures.show import show_all
    from anamorph.figures.video import check_kind, save_video

    if options.video:
        check_kind(options.video)
    model = options.load(options.run)
    if options.video:
        require_image(model.signal, "a video")
    with options.computing():
        if options.space == "z":
            codes = _through_z(model, options)
        else:
            ends = [{k: v[0] for k, v in p.codes.items()} for p in encode_arguments(model, options.run, options.images)]
            corners = len(ends) == 4
            codes = plane(ends, options.steps, options.steps) if corners else strip(ends[0], ends[1], options.steps)
        if options.layers != "all":
            layers = layers_among(options.layers, model.spaces)
            codes = mix({name: value[:1].expand_as(value) for name, value in codes.items()}, codes, layers, model.spaces)
        images = decode_in_chunks(model, codes)
    path = options.out or options.run / "interpolate.png"
    few = len(options.images) == 2 and len(images) > MAX_SHOWN
    shown = images[torch.linspace(0, len(images) - 1, MAX_SHOWN).round().long()] if few else images
    written = show_all(path, model.signal, shown, columns=min(options.steps, len(shown)))
    video = ""
    if options.video:
        save_video(options.video, images)
        video = f"; {options.video}: all of them as a video"
    text = f"{written}: {len(shown)} of {len(images)} {model.signal.noun}s between {', '.join(options.images)}{video}"
    emit(options.json, text, **written.paths, n=len(images), video=options.video)
    return 0


def _through_z(model: LatentModel, options: Interpolate) -> Codes:
    import torch

    from anamorph.cli.image_arguments import encode_arguments
    from anamorph.core.model import HasMapping, Samples, code_space, require
    from anamorph.core.random import Seeded
    from anamorph.edit.interpolate import slerp

    words = options.images
    if len(words) != 2:
        raise UserError("interpolation in z is between two images: leave out two, or use --space w")
    t = torch.linspace(0, 1, options.steps, device=options.device)
    if not isinstance(model, HasMapping):
        name = code_space(require(model, Samples, "interpolation in z")).name
        a, b = (p.codes[name][0] for p in encode_arguments(model, options.run, words))
        return {name: slerp(a, b, t)}
    if not all(word.startswith("seed:") and word[5:].isdigit() for word in words):
        raise UserError(
            "interpolation in z is between two seeds, as in seed:1 seed:2, since images have no known z: or use --space w"
        )
    a, b = (Seeded(int(word[5:]), "seed", device=options.device).normal(1, *model.z_space.shape)[0] for word in words)
    one = {name: torch.zeros(options.steps, dtype=torch.long, device=options.device) for name in model.classes}
    return model.map(slerp(a, b, t), one)
