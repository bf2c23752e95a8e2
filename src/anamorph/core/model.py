"""What a latent model can do. Tools ask for a capability (`isinstance(model, Encodes)`), never for a class."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.inputs import as_signals
from anamorph.core.prior import InpaintingMask, SamplingOptions, SamplingSettings
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random
from anamorph.core.signal import Batch, Signal
from anamorph.core.signal_methods import SignalMethods
from anamorph.core.space import Codes, Space, check_codes
from anamorph.core.stage import Stage

__all__ = [
    "CAPABILITIES",
    "Capability",
    "Encodes",
    "EncodesPartly",
    "Grows",
    "HasDecoderLikelihood",
    "HasImportanceWeights",
    "HasInverse",
    "HasLikelihood",
    "HasMapping",
    "HasNoise",
    "HasPrior",
    "HasStyles",
    "Labels",
    "LatentModel",
    "LogLikelihood",
    "Noise",
    "Quantity",
    "Samples",
    "UnsupportedOperation",
    "capability_names",
    "chunk_size",
    "code_space",
    "code_spaces",
    "decode_in_chunks",
    "device_of",
    "encode_in_chunks",
    "level_of",
    "nats_per_code",
    "public_name",
    "require",
]

CHUNK_VALUES = 1 << 24
"""Numbers processed at once where a batch may be split: 64 images of 256x256, 5 of 1024x1024."""

CODE_CHUNK = 64
"""Examples whose code probabilities are computed at once."""

C = TypeVar("C", bound="LatentModel")

Noise = Literal["fixed", "off"] | Random
"""fixed: the same answer for the same codes. off: the paper's own path without noise. Random: a sample of p(x | codes)."""

Labels = Mapping[str, Tensor]
"""A class per example [B], by the label's name."""

Quantity = Literal["probability", "density"]
"""What a likelihood is of: probabilities of 8-bit values (or of two), or a density of numbers in [-1, 1]."""


@dataclass(frozen=True)
class LogLikelihood:
    """Log-likelihoods of a batch.

    Args:
        nats: one number per example [B].
        kind: whether they are exact or a lower bound.
        quantity: probabilities of 8-bit values, or a density of numbers in [-1, 1], of which 256 lie 2 / 255 apart.
        terms: what they are the sum of, by name, each [B].
    """

    nats: Tensor
    kind: Literal["exact", "bound"]
    quantity: Quantity
    terms: Mapping[str, Tensor] = field(default_factory=dict)


class LatentModel(SignalMethods, ABC):
    """Decodes codes of its spaces into signals.

    Args:
        signal: what it is a model of.
        spaces: the variables that `decode` reads.
        classes: the labels that it is trained with, and the number of classes of each.
    """

    signal: Signal
    spaces: tuple[Space, ...]
    classes: Mapping[str, int] = MappingProxyType({})

    def decode(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        """Decode codes into signals [B, *signal.shape] in [-1, 1] (not clamped).

        Raises:
            UserError: if the codes do not fit the model's spaces.
        """
        check_codes(codes, self.spaces, values=not torch.compiler.is_compiling())
        return self._decode(codes, noise)

    @abstractmethod
    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        """Decode codes that are known to fit."""

    def likelihood_input(self, x: Tensor, random: Random) -> Tensor:
        """Return signals as the model's likelihood is defined on them; most models take them as they are."""
        return x


class EncodesPartly(LatentModel):
    """Also infers the codes of some of its spaces, as the recognition network of an InfoGAN does."""

    inferred: tuple[str, ...]
    """Names of the spaces whose codes `encode` gives."""

    def encode(self, x: Any, labels: Labels | None = None) -> Codes:
        """Encode one or several signals into codes, one tensor per inferred space.

        Args:
            x: signals [B, *signal.shape] in [-1, 1], or whatever `anamorph.core.inputs.as_signals` takes.
            labels: the class of each signal, for a model whose encoder is conditioned on it.

        Raises:
            UserError: for signals of another size or range.
        """
        device = device_of(self, x)
        labels = {name: value.to(device) for name, value in (labels or {}).items()}
        return self._encode(as_signals(x, self.signal, device), labels)

    @abstractmethod
    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        """Encode signals that are known to fit."""


class Encodes(EncodesPartly):
    """Also infers the codes of all its latent spaces; labels come from the data (`add_labels`), noise from nowhere."""

    @property
    def inferred(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(space.name for space in code_spaces(self))


class HasInverse(Encodes):
    """Its encoder is the exact inverse of its decoder, as in a normalising flow."""


class Samples(LatentModel):
    """Also has a distribution over its codes, and so over signals."""

    @abstractmethod
    def sample_codes(self, n: int, random: Random, labels: Labels | None = None) -> Codes:
        """Sample the codes of n signals."""


class HasMapping(Samples):
    """Samples by mapping noise z to the codes that are decoded (w)."""

    z_space: Space

    @abstractmethod
    def map(self, z: Tensor, labels: Labels | None = None) -> Codes:
        """Map noise z [B, *z_space.shape] to codes."""

    @property
    @abstractmethod
    def w_mean(self) -> Codes:
        """The tracked mean of mapped codes, each [*space.shape]; truncation moves codes towards it."""


class HasStyles(LatentModel):
    """Has affine layers that turn codes into styles."""

    @abstractmethod
    def style_weights(self) -> list[Tensor]:
        """Return one matrix [styles, D] per layer, for directions in closed form."""


class HasNoise(LatentModel):
    """Also reads noise maps, which `decode` has an answer without."""

    @property
    @abstractmethod
    def fixed_noise(self) -> Codes:
        """The maps [1, 1, h, w] that are used where none are given, by the name of their space, the coarsest first."""


class HasDecoderLikelihood(LatentModel):
    """Also has a distribution of signals given codes."""

    quantity: Quantity

    @abstractmethod
    def decoder_log_likelihood(self, x: Tensor, codes: Codes) -> Tensor:
        """Compute log p(x | codes) [B] in nats."""


class HasPrior(Samples):
    """Has a learned prior over its codes: sampling can be restricted to likely ones, and some codes can be given."""

    def sample_codes(
        self,
        n: int,
        random: Random,
        labels: Labels | None = None,
        settings: SamplingSettings | None = None,
        mask: InpaintingMask | None = None,
        progress: Progress = no_progress,
    ) -> Codes:
        """Sample the codes of n signals, by some settings; where a mask keeps codes, the others are sampled given those."""
        return self._sample_codes(n, random, labels or {}, SamplingOptions(settings or SamplingSettings(), mask, progress))

    @abstractmethod
    def _sample_codes(self, n: int, random: Random, labels: Labels, options: SamplingOptions) -> Codes:
        """Sample the codes of n signals, by some options."""

    @abstractmethod
    def code_log_prob(self, codes: Codes, labels: Labels | None = None) -> Tensor:
        """Compute the log-probabilities (or densities) [B] of codes, in nats."""


class HasLikelihood(LatentModel):
    """Also has a likelihood of signals."""

    @abstractmethod
    def log_prob(self, x: Tensor, labels: Labels | None = None, random: Random | None = None) -> LogLikelihood:
        """Compute the log-likelihoods [B] of signals.

        Args:
            x: signals [B, *signal.shape] in [-1, 1].
            labels: the class of each, for a conditional model.
            random: for models of a density, to spread 8-bit values over their interval (uniform dequantisation, Theis et al.
                2016, arXiv:1511.01844, section 3.1), and for bounds that are estimated.
        """


class HasImportanceWeights(LatentModel):
    """Also has importance weights, from which the ELBO and the IWAE bound follow."""

    quantity: Quantity

    @abstractmethod
    def importance_log_weights(self, x: Tensor, k: int, random: Random, labels: Labels | None = None) -> Tensor:
        """Compute log p(x, z) - log q(z | x) [B, k] in nats, for k samples z of q(z | x)."""

    def closed_form_kl(self, x: Tensor, labels: Labels | None = None) -> Tensor | None:
        """Return KL(q(z | x) || p(z)) [B] in nats, where it has a closed form; None otherwise."""
        return None


class Grows(LatentModel):
    """Can be viewed at one level of resolution."""

    @abstractmethod
    def at(self, stage: Stage) -> LatentModel:
        """Return a view with that level's signal and spaces; nothing is changed."""


@dataclass(frozen=True)
class Capability:
    """What a model may be able to do.

    Args:
        name: in lists and in JSON.
        phrase: how a message says that a model has it.
    """

    name: str
    phrase: str


CAPABILITIES: dict[type[LatentModel], Capability] = {
    Encodes: Capability("encode", "encodes"),
    EncodesPartly: Capability("encode partly", "encodes at least a part of its codes"),
    HasInverse: Capability("inverse", "has an exact inverse"),
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


def _capabilities(model: LatentModel) -> list[Capability]:
    """Return the capabilities of a model, of which one that follows from another is left out."""
    implied = {EncodesPartly} if isinstance(model, Encodes) else set[type[LatentModel]]()
    return [known for capability, known in CAPABILITIES.items() if isinstance(model, capability) and capability not in implied]


def capability_names(model: LatentModel) -> list[str]:
    """List what a model can do beside decoding."""
    return [known.name for known in _capabilities(model)]


def chunk_size(model: LatentModel) -> int:
    """Return how many signals are processed at once where a batch may be split."""
    return max(1, CHUNK_VALUES // math.prod(model.signal.shape))


def decode_in_chunks(model: LatentModel, codes: Codes, noise: Literal["fixed", "off"] = "fixed") -> Tensor:
    """Decode a few codes at a time where signals are large, so that many of them fit into memory."""
    n, most = len(next(iter(codes.values()))), chunk_size(model)
    chunks = [{name: code[start : start + most] for name, code in codes.items()} for start in range(0, n, most)]
    return torch.cat([model.decode(chunk, noise) for chunk in chunks])


def encode_in_chunks(model: EncodesPartly, x: Tensor, labels: Labels | None = None) -> Codes:
    """Encode a few signals at a time where they are large."""
    most = chunk_size(model)
    chunks = [
        model.encode(x[start : start + most], {name: value[start : start + most] for name, value in (labels or {}).items()})
        for start in range(0, len(x), most)
    ]
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}


@torch.no_grad()
def nats_per_code(model: HasPrior, batch: Batch) -> Tensor:
    """Compute the mean cost of a code in each example [B] of a batch of codes or of signals, under the model's prior."""
    if isinstance(batch.x, dict):
        codes = batch.x
    else:
        codes = encode_in_chunks(require(model, Encodes, "the cost of codes"), batch.x, batch.labels)
    chunks = [
        model.code_log_prob(*({name: v[i : i + CODE_CHUNK] for name, v in part.items()} for part in (codes, batch.labels)))
        for i in range(0, len(batch), CODE_CHUNK)
    ]
    return -torch.cat(chunks) / sum(value[0].numel() for value in codes.values())


def code_space(model: LatentModel) -> Space:
    """Return the space that tools edit: the first latent one that is needed, a real one where there is one."""
    needed = code_spaces(model)
    return next((space for space in needed if space.is_real), needed[0])


def code_spaces(model: LatentModel) -> tuple[Space, ...]:
    """Return the spaces that the codes of a signal fill and that a prior is a distribution over: no labels, no noise."""
    return tuple(space for space in model.spaces if space.role == "latent" and not space.optional)


def device_of(model: nn.Module, like: Any = None) -> torch.device:
    """Return the device of a model's tensors; that of `like`, if the model has none."""
    tensor = next(model.parameters(), next(model.buffers(), like))
    return tensor.device if isinstance(tensor, Tensor) else torch.device("cpu")


def level_of(model: LatentModel, full: Signal) -> int:
    """Return how many times a signal of full size is halved for a model that has not grown to it."""
    return (int(full.shape[-1]) // int(model.signal.shape[-1])).bit_length() - 1


def require(model: LatentModel, capability: type[C], purpose: str) -> C:
    """Return the model, known to have a capability.

    Raises:
        UnsupportedOperation: names the capability that is missing, and what it is needed for.
    """
    if not isinstance(model, capability):
        has = ", ".join(known.phrase for known in _capabilities(model)) or "decodes"
        message = f"{purpose} needs a model that {CAPABILITIES[capability].phrase}; {public_name(model)} only {has}"
        if capability in (Samples, HasPrior) and isinstance(model, Encodes) and not isinstance(model, HasPrior):
            message += ": train a prior over its codes (codes_of, on the command line --codes-of), which does"
        raise UnsupportedOperation(message, capability)
    return model


def public_name(model: LatentModel) -> str:
    """Return the name of a model's class, or of the public one that a private class specialises."""
    return next(c.__name__ for c in type(model).__mro__ if not c.__name__.startswith("_"))


class UnsupportedOperation(UserError):
    """A model lacks the capability that an operation needs."""

    def __init__(self, message: str, capability: type[LatentModel]) -> None:
        super().__init__(message)
        self.capability = capability
