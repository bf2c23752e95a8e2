"""WaveNet: each code of a sequence from those before it, by gated convolutions whose taps lie ever further apart.

van den Oord et al. 2016, "WaveNet: A Generative Model for Raw Audio", arXiv:1609.03499: over samples (`MuLaw` makes codes of
them), and, as in van den Oord et al. 2017, arXiv:1711.00937, section 4.2, over the codes of a model of sounds. Of several maps,
each sees those before it at its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from anamorph.core.config import check
from anamorph.core.random import Random
from anamorph.core.space import Codes, Space
from anamorph.nn.dilated import DilatedConfig, DilatedNet
from anamorph.nn.dilated_walk import NetWalk
from anamorph.nn.walk import Walk
from anamorph.priors.autoregressive import Autoregressive, sequence_of
from anamorph.priors.told import Told

__all__ = ["WaveNet", "WaveNetConfig"]


@dataclass(frozen=True)
class WaveNetConfig:
    """Sizes, and what codes are."""

    net: DilatedConfig = DilatedConfig()
    components: int = 0
    """Codes are numbers, such as amplitudes, under a mixture of so many logistics; 0: names, of which each has a logit."""
    told: int = 32
    """Channels of what a coarser level of codes tells, where there is one."""
    classes: int = 0
    """Draw codes of a class: how many there are; 0: without classes."""
    label: str = "class"
    """The label that holds the class."""
    rate: float = 0.0003
    """Adam's learning rate."""

    def __post_init__(self) -> None:
        check(self, "at least 1", "told")
        check(self, "above 0", "rate")
        check(self, "at least 0", "classes", "components")


class WaveNet(Autoregressive):
    """log p(ids) of ids [B, maps, T] or [B, T], given a class and a coarser level of codes, where there are such."""

    def __init__(self, spaces: Sequence[Space], given: Sequence[Space], config: WaveNetConfig) -> None:
        super().__init__()
        sequence = sequence_of(spaces)
        self.space, self.config, self.rate = spaces[0], config, config.rate
        self.spaces, self.given = tuple(spaces), tuple(given)
        c, (maps, self.places) = config, sequence.shape
        grids = [replace(g, shape=(1, *g.shape)) if len(g.shape) == 1 else g for g in given]
        self.told = Told(sequence, grids, lambda inputs: _reader(inputs, c.told), coarse=True)
        self.net = DilatedNet(
            maps,
            sequence.vocabulary or 0,
            c.net,
            classes=self.told.classes,
            told=c.told if self.told.grids else 0,
            components=c.components,
            ordered=sequence.ordered,
        )

    def logits(self, ids: Tensor, given: Codes, random: Random | None = None) -> Tensor:
        return self.net.logits(self._out(ids, given, random)).view(*ids.shape, -1)

    def log_prob(self, codes: Codes, given: Codes | None = None, random: Random | None = None) -> Tensor:
        """As of any such law; of a mixture, only what is asked for is computed."""
        ids = codes[self.space.name]
        return self.net.log_prob(self._as_maps(ids), self._out(ids, given or {}, random))

    def walk(self, n: int, given: Codes) -> Walk:
        return NetWalk(self.net, n, self.places, *self._told(given))

    def _out(self, ids: Tensor, given: Codes, random: Random | None) -> Tensor:
        out: Tensor = self.net(self._as_maps(ids), *self._told(given), random)
        return out

    def _as_maps(self, ids: Tensor) -> Tensor:
        return ids.view(len(ids), -1, self.places)

    def _told(self, given: Codes) -> tuple[Tensor | None, Tensor | None]:
        """The class [B], and features [B, told, frames]."""
        known = {name: value.unsqueeze(1) if value.dim() == 2 else value for name, value in given.items()}
        return self.told.label(known), self.told(known)


def _reader(inputs: int, width: int) -> nn.Module:
    """What reads a coarser level of codes: it may look ahead."""
    return nn.Sequential(nn.Conv1d(inputs, width, 3, padding=1), nn.ReLU(), nn.Conv1d(width, width, 3, padding=1))
