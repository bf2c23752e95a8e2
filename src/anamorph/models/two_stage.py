"""A model and a law of its codes, together a model that draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.labels import add_labels
from anamorph.core.model import Encodes, HasDecoderLikelihood, HasLikelihood, HasPrior, LogLikelihood, Noise, code_spaces
from anamorph.core.optimizer import Adam
from anamorph.core.prior import InpaintingMask, Prior, SamplingSettings
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random
from anamorph.core.recipe import Loss, LossOutput, Phase, Recipe
from anamorph.core.signal import Audio, Batch, Image, Signal
from anamorph.core.space import Codes, Space, check_codes
from anamorph.core.stage import Stage
from anamorph.nn.value_ranges import from_bytes, from_mu_law, to_bytes, to_mu_law

__all__ = ["ChainedPrior", "MuLaw", "Pixels", "TwoStageModel", "identity_codec", "recipe", "two_stage"]


class Pixels(Encodes, HasDecoderLikelihood):
    """Pixels as their own codes, whole numbers 0..255: with a prior it is a density model of images, and every tool works."""

    signal: Image

    def __init__(self, signal: Image) -> None:
        super().__init__()
        self.signal, self.spaces = signal, (Space("pixels", signal.shape, 256),)

    def encode(self, x: Tensor) -> Codes:
        return {"pixels": to_bytes(x)}

    def decode(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        return from_bytes(codes["pixels"])

    def decoder_log_likelihood(self, x: Tensor, codes: Codes) -> Tensor:
        """Zero [B]: codes say all."""
        return x.new_zeros(len(x))


class MuLaw(Encodes, HasDecoderLikelihood):
    """Samples of sounds as their own codes: companded, then in 256 levels (van den Oord et al. 2016, section 2.2)."""

    signal: Audio

    def __init__(self, signal: Audio, levels: int = 256) -> None:
        super().__init__()
        self.signal, self.levels, self.spaces = signal, levels, (Space("samples", signal.shape, levels, ordered=True),)

    def encode(self, x: Tensor) -> Codes:
        return {"samples": to_mu_law(x, self.levels)}

    def decode(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        return from_mu_law(codes["samples"], self.levels)

    def decoder_log_likelihood(self, x: Tensor, codes: Codes) -> Tensor:
        """Zero [B]: codes say all that the levels leave of a sound."""
        return x.new_zeros(len(x))


def identity_codec(signal: Signal) -> Pixels | MuLaw:
    """The model whose codes are the signal's own values."""
    return Pixels(signal) if isinstance(signal, Image) else MuLaw(signal)


class ChainedPrior(Prior):
    """Laws of several spaces, one after the other; each may be given those before it (Razavi et al. 2019, algorithm 2).

    Raises: UserError if a law is given what none before it has drawn.
    """

    def __init__(self, stages: Sequence[Prior]) -> None:
        super().__init__()
        self.stages = cast(Sequence[Prior], nn.ModuleList(stages))
        self.spaces = tuple(space for part in stages for space in part.spaces)
        known: set[Space] = set()
        outside: dict[Space, None] = {}
        for part in stages:
            for space in part.conditions:
                if space not in known and space.shape != ():
                    drawn = ", ".join(map(str, known)) or "nothing"
                    raise UserError(f"a prior is given {space}, and the ones before it draw {drawn}: put the coarse ones first")
                outside |= {} if space in known else {space: None}
            known |= set(part.spaces)
        self.conditions = tuple(outside)

    def log_prob(self, codes: Codes, condition: Codes | None = None, random: Random | None = None) -> Tensor:
        return torch.stack([part.log_prob(codes, (condition or {}) | codes, random) for part in self.stages]).sum(0)

    def sample(
        self,
        n: int,
        random: Random,
        condition: Codes | None = None,
        settings: SamplingSettings | None = None,
        mask: InpaintingMask | None = None,
        progress: Progress = no_progress,
    ) -> Codes:
        found: Codes = {}
        for part in self.stages:
            told = {s.name: value for s in part.conditions for value in [((condition or {}) | found)[s.name]]}
            found |= part.sample(n, random, told, settings, mask, progress)
        return found


class TwoStageModel(Encodes, HasPrior):
    """A model that finds codes, which is kept as it is, and the law of its codes: together they draw.

    Raises: UserError if the law is one of other spaces than the model's.
    """

    def __init__(self, first_stage: Encodes, prior: Prior) -> None:
        super().__init__()
        wanted = code_spaces(first_stage)
        if wanted != prior.spaces:
            mine, its = ("; ".join(map(str, spaces)) for spaces in (wanted, prior.spaces))
            raise UserError(f"the prior is a law of {its}, and the model's codes are {mine}: train one on this model's codes")
        self.first_stage, self.prior = first_stage.requires_grad_(False).eval(), prior
        self.signal, self.spaces = first_stage.signal, first_stage.spaces
        self.conditions = tuple(dict.fromkeys([*prior.conditions, *(space for space in first_stage.spaces if space.is_label)]))
        self.classes = {space.name: space.num_codes or 0 for space in self.conditions}

    def train(self, mode: bool = True) -> TwoStageModel:
        """The model itself is never trained here."""
        super().train(mode)
        self.first_stage.eval()
        return self

    def encode(self, x: Tensor) -> Codes:
        return self.first_stage.encode(x)

    def decode(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        return self.first_stage.decode(codes, noise)

    def sample(
        self,
        n: int,
        random: Random,
        labels: Mapping[str, Tensor] | None = None,
        settings: SamplingSettings | None = None,
        mask: InpaintingMask | None = None,
        progress: Progress = no_progress,
    ) -> Codes:
        told = self._sample_conditions(n, random, labels)
        given = {space.name: told[space.name] for space in self.prior.conditions}
        return add_labels(self, self.prior.sample(n, random, given, settings, mask, progress), told, "the prior")

    def code_log_prob(self, codes: Codes, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        return self.prior.log_prob(codes, {space.name: (labels or {})[space.name] for space in self.prior.conditions})

    def _sample_conditions(self, n: int, random: Random, labels: Mapping[str, Tensor] | None) -> Codes:
        """The classes asked for, of the prior and of what is decoded; where none is, every class alike."""
        told = {}
        for space in self.conditions:
            asked = (labels or {}).get(space.name)
            told[space.name] = random.integers(0, space.num_codes or 1, (n,)) if asked is None else asked
        check_codes(told, self.conditions)
        return told


class _TwoStageLikelihood(TwoStageModel, HasLikelihood):
    """Also a density of signals: log p(x) >= log p(x | codes) + log p(codes) (van den Oord et al. 2017, section 3.2)."""

    def log_prob(self, x: Tensor, labels: Mapping[str, Tensor] | None = None) -> LogLikelihood:
        codes = self.first_stage.encode(x)
        kind: Literal["exact", "bound"] = "exact" if isinstance(self.first_stage, Pixels | MuLaw) else "bound"
        assert isinstance(self.first_stage, HasDecoderLikelihood)
        data = self.first_stage.decoder_log_likelihood(x, add_labels(self.first_stage, codes, labels or {}, "the data"))
        prior = self.code_log_prob(codes, labels)
        return LogLikelihood(data + prior, kind, {"data": data, "prior": prior})


def two_stage(first_stage: Encodes, prior: Prior) -> TwoStageModel:
    """A model with a law of its codes; one that scores signals, if the model has a law of them given codes, and these can be
    counted: log p(x | codes) + log p(codes) bounds nothing where p(codes) is a density."""
    counted = all(space.num_codes is not None for space in prior.spaces)
    return (
        _TwoStageLikelihood(first_stage, prior)
        if isinstance(first_stage, HasDecoderLikelihood) and counted
        else TwoStageModel(first_stage, prior)
    )


def recipe(model: TwoStageModel) -> Recipe:
    """One phase per law: nats per code, given the true codes of those before it. Batches are of codes, or of signals."""
    parts = model.prior.stages if isinstance(model.prior, ChainedPrior) else (model.prior,)
    names = ["_".join(space.name.replace(".", "_") for space in part.spaces) for part in parts]

    def loss_of(part: Prior) -> Loss:
        count = sum(math.prod(space.shape) for space in part.spaces)

        def loss(batch: Batch, stage: Stage, random: Random) -> LossOutput:
            codes = batch.x if isinstance(batch.x, dict) else model.first_stage.encode(batch.x)
            given = {space.name: batch.labels[space.name] for space in model.prior.conditions} | codes
            nats = -part.log_prob(codes, given, random).mean()
            return LossOutput({"nats_per_code": nats / count}, {"nats": nats})

        return loss

    by_gradient = {name: part for name, part in zip(names, parts, strict=True) if next(part.parameters(), None) is not None}
    return Recipe(
        phases=tuple(
            Phase(name, loss_of(part), (part,), (name,) if name in by_gradient else (), commit=(part.commit,))
            for name, part in zip(names, parts, strict=True)
        ),
        optimizers={name: Adam(list(part.parameters()), part.learning_rate) for name, part in by_gradient.items()},
    )
