"""The base of models with a mapping network and a style-based synthesis network: z -> w -> image, at any level."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from anamorph.core.model import Grows, HasMapping, HasNoise, HasStyles, Labels, Noise
from anamorph.core.random import Random
from anamorph.core.signal import Batch, Image
from anamorph.core.space import Codes, Space
from anamorph.core.stage import Stage
from anamorph.nn.mapping_network import MappingNetwork, mix_styles
from anamorph.nn.running_stats import RunningMean
from anamorph.nn.synthesis import Synthesis

__all__ = ["Generated", "StyleBased"]


@dataclass(frozen=True)
class Generated:
    """Images [B, C, H, W] generated for a training step, their z [B, Z], and their w [B, D] before style mixing."""

    image: Tensor
    z: Tensor
    w: Tensor


class StyleBased(HasMapping, HasStyles, HasNoise, Grows):
    """Maps z [B, Z] ~ N(0, I) to styles w [B, L, D], two per resolution; these and noise maps to images [B, C, H, W].

    Args:
        mapping: network from z to w.
        synthesis: network from styles and noise maps to images.
        z_dim: Z.
        w_dim: D.
        mean_beta: decay of the tracked mean of w, in [0, 1).
        label: name of the label whose class conditions the mapping network, if it is conditioned.
    """

    signal: Image

    def __init__(
        self, mapping: MappingNetwork, synthesis: Synthesis, z_dim: int, w_dim: int, mean_beta: float, label: str = ""
    ) -> None:
        super().__init__()
        self.signal, self.stage, self.label = synthesis.image, Stage(0, 1), label
        self.mapping, self.synthesis = mapping, synthesis
        self.layers = 2 * synthesis.blocks
        self.w_mean_tracker = RunningMean(self.layers, w_dim, beta=mean_beta)
        self.z_space = Space("z", (z_dim,))
        self.classes = {} if mapping.embedding is None else {label: len(mapping.embedding)}
        self.spaces = (Space("w", (self.layers, w_dim), layered=True), *synthesis.noise_spaces)

    @property
    def w_mean(self) -> Codes:
        return {"w": self.w_mean_tracker.mean[: self.layers]}

    def map(self, z: Tensor, labels: Labels | None = None) -> Codes:
        w = self.mapping(z, self.classes_of(len(z), labels))
        return {"w": w.unsqueeze(1).expand(-1, self.layers, -1)}

    def sample_codes(self, n: int, random: Random, labels: Labels | None = None) -> Codes:
        return self.map(random.normal(n, *self.z_space.shape), labels)

    def decode(self, codes: Codes, noise: Noise = "fixed") -> Tensor:
        """Decode codes; those of a larger level are cut to the layers of this one."""
        known = {space.name for space in self.spaces}
        codes = {name: code for name, code in codes.items() if name in known or not name.startswith("noise.")}
        if "w" in codes:
            codes["w"] = codes["w"][:, : self.layers]
        return super().decode(codes, noise)

    def _decode(self, codes: Codes, noise: Noise) -> Tensor:
        """Return images at the level of this view, from w and any noise maps that are given."""
        maps = self.synthesis.noise(len(codes["w"]), noise, self.stage.level, codes)
        return self.synthesis(codes["w"], maps, self.stage.level, self.stage.alpha)

    def generate(self, batch: Batch, stage: Stage, random: Random, mixing_prob: float, max_crossover: int) -> Generated:
        """Generate as many images as a batch has, at a stage; their w is gathered for the tracked mean.

        Args:
            batch: gives the number of images, and their labels.
            stage: level and alpha.
            random: for z, style mixing and noise maps.
            mixing_prob: probability of style mixing.
            max_crossover: the last layer at which the second w may begin.
        """
        n = len(batch)
        z = random.normal(n, *self.z_space.shape)
        w = self.map(z, batch.labels)["w"]
        unmixed = w[:, 0]
        self.w_mean_tracker.gather(w)
        if mixing_prob:
            w = mix_styles(w, self.sample_codes(n, random, batch.labels)["w"], random, mixing_prob, max_crossover)
        noise = self.synthesis.noise(n, random, stage.level)
        return Generated(self.synthesis(w, noise, stage.level, stage.alpha), z, unmixed)

    def at(self, stage: Stage) -> Self:
        """Return a view of the model at one level, which shares its weights."""
        view = copy.copy(self)
        view.stage, view.signal, view.layers = stage, self.synthesis.image.at(stage.level), self.layers_at(stage.level)
        w = replace(self.spaces[0], shape=(view.layers, *self.spaces[0].shape[1:]))
        view.spaces = (w, *self.synthesis.noise_spaces[: view.layers])
        return view

    def layers_at(self, level: int) -> int:
        """Return the number of layers that generate images of a level."""
        return 2 * (self.synthesis.blocks - level)

    @property
    def fixed_noise(self) -> Codes:
        names = [space.name for space in self.spaces if space.role == "noise"]
        return {name: getattr(self.synthesis, name.replace(".", "_")) for name in names}

    def style_weights(self) -> list[Tensor]:
        return self.synthesis.style_weights()[: self.layers]

    def classes_of(self, n: int, labels: Labels | None) -> Tensor | None:
        """Return the class of each of n images [n], each class in turn where none is given; None without classes."""
        if self.mapping.embedding is None:
            return None
        if labels and self.label in labels:
            return labels[self.label]
        return torch.arange(n, device=self.mapping.embedding.device) % len(self.mapping.embedding)
