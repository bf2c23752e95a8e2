"""Checkpoints of the PixelSNAIL priors that go with that VQ-VAE-2 (github.com/rosinality/vq-vae-2-pytorch, pixelsnail.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from anamorph.core.errors import UserError
from anamorph.core.model import Encodes, require
from anamorph.core.signal import Image
from anamorph.core.space import Space
from anamorph.interop.import_vqvae2 import state_dict
from anamorph.interop.imported_run import Imported
from anamorph.interop.load_tensors import TensorTarget, load_tensors
from anamorph.interop.pickles import read_pickle
from anamorph.models.autoregressive.pixelsnail import PixelSNAIL, PixelSNAILConfig
from anamorph.models.two_stage import ChainedPrior, two_stage
from anamorph.nn.masked import WeightNormConv
from anamorph.runs import load

__all__ = ["read_pixelsnail", "read_priors", "tensor_targets"]

MOST_PLACES = 1 << 16
"""Of a grid that attends."""


def tensor_targets(net: PixelSNAIL) -> dict[str, TensorTarget]:
    """Return where the tensors of a file belong, by name."""
    found = _conv("horizontal.conv.conv", net.above) | _conv("vertical.conv.conv", net.left)
    found |= _conv(f"out.{len(net.head) + 1}.conv", net.last)
    for i, gated in enumerate(net.head):
        found |= _gated(f"out.{i}", gated, "conv")
    for i, block in enumerate(net.blocks):
        here = f"blocks.{i}"
        for j, gated in enumerate(block.residual):
            found |= _gated(f"{here}.resblocks.{j}", gated, "conv.conv")
        if block.attends:
            for name, part in (("key", block.keys), ("query", block.query), ("out", block.out)):
                found |= _gated(f"{here}.{name}_resblock", part, "conv")
            for name in ("query", "key", "value"):
                found |= _conv(f"{here}.causal_attention.{name}", getattr(block.attention, name))
        else:
            found |= _conv(f"{here}.out.conv", block.last)
    for reader in net.conditioning.nets:
        assert isinstance(reader, nn.Sequential)
        first, *rest = reader
        assert isinstance(first, WeightNormConv)
        found |= _conv("cond_resnet.blocks.0.conv", first)
        for j, further in enumerate(rest, 1):
            found |= _gated(f"cond_resnet.blocks.{j}", further, "conv")
    return found


def _conv(prefix: str, conv: WeightNormConv) -> dict[str, TensorTarget]:
    bias = {} if conv.bias is None else {f"{prefix}.bias": TensorTarget(conv.bias)}
    return {f"{prefix}.weight_v": TensorTarget(conv.weight), f"{prefix}.weight_g": TensorTarget(conv.length), **bias}


def _gated(prefix: str, gated: Any, inside: str) -> dict[str, TensorTarget]:
    found = _conv(f"{prefix}.conv1.{inside}", gated.first) | _conv(f"{prefix}.conv2.{inside}", gated.second)
    for name, conv in (("aux_conv", gated.auxiliary), ("condition", gated.condition)):
        found |= {} if conv is None else _conv(f"{prefix}.{name}.conv", conv)
    return found


def read_priors(paths: Sequence[Path], codes_of: str) -> Imported:
    """Return a model with priors over all levels of its codes, from a checkpoint for each, the coarsest first.

    codes_of: the folder of the model's run.
    Raises: UserError as `read_pixelsnail`, or if there are not as many files as levels, or they are of different sizes.
    """
    first = require(load(codes_of), Encodes, "a prior")
    levels = [space for space in first.spaces if not space.optional]
    if len(paths) != len(levels):
        names = ", ".join(space.name for space in levels)
        raise UserError(f"{codes_of} has codes of {names}: name a file for each, in this order; got {len(paths)}")
    parts = [read_pixelsnail(path, space, levels[:i]) for i, (path, space) in enumerate(zip(paths, levels, strict=True))]
    configs = tuple(part.config for part in parts)
    signal = first.signal
    assert isinstance(signal, Image)
    model = two_stage(first, parts[0] if len(parts) == 1 else ChainedPrior(parts))
    return Imported("pixelsnail", signal, configs if len(configs) > 1 else configs[0], model, model, codes_of=codes_of)


def read_pixelsnail(path: Path, space: Space, given: Sequence[Space]) -> PixelSNAIL:
    """Read the prior over a space of codes, given another, from a checkpoint: a state dict, bare or under "model".

    Raises: UserError if the file is damaged, unsafe, or of another model, or of codes that are not these.
    """
    tree = read_pickle(path)
    tree = tree["model"] if isinstance(tree, Mapping) and isinstance(tree.get("model"), Mapping) else tree
    tensors = state_dict(tree, path)
    tensors.pop("background", None)  # computed
    config = _sizes(path, tensors)
    _check(path, tensors, space, given)
    net = PixelSNAIL([space], given, config)
    load_tensors(tensor_targets(net), tensors, str(path))
    return net


def _check(path: Path, tensors: Mapping[str, Tensor], space: Space, given: Sequence[Space]) -> None:
    vocabulary = tensors["horizontal.conv.conv.weight_v"].shape[1]
    if vocabulary != space.num_codes:
        raise UserError(f"{path} is a prior over codes 0..{vocabulary - 1}, expected {space}")
    conditioned = "cond_resnet.blocks.0.conv.weight_v" in tensors
    if conditioned != any(s.shape for s in given):
        level = (
            "is conditioned on a coarser level (it is for the bottom codes)"
            if conditioned
            else "is not conditioned on a coarser level (it is for the top)"
        )
        raise UserError(f"{path} {level}, and was taken for {space.name}: give the files in the order top, bottom")


def _sizes(path: Path, tensors: Mapping[str, Tensor]) -> PixelSNAILConfig:
    try:
        width = tensors["horizontal.conv.conv.weight_v"].shape[0]
        kernel = tensors["horizontal.conv.conv.weight_v"].shape[3]
        blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
        residual = {name.split(".")[3] for name in tensors if name.startswith("blocks.0.resblocks.")}
        condition_blocks = {name.split(".")[2] for name in tensors if name.startswith("cond_resnet.blocks.")}
        attention = any(".causal_attention." in name for name in tensors)
        condition_channels = tensors["cond_resnet.blocks.0.conv.weight_v"].shape[0] if condition_blocks else 32
        return PixelSNAILConfig(
            width=width,
            residual_channels=tensors["blocks.0.resblocks.0.conv1.conv.conv.weight_v"].shape[0],
            kernel_size=kernel,
            blocks=len(blocks),
            residual_blocks=len(residual),
            output_blocks=len({name.split(".")[1] for name in tensors if name.startswith("out.") and ".conv1." in name}),
            attention_max_positions=MOST_PLACES if attention else 0,
            condition_channels=condition_channels,
            condition_blocks=max(1, len(condition_blocks) - 1),
        )
    except (KeyError, IndexError) as error:
        raise UserError(f"{path} is no PixelSNAIL: {error} is missing or of another shape") from error
