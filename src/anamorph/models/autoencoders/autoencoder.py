"""A plain autoencoder trained with squared error: the baseline for every model that reconstructs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from anamorph.core.config import check
from anamorph.core.model import Encodes, Labels, Noise
from anamorph.core.optimizer import SPIKE_CLIP, Adam
from anamorph.core.random import Random
from anamorph.core.recipe import LossOutput, Phase, Recipe
from anamorph.core.signal import Batch, Signal
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.nn.mlp import MLP, leaky
from anamorph.nn.value_ranges import from_range, to_range

__all__ = ["Autoencoder", "AutoencoderConfig", "recipe"]


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes. The networks are those of `alae`'s E and G, with a linear code."""

    z_dim: int = 50
    """Features of the code."""
    width: int = 1024
    """Units in each hidden layer."""
    encoder_slope: float = 0.2
    """Slope of the leaky ReLU of the encoder's hidden layers."""
    decoder_slope: float = 0.01
    """Slope of the leaky ReLU of the decoder's hidden layers."""
    learning_rate: float = 0.0005
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "z_dim", "width")
        check(self, "above 0", "learning_rate")


class Autoencoder(Encodes):
    """Maps images [B, C, H, W] or sounds [B, C, T] in [-1, 1] to z [B, z_dim] and back; it has no distribution of z.

    Both networks see values in [0, 1].
    """

    def __init__(self, signal: Signal, config: AutoencoderConfig) -> None:
        super().__init__()
        self.signal, self.config = signal, config
        c = config
        self.spaces = (Space("z", (c.z_dim,)),)
        self.encoder = MLP([signal.num_values, c.width, c.width, c.z_dim], leaky(c.encoder_slope))
        self.decoder = MLP([c.z_dim, c.width, c.width, signal.num_values], leaky(c.decoder_slope))

    def _encode(self, x: Tensor, labels: Labels) -> Codes:
        return {"z": self.encoder(to_range(x, "unit").flatten(1)).float()}

    def features(self, x: Tensor) -> Tensor:
        """Return the encoder's last hidden activation [B, width] of signals in [-1, 1]."""
        return self.encoder.hidden(to_range(x, "unit").flatten(1)).float()

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        return from_range(self.decoder(codes["z"]).float().unflatten(1, self.signal.shape), "unit")


def recipe(model: Autoencoder) -> Recipe:
    """One phase: the mean squared error of values in [0, 1]."""

    def reconstruction(batch: Batch, stage: Stage, random: Random) -> LossOutput:
        reconstruction = model.decode(model.encode(batch.signals))
        return LossOutput(
            {"squared_error": (to_range(reconstruction, "unit") - to_range(batch.signals, "unit")).square().mean()}
        )

    return Recipe(
        phases=(Phase("reconstruction", reconstruction, trains=(model,), optimizers=("adam",)),),
        optimizers={"adam": Adam(list(model.parameters()), model.config.learning_rate, clip=SPIKE_CLIP)},
    )
