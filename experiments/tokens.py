"""Images as discrete codes, and a prior over the codes: reconstructions, likelihoods and samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from anamorph.core.files import read_json, write_json
from anamorph.core.model import HasLikelihood, LatentModel
from anamorph.core.prior import InpaintingMask
from anamorph.core.random import Random, Seeded
from anamorph.core.space import Codes, Space
from anamorph.data.dataset import Dataset
from anamorph.data.open import ReadOptions
from anamorph.figures.grid import Row, save_picture, sheet
from anamorph.metrics.likelihood import code_cost, likelihood
from anamorph.metrics.reconstruction import reconstruction_error
from anamorph.models.autoregressive.pixelcnn import PixelCNNConfig
from anamorph.models.autoregressive.pixelsnail import PixelSNAILConfig
from anamorph.models.quantized.vqvae import VQVAEConfig
from anamorph.models.quantized.vqvae2 import VQVAE2Config
from anamorph.models.two_stage import TwoStageModel
from anamorph.nn.quantize import perplexity
from anamorph.run_data import open_data
from anamorph.runs import load, new_settings, open_training, settings_of
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder
from anamorph.training.pictures import draw_codebooks

__all__ = ["TOKENS", "Stage", "Tokens", "hours_of", "taken_at", "token_study", "trained"]

SHOWN, CODED, MEASURED = 8, 256, 1000


@dataclass(frozen=True)
class Stage:
    """A model, its settings, and how many images it sees."""

    model: str
    config: Any
    images: int
    batch: int = 64


@dataclass(frozen=True)
class Tokens:
    """Images, the model that encodes them, and the prior over its codes."""

    source: str
    first: Stage
    prior: Stage
    size: tuple[int, int] | None = None


GREY = VQVAEConfig(width=64, num_embeddings=128, embedding_dim=32, likelihood="logistic")
SMALL = PixelCNNConfig(width=64, layers=8, head_channels=256, dropout=0.1)
TOKENS = {
    "tokens-mnist": Tokens("mnist", Stage("vqvae", GREY, 600_000), Stage("pixelcnn", SMALL, 600_000, 128)),
    "tokens-fashion-mnist": Tokens("fashion-mnist", Stage("vqvae", GREY, 600_000), Stage("pixelcnn", SMALL, 600_000, 128)),
    "tokens-eurosat": Tokens(
        "eurosat",
        Stage("vqvae2", VQVAE2Config(width=64, num_embeddings=256, embedding_dim=32), 300_000),
        Stage("pixelsnail", PixelSNAILConfig(residual_channels=32, kernel_size=3, residual_blocks=2, dropout=0.2), 120_000),
        size=(64, 64),
    ),
}
"""By the name of the experiment."""


def token_study(
    study: Tokens, out: Path, choice: ComputeRequest, say: Callable[[str], None], stop: Callable[[], bool] = lambda: False
) -> bool:
    """Train both stages, measure them on held-out images, and write results.json, results.md, tokens.png, codebooks.png.

    What has been done is not done again. Returns whether it came to its end, or was stopped.
    """
    for stage, folder, codes_of in ((study.first, out / "first", ""), (study.prior, out / "prior", str(out / "first"))):
        if not trained(
            study.source, stage, RunFolder(folder), choice, say, stop, wanted=ReadOptions(study.size), codes_of=codes_of
        ):
            return False
    model = load(out / "prior")
    assert isinstance(model, TwoStageModel)
    settings = settings_of(RunFolder(out / "prior"))
    train, held = (open_data(settings, split).shuffled() for split in ("train", "test"))
    facts = _measured(model, train, held, out)
    write_json(out / "results.json", facts)
    (out / "results.md").write_text("".join(f"| {name} | {value} |\n" for name, value in facts.items()), encoding="utf-8")
    save_picture(out / "tokens.png", sheet(_rows(model, held), f"The first {SHOWN}, unpicked: {study.source}"))
    draw_codebooks(out / "codebooks.png", model.first_stage, held.take(0, CODED).signals, f"{study.source}, held out")
    say(f"wrote {out / 'results.md'}")
    return True


def trained(
    source: str,
    stage: Stage,
    folder: RunFolder,
    choice: ComputeRequest,
    say: Callable[[str], None],
    stop: Callable[[], bool],
    *,
    wanted: ReadOptions | None = None,
    codes_of: str = "",
) -> bool:
    """Whether a run of a stage has come to its end; it is started, or goes on."""
    with folder.locked():
        if not folder.exists:
            new_settings(
                stage.model,
                source,
                stage.images,
                config=stage.config,
                read_options=wanted,
                batch=stage.batch,
                compute=choice,
                codes_of=codes_of,
            ).write(folder)
        training = open_training(folder)
        for status in training.run_to_end(stop):
            if status.picture:
                say(f"{folder}: {status.images:,} of {stage.images:,} images, {status.images_per_second:.0f} images/s")
            for warning in status.warnings:
                say(f"{folder}: {warning}")
        return training.run.images >= stage.images


def _measured(model: TwoStageModel, train: Dataset, held: Dataset, out: Path) -> dict[str, Any]:
    n = min(MEASURED, held.size)
    described = read_json(max((out / "first" / "codes").glob("*/codes.json"), key=lambda path: path.stat().st_mtime))
    facts: dict[str, Any] = {
        "hours of CPU, first stage": hours_of(out / "first"),
        "hours of CPU, prior": hours_of(out / "prior"),
        "prior taken at, images": taken_at(RunFolder(out / "prior")),
    }
    for name, counts in described["usage"].items():
        facts[f"codes of {name} in use"] = f"{sum(count > 0 for count in counts)} of {len(counts)}"
        facts[f"perplexity of {name}"] = round(float(perplexity(torch.tensor(counts).double())), 1)
    facts |= {name: round(value, 4) for name, value in reconstruction_error(model, held, n).items()}
    facts["prior: nats per code, trained on"] = round(code_cost(model, train, n), 4)
    facts["prior: nats per code, held out"] = round(code_cost(model, held, n), 4)
    if isinstance(model, HasLikelihood):
        facts |= {f"held out: {name}": round(value, 3) for name, value in likelihood(model, held, n).values.items()}
    return facts


def taken_at(folder: RunFolder) -> int:
    """How many images a run had seen when it was as it is loaded."""
    found = folder.latest(best=True)
    return 0 if found is None else int(json.loads(found[1]["progress"])["images"])


def hours_of(folder: Path) -> float:
    """Of the processor, that a run has taken."""
    return round(RunFolder(folder).metrics()[-1]["cpu_seconds"] / 3600, 2)


@torch.no_grad()
def _rows(model: TwoStageModel, held: Dataset) -> list[Row]:
    """Originals, what comes back of them, what is drawn, and what uniform codes give; of a hierarchy, also what each level
    says: the coarse codes alone, and what changes when the fine ones are drawn anew."""
    x = held.take(0, SHOWN).signals
    codes = model.encode(x)
    rows = [Row("held out", x), Row("reconstructions", model.decode(codes))]
    if len(model.spaces) > 1:
        rows += [
            Row("coarse codes alone", model.decode(codes | _commonest(codes, model.spaces[1:]))),
            Row("fine codes drawn anew", model.decode(_redrawn(model, codes, Seeded(1, "fine")))),
        ]
    drawn = model.sample_codes(SHOWN, Seeded(0, "tokens"))
    return [*rows, Row("drawn from the prior", model.decode(drawn)), Row("uniform codes", model.decode(_uniform(model)))]


def _commonest(codes: Codes, spaces: tuple[Space, ...]) -> Codes:
    """The commonest code of each space, everywhere."""
    return {s.name: torch.full_like(codes[s.name], int(codes[s.name].flatten().mode().values)) for s in spaces}


def _redrawn(model: TwoStageModel, codes: Codes, random: Random) -> Codes:
    """The coarsest codes as they are, the others drawn given them."""
    coarsest = model.spaces[0].name
    masks = {name: torch.full_like(value, name == coarsest, dtype=torch.bool) for name, value in codes.items()}
    return model.sample_codes(len(codes[coarsest]), random, mask=InpaintingMask(codes, masks))


def _uniform(model: LatentModel) -> Codes:
    random = Seeded(0, "uniform")
    return {s.name: random.integers(0, s.num_codes or 1, (SHOWN, *s.shape)) for s in model.spaces}
