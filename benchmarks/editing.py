"""Time the latent tools beside the decoder alone: tables, planes, traversals and projections; and finding directions."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from anamorph.catalog import build
from anamorph.core.model import decode_in_chunks
from anamorph.core.random import Seeded
from anamorph.core.signal import Image
from anamorph.core.space import Codes
from anamorph.edit.directions import Directions, principal, style_factors
from anamorph.edit.interpolate import plane
from anamorph.edit.mix import every_pair, mix
from anamorph.edit.project import project
from anamorph.edit.traverse import traversal
from anamorph.models.adversarial_autoencoders.stylealae import StyleALAE, StyleALAEConfig
from anamorph.presets import preset
from anamorph.training.autotune import apply_compute_settings
from anamorph.training.run import ComputeSettings
from turns import median_of, ratios

SIDE, LARGE_SIDE = 64, 256
CODES = 100_000
"""Codes whose principal components are found."""


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def against(what: str, tool: Callable[[], object], bare: Callable[[], object], rounds: int) -> None:
    """Time a tool and the bare decoder in turns."""
    tool(), bare()
    pairs = [(seconds(tool), seconds(bare)) for _ in range(rounds)]
    tools, bares = ([1000 * pair[i] for pair in pairs] for i in (0, 1))
    print(
        f"{what}: {median_of(tools, 1)} ms, the model alone {median_of(bares, 1)} ms; ratio {ratios(tools, bares)}", flush=True
    )


def tables(model: StyleALAE, rounds: int) -> None:
    """Time mixing 6 x 6, interpolating 7 x 7 and traversing 10 x 9 images."""
    rows, columns = (model.sample_codes(6, Seeded(seed, "codes")) for seed in (0, 1))
    corners = [{"w": rows["w"][i]} for i in range(4)]
    space = model.spaces[0]
    vectors = torch.nn.functional.normalize(Seeded(0, "directions").normal(10, space.shape[1]))
    random_directions = Directions("w", tuple(map(str, range(10))), vectors, torch.ones(10))
    steps = torch.linspace(-3, 3, 9)

    def mixed() -> Codes:
        sources, cells = every_pair(rows, columns)
        return mix(cells, sources, (0, 1, 2, 3), model.spaces)

    tools: dict[str, Callable[[], Codes]] = {
        "a 6 x 6 table of mixes": mixed,
        "a 7 x 7 plane": lambda: plane(corners, 7, 7),
        "a traversal of 10 directions in 9 steps": lambda: traversal({"w": rows["w"][:1]}, random_directions, steps, space),
    }
    for what, make in tools.items():
        codes = {name: value.clone() for name, value in make().items()}

        def whole(make: Callable[[], Codes] = make) -> Tensor:
            return decode_in_chunks(model, make())

        def bare(codes: Codes = codes) -> Tensor:
            return model.decode(codes)

        against(what, whole, bare, rounds)


def projection(model: StyleALAE, steps: int, rounds: int) -> None:
    """Time projecting 8 images against their forward and backward passes alone."""
    x, start = Seeded(0, "x").normal(8, 3, SIDE, SIDE).clamp(-1, 1), model.sample_codes(8, Seeded(0, "start"))

    def bare() -> None:
        w = start["w"][:, :1].clone().requires_grad_()
        for _ in range(steps):
            with torch.enable_grad():
                image = model.decode({"w": w.expand(-1, model.layers, -1)})
                (image - x).square().sum().backward()

    against(f"{steps} steps of projecting 8 images", lambda: project(model, x, start, steps=steps), bare, rounds)


def directions() -> None:
    """Time principal components and style factors of 512 dimensions, on one thread."""
    codes = Seeded(0, "codes").normal(CODES, 512)
    print(f"principal components of {CODES:,} codes of 512: {seconds(lambda: principal(codes, 512)):.2f} s")
    large, _ = build("stylealae", Image(3, LARGE_SIDE, LARGE_SIDE), StyleALAEConfig(), 0)
    assert isinstance(large, StyleALAE)
    weights = large.style_weights()
    print(f"style factors of w of 512, {LARGE_SIDE} px: {seconds(lambda: style_factors(weights, 512)):.2f} s")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=500)
    options = parser.parse_args()
    apply_compute_settings(ComputeSettings("cpu", "float32", 1))
    model, _ = build("stylealae", Image(3, SIDE, SIDE), preset("stylealae", SIDE).config, 0)
    assert isinstance(model, StyleALAE)
    model.requires_grad_(False).eval()
    tables(model, options.rounds)
    projection(model, options.steps, max(1, options.rounds // 3))
    directions()


if __name__ == "__main__":
    main()
