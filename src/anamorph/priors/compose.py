"""A model and a law of its codes, together a model that draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from anamorph.core.classes import complete
from anamorph.core.errors import UserError
from anamorph.core.model import Chooses, Encodes, Explains, Likelihood, Noise, Scores, code_spaces
from anamorph.core.optimizer import Adam
from anamorph.core.prior import Keep, Prior, Taste
from anamorph.core.progress import Progress, quiet
from anamorph.core.random import Random
from anamorph.core.recipe import Loss, Outcome, Phase, Recipe
from anamorph.core.signal import Audio, Batch, Image, Signal
from anamorph.core.space import Codes, Space, check_codes
from anamorph.core.stage import Stage
from anamorph.nn.scale import from_bytes, from_mu_law, to_bytes, to_mu_law

__all__ = ["Chain", "MuLaw", "Pixels", "WithPrior", "itself", "recipe", "with_prior"]


class Pixels(Encodes, Explains):
    """Pixels as their own codes, whole numbers 0..255: with a prior it is a density model of images, and every tool works."""

    signal: Image

    def __init__(self, signal: Image) -> None:
        super().__init__()
        self.signal, self.spaces = signal, (Space("pixels", signal.shape, 256),)

    def encode(self, x: Tensor) -> Codes:
        return {"pixels": to_bytes(x)}

    def decode(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        return from_bytes(codes["pixels"])

    def explain(self, x: Tensor, codes: Codes) -> Tensor:
        """Zero [B]: codes say all."""
        return x.new_zeros(len(x))


class MuLaw(Encodes, Explains):
    """Samples of sounds as their own codes: companded, then in 256 levels (van den Oord et al. 2016, section 2.2)."""

    signal: Audio

    def __init__(self, signal: Audio, levels: int = 256) -> None:
        super().__init__()
        self.signal, self.levels, self.spaces = signal, levels, (Space("samples", signal.shape, levels, ordered=True),)

    def encode(self, x: Tensor) -> Codes:
        return {"samples": to_mu_law(x, self.levels)}

    def decode(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        return from_mu_law(codes["samples"], self.levels)

    def explain(self, x: Tensor, codes: Codes) -> Tensor:
        """Zero [B]: codes say all that the levels leave of a sound."""
        return x.new_zeros(len(x))


def itself(signal: Signal) -> Pixels | MuLaw:
    """The model whose codes are the signal's own values."""
    return Pixels(signal) if isinstance(signal, Image) else MuLaw(signal)


class Chain(Prior):
    """Laws of several spaces, one after the other; each may be given those before it (Razavi et al. 2019, algorithm 2).

    Raises: UserError if a law is given what none before it has drawn.
    """

    def __init__(self, parts: Sequence[Prior]) -> None:
        super().__init__()
        self.parts = cast(Sequence[Prior], nn.ModuleList(parts))
        self.spaces = tuple(space for part in parts for space in part.spaces)
        known: set[Space] = set()
        outside: dict[Space, None] = {}
        for part in parts:
            for space in part.given:
                if space not in known and space.shape != ():
                    drawn = ", ".join(map(str, known)) or "nothing"
                    raise UserError(f"a prior is given {space}, and the ones before it draw {drawn}: put the coarse ones first")
                outside |= {} if space in known else {space: None}
            known |= set(part.spaces)
        self.given = tuple(outside)

    def log_prob(self, codes: Codes, given: Codes | None = None, random: Random | None = None) -> Tensor:
        return torch.stack([part.log_prob(codes, (given or {}) | codes, random) for part in self.parts]).sum(0)

    def draw(
        self,
        n: int,
        random: Random,
        given: Codes | None = None,
        taste: Taste | None = None,
        keep: Keep | None = None,
        progress: Progress = quiet,
    ) -> Codes:
        found: Codes = {}
        for part in self.parts:
            told = {s.name: value for s in part.given for value in [((given or {}) | found)[s.name]]}
            found |= part.draw(n, random, told, taste, keep, progress)
        return found


class WithPrior(Encodes, Chooses):
    """A model that finds codes, which is kept as it is, and the law of its codes: together they draw.

    Raises: UserError if the law is one of other spaces than the model's.
    """

    def __init__(self, first: Encodes, prior: Prior) -> None:
        super().__init__()
        wanted = code_spaces(first)
        if wanted != prior.spaces:
            mine, its = ("; ".join(map(str, spaces)) for spaces in (wanted, prior.spaces))
            raise UserError(f"the prior is a law of {its}, and the model's codes are {mine}: train one on this model's codes")
        self.first, self.prior = first.requires_grad_(False).eval(), prior
        self.signal, self.spaces = first.signal, first.spaces
        self.told = tuple(dict.fromkeys([*prior.given, *(space for space in first.spaces if space.is_label)]))
        self.classes = {space.name: space.vocabulary or 0 for space in self.told}

    def train(self, mode: bool = True) -> WithPrior:
        """The model itself is never trained here."""
        super().train(mode)
        self.first.eval()
        return self

    def encode(self, x: Tensor) -> Codes:
        return self.first.encode(x)

    def decode(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        return self.first.decode(codes, noise)

    def draw(self, n: int, random: Random, labels: Mapping[str, Tensor] | None = None) -> Codes:
        return self.choose(n, random, labels)

    def choose(
        self,
        n: int,
        random: Random,
        labels: Mapping[str, Tensor] | None = None,
        taste: Taste | None = None,
        keep: Keep | None = None,
        progress: Progress = quiet,
    ) -> Codes:
        told = self._told(n, random, labels)
        given = {space.name: told[space.name] for space in self.prior.given}
        return complete(self, self.prior.draw(n, random, given, taste, keep, progress), told, "the prior")

    def log_prob_of(self, codes: Codes, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        return self.prior.log_prob(codes, {space.name: (labels or {})[space.name] for space in self.prior.given})

    def _told(self, n: int, random: Random, labels: Mapping[str, Tensor] | None) -> Codes:
        """The classes asked for, of the prior and of what is decoded; where none is, every class alike."""
        told = {}
        for space in self.told:
            asked = (labels or {}).get(space.name)
            told[space.name] = random.integers(0, space.vocabulary or 1, (n,)) if asked is None else asked
        check_codes(told, self.told)
        return told


class _ScoringWithPrior(WithPrior, Scores):
    """Also a density of signals: log p(x) >= log p(x | codes) + log p(codes) (van den Oord et al. 2017, section 3.2)."""

    def log_prob(self, x: Tensor, labels: Mapping[str, Tensor] | None = None) -> Likelihood:
        codes = self.first.encode(x)
        kind: Literal["exact", "bound"] = "exact" if isinstance(self.first, Pixels | MuLaw) else "bound"
        assert isinstance(self.first, Explains)
        data = self.first.explain(x, complete(self.first, codes, labels or {}, "the data"))
        prior = self.log_prob_of(codes, labels)
        return Likelihood(data + prior, kind, {"data": data, "prior": prior})


def with_prior(first: Encodes, prior: Prior) -> WithPrior:
    """A model with a law of its codes; one that scores signals, if the model has a law of them given codes, and these can be
    counted: log p(x | codes) + log p(codes) bounds nothing where p(codes) is a density."""
    counted = all(space.vocabulary is not None for space in prior.spaces)
    return _ScoringWithPrior(first, prior) if isinstance(first, Explains) and counted else WithPrior(first, prior)


def recipe(model: WithPrior) -> Recipe:
    """One phase per law: nats per code, given the true codes of those before it. Batches are of codes, or of signals."""
    parts = model.prior.parts if isinstance(model.prior, Chain) else (model.prior,)
    names = ["_".join(space.name.replace(".", "_") for space in part.spaces) for part in parts]

    def loss_of(part: Prior) -> Loss:
        count = sum(math.prod(space.shape) for space in part.spaces)

        def loss(batch: Batch, stage: Stage, random: Random) -> Outcome:
            codes = batch.x if isinstance(batch.x, dict) else model.first.encode(batch.x)
            given = {space.name: batch.labels[space.name] for space in model.prior.given} | codes
            nats = -part.log_prob(codes, given, random).mean()
            return Outcome({"nats_per_code": nats / count}, {"nats": nats})

        return loss

    by_gradient = {name: part for name, part in zip(names, parts, strict=True) if next(part.parameters(), None) is not None}
    return Recipe(
        phases=tuple(
            Phase(name, loss_of(part), (part,), (name,) if name in by_gradient else (), commit=(part.commit,))
            for name, part in zip(names, parts, strict=True)
        ),
        optimizers={name: Adam(list(part.parameters()), part.rate) for name, part in by_gradient.items()},
    )
