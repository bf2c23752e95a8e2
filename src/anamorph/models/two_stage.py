"""Two-stage models: a model that encodes, and a prior over its codes, together a model that samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.labels import add_labels
from anamorph.core.model import (
    Encodes,
    HasDecoderLikelihood,
    HasLikelihood,
    HasPrior,
    Labels,
    LogLikelihood,
    Noise,
    code_spaces,
)
from anamorph.core.optimizer import Adam
from anamorph.core.prior import Prior, SamplingOptions
from anamorph.core.random import Random
from anamorph.core.recipe import Loss, LossOutput, Phase, Recipe
from anamorph.core.signal import Audio, Batch, Image, Signal
from anamorph.core.space import Codes, Space, check_codes
from anamorph.core.stage import Stage
from anamorph.nn.value_ranges import from_bytes, from_mu_law, to_bytes, to_mu_law

__all__ = ["ChainedPrior", "MuLaw", "Pixels", "TwoStageModel", "identity_codec", "recipe", "two_stage"]


class Pixels(Encodes, HasDecoderLikelihood):
    """Pixels as their own codes, whole numbers 0..255: with a prior over them, a distribution of images."""

    signal: Image
    quantity = "probability"

    def __init__(self, signal: Image) -> None:
        super().__init__()
        self.signal, self.spaces = signal, (Space("pixels", signal.shape, 256),)

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {"pixels": to_bytes(x)}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        return from_bytes(codes["pixels"])

    def decoder_log_likelihood(self, x: Tensor, codes: Codes) -> Tensor:
        """Return zeros [B]: the codes determine the image."""
        return x.new_zeros(len(x))


class MuLaw(Encodes, HasDecoderLikelihood):
    """Samples of sounds as their own codes: companded by the mu-law and quantised (van den Oord et al. 2016, section 2.2)."""

    signal: Audio
    quantity = "probability"

    def __init__(self, signal: Audio, levels: int = 256) -> None:
        super().__init__()
        self.signal, self.levels, self.spaces = signal, levels, (Space("samples", signal.shape, levels, ordered=True),)

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {"samples": to_mu_law(x, self.levels)}

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        return from_mu_law(codes["samples"], self.levels)

    def decoder_log_likelihood(self, x: Tensor, codes: Codes) -> Tensor:
        """Return zeros [B]: the codes determine the quantised sound."""
        return x.new_zeros(len(x))


def identity_codec(signal: Signal) -> Pixels | MuLaw:
    """Return the model whose codes are the signal's own values."""
    return Pixels(signal) if isinstance(signal, Image) else MuLaw(signal)


class ChainedPrior(Prior):
    """Priors over several spaces, one after the other; each may be conditioned on those before it.

    Razavi et al. 2019, arXiv:1906.00446, algorithm 2.

    Raises:
        UserError: if a prior is conditioned on codes that none before it has sampled.
    """

    def __init__(self, stages: Sequence[Prior]) -> None:
        super().__init__()
        self.stages = cast(Sequence[Prior], nn.ModuleList(stages))
        self.spaces = tuple(space for stage in stages for space in stage.spaces)
        sampled: set[Space] = set()
        outside: dict[Space, None] = {}
        for stage in stages:
            for space in stage.conditions:
                if space not in sampled and space.role != "label":
                    before = ", ".join(map(str, sampled)) or "nothing"
                    raise UserError(
                        f"a prior is conditioned on {space}, and those before it sample {before}: put the coarse ones first"
                    )
                outside |= {} if space in sampled else {space: None}
            sampled |= set(stage.spaces)
        self.conditions = tuple(outside)

    def log_prob(self, codes: Codes, condition: Codes | None = None, random: Random | None = None) -> Tensor:
        return torch.stack([stage.log_prob(codes, (condition or {}) | codes, random) for stage in self.stages]).sum(0)

    def _sample(self, n: int, random: Random, condition: Codes, options: SamplingOptions) -> Codes:
        codes: Codes = {}
        for stage in self.stages:
            known = condition | codes
            codes |= stage._sample(n, random, {s.name: known[s.name] for s in stage.conditions}, options)
        return codes


class TwoStageModel(Encodes, HasPrior):
    """A frozen first stage that encodes, and a prior over its codes.

    Raises:
        UserError: if the prior is over other spaces than the first stage's.
    """

    def __init__(self, first_stage: Encodes, prior: Prior) -> None:
        super().__init__()
        spaces = code_spaces(first_stage)
        if set(spaces) != set(prior.spaces):
            own, others = ("; ".join(map(str, of)) for of in (spaces, prior.spaces))
            raise UserError(f"the prior is over {others}, and the model's codes are {own}: train one on this model's codes")
        self.first_stage, self.prior = first_stage.requires_grad_(False).eval(), prior
        self.signal, self.spaces = first_stage.signal, first_stage.spaces
        labels = (space for space in first_stage.spaces if space.role == "label")
        self.conditions = tuple(dict.fromkeys([*prior.conditions, *labels]))
        self.classes = {**first_stage.classes, **{space.name: space.num_codes or 0 for space in self.conditions}}

    def train(self, mode: bool = True) -> TwoStageModel:
        """Switch the prior to training; the first stage is never trained here."""
        super().train(mode)
        self.first_stage.eval()
        return self

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return self.first_stage.encode(x, labels)

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        return self.first_stage.decode(codes, noise)

    @torch.no_grad()
    def _sample_codes(self, n: int, random: Random, labels: Labels, options: SamplingOptions) -> Codes:
        known = self._sample_conditions(n, random, labels)
        condition = {space.name: known[space.name] for space in self.prior.conditions}
        return add_labels(self, self.prior._sample(n, random, condition, options), known, "the prior")

    def code_log_prob(self, codes: Codes, labels: Labels | None = None) -> Tensor:
        return self.prior.log_prob(codes, {space.name: (labels or {})[space.name] for space in self.prior.conditions})

    def _sample_conditions(self, n: int, random: Random, labels: Labels) -> Codes:
        """Return the requested classes of the prior and of the decoder; a label that was not requested is sampled evenly."""
        known = {}
        for space in self.conditions:
            requested = labels.get(space.name)
            known[space.name] = random.integers(0, space.num_codes or 1, (n,)) if requested is None else requested
        check_codes(known, self.conditions)
        return known


class _TwoStageLikelihood(TwoStageModel, HasLikelihood):
    """Also has a likelihood: log p(x) >= log p(x | codes) + log p(codes) (van den Oord et al. 2017, section 3.2)."""

    def log_prob(self, x: Tensor, labels: Labels | None = None, random: Random | None = None) -> LogLikelihood:
        codes = self.first_stage.encode(x, labels)
        kind: Literal["exact", "bound"] = "exact" if isinstance(self.first_stage, Pixels | MuLaw) else "bound"
        assert isinstance(self.first_stage, HasDecoderLikelihood)
        data = self.first_stage.decoder_log_likelihood(x, add_labels(self.first_stage, codes, labels or {}, "the data"))
        prior = self.code_log_prob(codes, labels)
        return LogLikelihood(data + prior, kind, self.first_stage.quantity, {"data": data, "prior": prior})


def two_stage(first_stage: Encodes, prior: Prior) -> TwoStageModel:
    """Combine a model and a prior over its codes.

    The result has a likelihood of signals if the first stage has one given codes, and these are whole numbers: where p(codes)
    is a density, log p(x | codes) + log p(codes) bounds nothing.
    """
    discrete = not any(space.is_real for space in prior.spaces)
    has_likelihood = isinstance(first_stage, HasDecoderLikelihood) and discrete
    return (_TwoStageLikelihood if has_likelihood else TwoStageModel)(first_stage, prior)


def recipe(model: TwoStageModel) -> Recipe:
    """One phase per prior: nats per code, given the true codes of those before it. Batches are of codes, or of signals."""
    stages = model.prior.stages if isinstance(model.prior, ChainedPrior) else (model.prior,)
    names = ["_".join(space.name.replace(".", "_") for space in stage.spaces) for stage in stages]

    def loss_of(prior: Prior) -> Loss:
        count = sum(math.prod(space.shape) for space in prior.spaces)

        def loss(batch: Batch, stage: Stage, random: Random) -> LossOutput:
            codes = batch.x if isinstance(batch.x, dict) else model.first_stage._encode(batch.x, batch.labels)
            condition = {space.name: batch.labels[space.name] for space in model.prior.conditions} | codes
            nats = -prior.log_prob(codes, condition, random).mean()
            return LossOutput({"nats_per_code": nats / count}, {"nats": nats})

        return loss

    trained = {name: stage for name, stage in zip(names, stages, strict=True) if next(stage.parameters(), None) is not None}
    return Recipe(
        phases=tuple(
            Phase(
                name,
                loss_of(stage),
                trains=(stage,),
                optimizers=(name,) if name in trained else (),
                role="prior",
                commit=(stage.commit,),
            )
            for name, stage in zip(names, stages, strict=True)
        ),
        optimizers={name: Adam(list(stage.parameters()), stage.learning_rate) for name, stage in trained.items()},
    )
