"""Checkpoints of the released ALAE code (github.com/podgorskiy/ALAE, file checkpointer.py): StyleALAE's weights and names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from anamorph.catalog import build
from anamorph.core.errors import UserError
from anamorph.core.signal import Image
from anamorph.interop.imported_run import Imported
from anamorph.interop.load_tensors import MAX_BLOCKS, TensorTarget, as_is, build_on_meta, converted_tensors, load_tensors
from anamorph.interop.pickles import read_pickle
from anamorph.models.adversarial_autoencoders.stylealae import StyleALAE, StyleALAEConfig

__all__ = ["NETWORKS", "read_alae", "tensor_targets"]

NETWORKS = {"mapping_tl": "D", "mapping_fl": "F", "generator": "G", "discriminator": "E"}
"""The file's names of the paper's networks; the averaged ones have _s behind them."""
FUSED = 128
"""From this side on, the original's resizing convolutions are fused, and G's are stored with their inputs first."""


def tensor_targets(model: StyleALAE) -> dict[str, TensorTarget]:
    """Return where the tensors of a file's networks belong, by "network.name"."""
    found: dict[str, TensorTarget] = {}
    mapping, critic, synthesis, encoder = _modules(model)
    for kind in ("weight", "bias"):
        for i, layer in enumerate(mapping.net.layers):
            found[f"mapping_fl.map_blocks.{i}.fc.{kind}"] = TensorTarget(getattr(layer, kind))
        *inner, last = critic.layers
        for i, layer in enumerate(inner):
            found[f"mapping_tl.map_blocks.{i}.{kind}"] = TensorTarget(getattr(layer, kind))
        found[f"mapping_tl.map_blocks.{len(inner)}.{kind}"] = TensorTarget(getattr(last, kind), _logit)
        for i, (to_rgb, from_rgb) in enumerate(zip(synthesis.to_rgb, encoder.from_rgb, strict=True)):
            found[f"generator.to_rgb.{i}.to_rgb.{kind}"] = TensorTarget(getattr(to_rgb, kind))
            found[f"discriminator.from_rgb.{i}.from_rgb.{kind}"] = TensorTarget(getattr(from_rgb, kind))
    return found | _generator(model) | _encoder(model) | {"dlatent_avg.buff": TensorTarget(model.w_mean_tracker.mean)}


def _modules(model: StyleALAE) -> tuple[Any, Any, Any, Any]:
    """F, D, G and E, whose layers are reached by name."""
    return model.mapping, model.critic, model.synthesis, model.encoder


def _logit(value: Tensor) -> Tensor:
    """Of the 2 * latent outputs of D, the released code reads the one in the middle."""
    return value[len(value) // 2 :][:1]


def _generator(model: StyleALAE) -> dict[str, TensorTarget]:
    _, _, synthesis, _ = _modules(model)
    found = {"generator.const": TensorTarget(synthesis.constant)}
    for i, layer in enumerate(synthesis.layers):
        block, number = f"generator.decode_block.{i // 2}", i % 2 + 1
        found[f"{block}.bias_{number}"] = TensorTarget(layer.bias)
        found[f"{block}.noise_weight_{number}"] = TensorTarget(layer.noise_weight)
        for kind in ("weight", "bias"):
            found[f"{block}.style_{number}.{kind}"] = TensorTarget(getattr(layer.style, kind))
        if layer.conv is not None:
            fused = layer.upsamples and 4 << i // 2 >= FUSED
            found[f"{block}.conv_{number}.weight"] = TensorTarget(layer.conv.weight, _inputs_first if fused else as_is)
    return found


def _inputs_first(value: Tensor) -> Tensor:
    return value.transpose(0, 1)


def _encoder(model: StyleALAE) -> dict[str, TensorTarget]:
    found: dict[str, TensorTarget] = {}
    *_, encoder = _modules(model)
    for i, block in enumerate(encoder.blocks):
        here = f"discriminator.encode_block.{i}"
        for number, (conv, read) in enumerate(((block.conv, block.read_1), (block.down, block.read_2)), 1):
            found[f"{here}.conv_{number}.weight"] = TensorTarget(conv.weight)
            found[f"{here}.bias_{number}"] = TensorTarget(conv.bias)
            for kind in ("weight", "bias"):
                found[f"{here}.style_{number}.{kind}"] = TensorTarget(getattr(read, kind))
    return found


def read_alae(path: Path) -> Imported:
    """Return a StyleALAE from a checkpoint: trained weights and their average, where it has both.

    Raises: UserError if the file is damaged, unsafe, or of another model; it lists the tensors that do not fit.
    """
    tree = read_pickle(path)
    models = tree.get("models") if isinstance(tree, Mapping) else None
    if not isinstance(models, Mapping):
        held = f"it holds {', '.join(map(str, tree))[:200]}" if isinstance(tree, Mapping) else "it holds no dict"
        raise UserError(f"{path} is no checkpoint of ALAE's: expected the networks under 'models', and {held}")
    trained, averaged = (_flat(models, suffix) for suffix in ("", "_s"))
    if not trained and not averaged:
        raise UserError(
            f"{path} is no StyleALAE: expected {', '.join(NETWORKS)} under 'models', found {', '.join(models)[:200]}"
        )
    notes = () if trained and averaged else (f"it holds only {'averaged' if averaged else 'trained'} weights: they are both",)
    trained, averaged = trained or averaged, averaged or trained
    image, config = _sizes(path, averaged)
    shape = build_on_meta("stylealae", image, config)
    assert isinstance(shape, StyleALAE)
    for weights in (trained, averaged):
        converted_tensors(tensor_targets(shape), weights, str(path))
    model, average = (build("stylealae", image, config, seed=0)[0] for _ in range(2))
    assert isinstance(model, StyleALAE)
    assert isinstance(average, StyleALAE)
    load_tensors(tensor_targets(model), trained, str(path))
    load_tensors(tensor_targets(average), averaged, str(path))
    return Imported("stylealae", image, config, model, average, _level(averaged, len(model.encoder.blocks)), notes)


def _flat(models: Mapping[str, Any], suffix: str) -> dict[str, Tensor]:
    """Return the tensors of four networks and the mean style, by "network.name", without the blur's, which are constants."""
    if not any(f"{name}{suffix}" in models for name in NETWORKS):
        return {}
    nets = {name: models.get(f"{name}{suffix}", {}) for name in NETWORKS} | {"dlatent_avg": models.get("dlatent_avg", {})}
    tensors = {
        f"{net}.{name}": value
        for net, held in nets.items()
        for name, value in (held.items() if isinstance(held, Mapping) else ())
        if isinstance(value, Tensor) and not name.endswith("blur.weight")
    }
    return {name.replace(".module.", ".", 1): value for name, value in tensors.items()}  # as several processes save it


def _sizes(path: Path, tensors: Mapping[str, Tensor]) -> tuple[Image, StyleALAEConfig]:
    """Return what shape of model the tensors are of (4 pixels, doubled once per further block)."""
    blocks = len({name.split(".")[2] for name in tensors if name.startswith("generator.decode_block.")})
    try:
        w_dim = tensors["generator.decode_block.0.style_1.weight"].shape[1]
        channels, start = (
            tensors["generator.to_rgb.0.to_rgb.weight"].shape[0],
            tensors["discriminator.from_rgb.0.from_rgb.weight"],
        )
        most = tensors[f"discriminator.encode_block.{blocks - 1}.conv_2.weight"].shape[0]
        if not 2 <= blocks <= MAX_BLOCKS or not all((w_dim, channels, most, start.shape[0])):
            raise IndexError(f"between 2 and {MAX_BLOCKS} blocks of some size")
    except (KeyError, IndexError) as error:
        raise UserError(f"{path} is no StyleALAE: its networks lack {error}") from error
    layers = [
        sum(name.startswith(f"{net}.map_blocks.") and name.endswith("weight") for name in tensors)
        for net in ("mapping_fl", "mapping_tl")
    ]
    side = 2 ** (blocks + 1)
    config = StyleALAEConfig(
        w_dim=w_dim,
        mapping_layers=max(layers[0], 1),
        critic_layers=max(layers[1], 1),
        channel_base=start.shape[0] * side,
        channel_max=most,
        flipped_from=FUSED,
    )
    return Image(channels, side, side), config


def _level(tensors: Mapping[str, Tensor], blocks: int) -> int:
    """Return how many of the finest levels have never been trained: the biases of their RGB layers are still zero."""
    untrained = [not tensors[f"generator.to_rgb.{lod}.to_rgb.bias"].any() for lod in reversed(range(blocks))]
    return untrained.index(False) if False in untrained else 0
