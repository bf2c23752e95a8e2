"""What a latent model can do. Tools ask for a capability (`isinstance(model, Encodes)`), never for a class."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.prior import InpaintingMask, SamplingSettings
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random
from anamorph.core.signal import Batch, Signal
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage

__all__ = [
    "CAPABILITIES",
    "Capability",
    "Encodes",
    "Grows",
    "HasDecoderLikelihood",
    "HasImportanceWeights",
    "HasLikelihood",
    "HasMapping",
    "HasNoise",
    "HasPrior",
    "HasStyles",
    "LatentModel",
    "LogLikelihood",
    "Noise",
    "Samples",
    "UnsupportedOperation",
    "capability_names",
    "chunk_size",
    "code_space",
    "code_spaces",
    "decode_in_chunks",
    "encode_in_chunks",
    "level_of",
    "nats_per_code",
    "public_name",
    "require",
]

CHUNK_VALUES = 1 << 24
"""That are worked on at a time where parts will do: 64 images of 256x256, 5 of 1024x1024."""

CODE_CHUNK = 64
"""Examples of which a law of codes is asked at a time."""

C = TypeVar("C", bound="LatentModel")

Noise = Literal["fixed", "off"] | Random
"""fixed: the same answer for the same codes. off: the paper's own path without noise. Random: a sample of p(x | codes)."""


@dataclass(frozen=True)
class LogLikelihood:
    """Log-likelihoods in nats [B], the terms they are the sum of, and whether they are exact or a lower bound."""

    nats: Tensor
    kind: Literal["exact", "bound"]
    terms: Mapping[str, Tensor] = field(default_factory=dict)


class LatentModel(nn.Module, ABC):
    """Decodes codes of its spaces into signals. classes: of each label that it is trained with, how many it knows."""

    signal: Signal
    spaces: tuple[Space, ...]
    classes: Mapping[str, int] = MappingProxyType({})

    @abstractmethod
    def decode(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        """Signals [B, *signal.shape] in [-1, 1] (not clamped) from codes."""


class Encodes(LatentModel):
    """Also finds the codes of signals."""

    @abstractmethod
    def encode(self, x: Tensor) -> Codes:
        """Codes of signals [B, *signal.shape] in [-1, 1], one tensor per space but for labels, which `complete` adds."""


class Samples(LatentModel):
    """Also has a law over its codes, and so over signals."""

    @abstractmethod
    def sample(self, n: int, random: Random, labels: Mapping[str, Tensor] | None = None) -> Codes:
        """Codes of n fresh samples."""


class HasMapping(Samples):
    """Draws by mapping a prior space (z) to the space that is decoded (w)."""

    z_space: Space

    @abstractmethod
    def map(self, z: Tensor, labels: Mapping[str, Tensor] | None = None) -> Codes:
        """Codes from z [B, *prior.shape]."""

    @property
    @abstractmethod
    def w_mean(self) -> Codes:
        """The tracked mean of mapped codes, each [*space.shape]; truncation moves codes towards it."""


class HasStyles(LatentModel):
    """Has affine layers that turn codes into styles."""

    @abstractmethod
    def style_weights(self) -> list[Tensor]:
        """One matrix [styles, D] per layer, for closed-form directions."""


class HasNoise(LatentModel):
    """Also reads noise maps, which `decode` has an answer without."""

    @property
    @abstractmethod
    def fixed_noise(self) -> Codes:
        """The maps [1, 1, h, w] that are used where none are given, by the name of their space, the coarsest first."""


class HasDecoderLikelihood(LatentModel):
    """Also has a law of signals given codes."""

    @abstractmethod
    def decoder_log_likelihood(self, x: Tensor, codes: Codes) -> Tensor:
        """log p(x | codes) [B] in nats."""


class HasPrior(Samples):
    """Draws codes one after another, so that likelier ones can be preferred, and some can be kept."""

    @abstractmethod
    def sample(
        self,
        n: int,
        random: Random,
        labels: Mapping[str, Tensor] | None = None,
        settings: SamplingSettings | None = None,
        mask: InpaintingMask | None = None,
        progress: Progress = no_progress,
    ) -> Codes:
        """Codes of n samples, by the taste that is given; those to keep are kept, and the others drawn anew."""

    @abstractmethod
    def code_log_prob(self, codes: Codes, labels: Mapping[str, Tensor] | None = None) -> Tensor:
        """Log-probabilities [B] of codes in nats."""


class HasLikelihood(LatentModel):
    """Also has a likelihood of signals."""

    @abstractmethod
    def log_prob(self, x: Tensor, labels: Mapping[str, Tensor] | None = None) -> LogLikelihood:
        """Log-likelihoods [B] of signals."""


class HasImportanceWeights(LatentModel):
    """Also has importance weights, from which the ELBO and the IWAE bound follow."""

    @abstractmethod
    def importance_log_weights(self, x: Tensor, k: int, random: Random) -> Tensor:
        """log p(x, z) - log q(z | x) [B, k] in nats, for k samples z of q(z | x)."""


class Grows(LatentModel):
    """Can be viewed at one level of resolution."""

    @abstractmethod
    def at(self, stage: Stage) -> LatentModel:
        """A view with that level's signal and spaces; nothing is changed."""


@dataclass(frozen=True)
class Capability:
    """What a model may be able to do. name: in lists and in JSON. phrase: what a message says of a model that can."""

    name: str
    phrase: str


CAPABILITIES: dict[type[LatentModel], Capability] = {
    Encodes: Capability("encode", "encodes"),
    Samples: Capability("sample", "samples"),
    HasPrior: Capability("prior", "has a prior over its codes"),
    HasMapping: Capability("map", "maps noise to codes"),
    HasStyles: Capability("styles", "has styles"),
    HasNoise: Capability("noise", "has noise maps"),
    HasDecoderLikelihood: Capability("decoder likelihood", "has a likelihood given codes"),
    HasLikelihood: Capability("likelihood", "has a likelihood"),
    HasImportanceWeights: Capability("importance weights", "has importance weights"),
    Grows: Capability("grow", "grows"),
}


def capability_names(model: LatentModel) -> list[str]:
    """What a model can do beside decoding."""
    return [known.name for capability, known in CAPABILITIES.items() if isinstance(model, capability)]


def chunk_size(model: LatentModel) -> int:
    """How many signals are worked on at once where parts will do."""
    return max(1, CHUNK_VALUES // math.prod(model.signal.shape))


def decode_in_chunks(model: LatentModel, codes: Codes, noise: Literal["fixed", "off"] = "fixed") -> Tensor:
    """As `decode`, a few at a time where signals are large, so that many of them fit into memory."""
    n, most = len(next(iter(codes.values()))), chunk_size(model)
    parts = [{name: code[start : start + most] for name, code in codes.items()} for start in range(0, n, most)]
    return torch.cat([model.decode(part, noise) for part in parts])


def encode_in_chunks(model: Encodes, x: Tensor) -> Codes:
    """As `encode`, a few at a time where signals are large."""
    parts = [model.encode(part) for part in x.split(chunk_size(model))]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def nats_per_code(model: HasPrior, batch: Batch) -> Tensor:
    """What a code costs in each example [B] of a batch of codes or of signals, under the law that codes are drawn from."""
    codes = batch.x if isinstance(batch.x, dict) else encode_in_chunks(require(model, Encodes, "what codes cost"), batch.x)
    parts = [
        model.code_log_prob(*({name: v[i : i + CODE_CHUNK] for name, v in part.items()} for part in (codes, batch.labels)))
        for i in range(0, len(batch), CODE_CHUNK)
    ]
    return -torch.cat(parts) / sum(value[0].numel() for value in codes.values())


def code_space(model: LatentModel) -> Space:
    """The first space that `decode` cannot do without: the one that tools edit."""
    return next(space for space in model.spaces if not space.optional)


def code_spaces(model: LatentModel) -> tuple[Space, ...]:
    """The spaces that codes of a signal fill, and that a prior is a law of: no labels, nothing that `decode` can do without."""
    return tuple(space for space in model.spaces if not space.optional and not space.is_label)


def level_of(model: LatentModel, full: Signal) -> int:
    """How many times a signal of full size has to be halved for a model that has not grown to it."""
    return (int(full.shape[-1]) // int(model.signal.shape[-1])).bit_length() - 1


def require(model: LatentModel, capability: type[C], purpose: str) -> C:
    """The model, known to have a capability.

    Raises: Lacking, naming the capability that is missing, and what it was wanted for.
    """
    if not isinstance(model, capability):
        has = [known.phrase for c, known in CAPABILITIES.items() if isinstance(model, c)]
        raise UnsupportedOperation(
            f"{purpose} needs a model that {CAPABILITIES[capability].phrase}; "
            f"{public_name(model)} only {', '.join(has) or 'decodes'}",
            capability,
        )
    return model


def public_name(model: LatentModel) -> str:
    """The name of a model's class, or of the public one that a private class specialises."""
    return next(c.__name__ for c in type(model).__mro__ if not c.__name__.startswith("_"))


class UnsupportedOperation(UserError):
    """A model lacks a capability."""

    def __init__(self, message: str, capability: type[LatentModel]) -> None:
        super().__init__(message)
        self.capability = capability
