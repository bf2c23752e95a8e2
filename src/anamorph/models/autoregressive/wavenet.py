"""WaveNet: each code of a sequence given those before it, by gated dilated causal convolutions.

van den Oord et al. 2016, "WaveNet: A Generative Model for Raw Audio", arXiv:1609.03499, equations 1 and 2: over
samples (quantised by `MuLaw`) and, as in van den Oord et al. 2017, arXiv:1711.00937, section 4.3, over the codes of a model of
sounds. Of several maps, each is given those before it at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from anamorph.core.config import check
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space
from anamorph.models.autoregressive.common import Autoregressive, require_sequence
from anamorph.models.autoregressive.conditioning import Conditioning
from anamorph.nn.incremental import IncrementalDecoder
from anamorph.nn.wavenet_decoder import WaveNetDecoder
from anamorph.nn.wavenet_layers import WaveNetNetwork, WaveNetSizes

__all__ = ["WaveNet", "WaveNetConfig"]


@dataclass(frozen=True)
class WaveNetConfig:
    """Sizes, and how codes are distributed."""

    network: WaveNetSizes = WaveNetSizes()
    mixture_components: int = 0
    """Components of a mixture of logistics over codes that are numbers, such as amplitudes; 0: a logit for each code."""
    condition_channels: int = 32
    """Channels of the features of coarser codes on which it is conditioned, if there are any."""
    num_classes: int = 0
    """Number of classes on which it is conditioned; 0: none."""
    label: str = "class"
    """Name of the label that holds the class."""
    learning_rate: float = 0.0003
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "condition_channels")
        check(self, "above 0", "learning_rate")
        check(self, "at least 0", "num_classes", "mixture_components")


class WaveNet(Autoregressive):
    """A distribution over codes [B, maps, T] or [B, T], conditioned on a class and on coarser codes, if there are any."""

    def __init__(self, spaces: Sequence[Space], conditions: Sequence[Space], config: WaveNetConfig) -> None:
        super().__init__()
        sequence = require_sequence(spaces)
        self.space, self.config, self.learning_rate = spaces[0], config, config.learning_rate
        self.spaces, self.conditions = tuple(spaces), tuple(conditions)
        c, (maps, self.length) = config, sequence.shape
        grids = [replace(g, shape=(1, *g.shape)) if len(g.shape) == 1 else g for g in conditions]
        self.conditioning = Conditioning(
            sequence, grids, lambda inputs: _condition_net(inputs, c.condition_channels), coarse=True
        )
        self.net = WaveNetNetwork(
            maps,
            sequence.num_codes or 0,
            c.network,
            num_classes=self.conditioning.num_classes,
            condition_channels=c.condition_channels if self.conditioning.grids else 0,
            mixture_components=c.mixture_components,
            ordered=sequence.ordered,
        )

    def logits(self, ids: Tensor, condition: Codes, random: Random | None = None) -> Tensor:
        return self.net.logits(self._out(ids, condition, random)).view(*ids.shape, -1)

    def log_prob(self, codes: Codes, condition: Codes | None = None, random: Random | None = None) -> Tensor:
        """Compute log-probabilities as any prior; of a mixture, without those of other codes."""
        ids = codes[self.space.name]
        return self.net.log_prob(self._as_maps(ids), self._out(ids, condition or {}, random))

    def decoder(self, n: int, condition: Codes) -> IncrementalDecoder:
        return WaveNetDecoder(self.net, n, self.length, *self._conditions(condition))

    def _out(self, ids: Tensor, condition: Codes, random: Random | None) -> Tensor:
        out: Tensor = self.net(self._as_maps(ids), *self._conditions(condition), random)
        return out

    def _as_maps(self, ids: Tensor) -> Tensor:
        return ids.view(len(ids), -1, self.length)

    def _conditions(self, condition: Codes) -> tuple[Tensor | None, Tensor | None]:
        """Return the class [B], and the features of coarser codes [B, condition_channels, frames]."""
        known = {name: value.unsqueeze(1) if value.dim() == 2 else value for name, value in condition.items()}
        return self.conditioning.label(known), self.conditioning(known)


def _condition_net(inputs: int, width: int) -> nn.Module:
    """Build the network that reads coarser codes; it need not be causal."""
    return nn.Sequential(nn.Conv1d(inputs, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, width, 3, padding=1))
