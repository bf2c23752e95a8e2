"""StyleGAN's weights as others write them: genforce's checkpoints (github.com/genforce/genforce), and the variables of the
official networks (github.com/NVlabs/stylegan), pickled or as plain arrays.

Both keep weights without He's constant, which they multiply by at run time; here it is folded in. They name the same tensors
differently, and the official ones have other axes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anamorph.catalog import build
from anamorph.core.errors import UserError
from anamorph.core.files import read_tensors
from anamorph.core.model import LatentModel
from anamorph.core.signal import Image
from anamorph.data.arrays import load_arrays
from anamorph.interop.imported_run import Imported
from anamorph.interop.inert_types import Record
from anamorph.interop.load_tensors import MAX_BLOCKS, TensorTarget, as_is, build_on_meta, converted_tensors, load_tensors
from anamorph.interop.pickles import read_pickle
from anamorph.models.adversarial.stylegan import StyleGAN, StyleGANConfig
from anamorph.nn.equalized import lr_multipliers_of

__all__ = ["discriminator_targets", "generator_targets", "official_names", "read_stylegan"]

NETWORKS = {"generator": "G", "discriminator": "D", "generator_smooth": "Gs", "G": "G", "D": "D", "Gs": "Gs", "G_ema": "Gs"}
"""How files name the networks; Gs is the averaged generator."""
OUTPUT = re.compile(r"synthesis\.output\d+\.bias")
SCOPE = re.compile(r"^(G_mapping|G_synthesis|mapping|synthesis)(_\d+)?/")
Convert = Callable[[Tensor], Tensor]


def generator_targets(model: StyleGAN) -> dict[str, TensorTarget]:
    """Return where a generator's tensors belong, by genforce's names."""
    factors = lr_multipliers_of(model)
    mapping: Any = model.mapping
    synthesis: Any = model.synthesis

    def scaled(target: Any, convert: Convert = as_is) -> TensorTarget:
        return TensorTarget(target, convert, factors.get(target, 1.0))

    found = {"truncation.w_avg": scaled(model.w_mean_tracker.mean, lambda w: w.expand(model.w_mean_tracker.mean.shape))}
    if mapping.embedding is not None:
        found["mapping.label_weight"] = scaled(mapping.embedding)
    if model.config.constant_input:
        found["synthesis.layer0.const"] = scaled(synthesis.constant)
    else:
        found["synthesis.layer0.weight"] = scaled(synthesis.dense.weight, _dense)
    for i, layer in enumerate(synthesis.layers):
        here = f"synthesis.layer{i}"
        found[f"{here}.bias"] = scaled(layer.bias)
        found[f"{here}.apply_noise.weight"] = scaled(layer.noise_weight)
        found[f"{here}.apply_noise.noise"] = scaled(getattr(synthesis, f"noise_{i}"))
        if layer.conv is not None:
            found[f"{here}.weight"] = scaled(layer.conv.weight)
        found |= {f"{here}.style.{kind}": scaled(getattr(layer.style, kind)) for kind in ("weight", "bias")}
    for kind in ("weight", "bias"):
        found |= {f"mapping.dense{i}.{kind}": scaled(getattr(dense, kind)) for i, dense in enumerate(mapping.net.layers)}
        found |= {f"synthesis.output{i}.{kind}": scaled(getattr(rgb, kind)) for i, rgb in enumerate(synthesis.to_rgb)}
    return found


def _dense(value: Tensor) -> Tensor:
    """Return a dense layer kept as a flipped convolution of one pixel, [out, in, 4, 4]."""
    return value.flip(2, 3).transpose(0, 1).flatten(1).T


def discriminator_targets(model: StyleGAN) -> dict[str, TensorTarget]:
    """Return where a discriminator's tensors belong, by genforce's names."""
    factors = lr_multipliers_of(model)
    d: Any = model.discriminator
    layers = [*(conv for block in d.blocks for conv in (block.conv, block.down)), d.conv, d.hidden, d.logits]
    named = {f"input{i}": layer for i, layer in enumerate(d.from_rgb)} | {f"layer{i}": layer for i, layer in enumerate(layers)}
    return {
        f"{name}.{kind}": TensorTarget(getattr(layer, kind), factor=factors.get(getattr(layer, kind), 1.0))
        for name, layer in named.items()
        for kind in ("weight", "bias")
    }


def official_names(blocks: int) -> dict[str, dict[str, tuple[str, Convert]]]:
    """Return the official variables of G and D, by name: genforce's name, and what turns one into the other (axes, mostly)."""
    g: dict[str, tuple[str, Convert]] = {
        "dlatent_avg": ("truncation.w_avg", as_is),
        "LabelConcat/weight": ("mapping.label_weight", as_is),
    }
    d: dict[str, tuple[str, Convert]] = {}
    for i in range(64):  # as deep as anybody's mapping network
        g |= _pair(f"Dense{i}", f"mapping.dense{i}", _matrix)
    for i in range(2 * blocks):
        side = f"{4 << i // 2}x{4 << i // 2}"
        for name in ("Const", "Dense") if i == 0 else ("Conv",) if i == 1 else ("Conv0_up",) if i % 2 == 0 else ("Conv1",):
            source, target = f"{side}/{name}", f"synthesis.layer{i}"
            g |= _pair(source, target, _start if name == "Dense" else _filter) | _pair(
                f"{source}/StyleMod", f"{target}.style", _matrix
            )
            g[f"{source}/const"] = (f"{target}.const", as_is)
            g[f"{source}/Noise/weight"] = (f"{target}.apply_noise.weight", as_is)
        g[f"noise{i}"] = (f"synthesis.layer{i}.apply_noise.noise", as_is)
    for i in range(blocks):
        side = f"{4 << (blocks - 1 - i)}x{4 << (blocks - 1 - i)}"
        g |= _pair(f"ToRGB_lod{blocks - 1 - i}", f"synthesis.output{i}", _filter)
        d |= _pair(f"FromRGB_lod{i}", f"input{i}", _filter)
        d |= _pair(f"{side}/Conv0", f"layer{2 * i}", _filter) | _pair(f"{side}/Conv1_down", f"layer{2 * i + 1}", _filter)
    last = 2 * (blocks - 1)
    d |= _pair("4x4/Conv", f"layer{last}", _filter)
    d |= _pair("4x4/Dense0", f"layer{last + 1}", _matrix) | _pair("4x4/Dense1", f"layer{last + 2}", _matrix)
    return {"G": g, "D": d}


def _pair(official: str, name: str, weight: Convert) -> dict[str, tuple[str, Convert]]:
    return {f"{official}/weight": (f"{name}.weight", weight), f"{official}/bias": (f"{name}.bias", as_is)}


def _matrix(value: Tensor) -> Tensor:
    return value.T if value.dim() == 2 else value


def _filter(value: Tensor) -> Tensor:
    """[height, width, in, out] as [out, in, height, width]."""
    return value.permute(3, 2, 0, 1) if value.dim() == 4 else value


def _start(value: Tensor) -> Tensor:
    """[in, out * 16], as genforce keeps it."""
    return value.unflatten(1, (-1, 4, 4)).transpose(0, 1).flip(2, 3) if value.dim() == 2 else value


def read_stylegan(path: Path) -> Imported:
    """Return a StyleGAN from a .pth of genforce's, an official .pkl, or its variables in an .npz or .safetensors.

    Raises: UserError if the file is damaged, unsafe, or of another model; it lists the tensors that do not fit.
    """
    nets = {net: _as_genforce(net, tensors) for net, tensors in _networks(path).items() if tensors}
    average = nets.get("Gs") or nets.get("G")
    if not average or not any(name.startswith("synthesis.") for name in average):
        raise UserError(f"{path} is no StyleGAN: it has no generator with the known names (it may be of another version)")
    notes: tuple[str, ...] = () if "D" in nets else ("it holds no discriminator: training would begin with a new one",)
    level = _level(path, average)
    if not ("G" in nets and "Gs" in nets):
        notes += (f"it holds only {'averaged' if 'Gs' in nets else 'trained'} weights of the generator: they are both",)
    nets = {net: {name: t for name, t in tensors.items() if not name.endswith("lod")} for net, tensors in nets.items()}
    image, config = _sizes(path, nets.get("Gs") or nets["G"])
    generators = [nets.get("G") or nets["Gs"], nets.get("Gs") or nets["G"]]
    shape = build_on_meta("stylegan", image, config)
    for weights in generators:
        _bring(converted_tensors, shape, weights, nets.get("D"), path)
    models = [build("stylegan", image, config, seed=0)[0] for _ in generators]
    for model, weights in zip(models, generators, strict=True):
        _bring(load_tensors, model, weights, nets.get("D"), path)
    return Imported("stylegan", image, config, models[0], models[1], level, notes)


def _bring(
    way: Callable[..., Any], model: LatentModel, g: Mapping[str, Tensor], d: Mapping[str, Tensor] | None, path: Path
) -> None:
    """Bring the tensors of its networks to a model, or only hold them against it."""
    assert isinstance(model, StyleGAN)
    way(generator_targets(model), g, f"the generator of {path}")
    if d is not None:
        way(discriminator_targets(model), d, f"the discriminator of {path}")


def _networks(path: Path) -> dict[str, dict[str, Tensor]]:
    """Return the tensors of G, D and Gs in a file, by their names in it."""
    if path.suffix == ".safetensors":
        return _sorted(read_tensors(path)[0])
    if path.suffix == ".npz":
        return _sorted(load_arrays(path))
    tree = read_pickle(path)
    if isinstance(tree, list) and all(isinstance(net, Record) for net in tree):  # the official (G, D, Gs)
        return {name: _variables(net) for name, net in zip(("G", "D", "Gs"), tree, strict=False)}
    if isinstance(tree, Mapping):
        nets = tree.get("models", tree)  # genforce's own checkpoints keep more beside the networks
        nets = nets if isinstance(nets, Mapping) else tree
        known = {name: value for name, value in nets.items() if name in NETWORKS}
        return _sorted(_flat(known or nets))
    raise UserError(f"{path} is no StyleGAN: it holds no networks")


def _variables(net: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the variables of an official network and of its components."""
    variables, components = net.get("variables"), net.get("components")
    pairs = [pair for pair in variables if isinstance(pair, list) and len(pair) == 2] if isinstance(variables, list) else []
    found = _tensors({str(name): value for name, value in pairs})
    for component in components.values() if isinstance(components, Mapping) else ():
        found |= _variables(component) if isinstance(component, Mapping) else {}
    return found


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _tensors(values: Mapping[str, Any]) -> dict[str, Tensor]:
    found = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            found[name] = value.float()
        elif isinstance(value, (float, int)) or (isinstance(value, np.ndarray) and value.dtype.kind in "fiub"):
            found[name] = torch.from_numpy(np.array(value, np.float32))
    return found


def _sorted(values: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Sort tensors by network; a name without one belongs to the only network of a file."""
    nets: dict[str, dict[str, Tensor]] = {}
    tensors = _tensors(values)
    alone = "D" if any(name.startswith("FromRGB") for name in tensors) else "Gs"
    for name, value in tensors.items():
        head, *rest = re.split(r"[./]", name.removesuffix(":0"), maxsplit=1)
        net, inner = (NETWORKS[head], rest[0]) if head in NETWORKS and rest else (alone, name.removesuffix(":0"))
        nets.setdefault(net, {})[inner] = value
    return nets


def _as_genforce(net: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by genforce's names, whichever they came by, without what is constant (blurs)."""
    plain = {SCOPE.sub("", name): value for name, value in tensors.items()}
    if not any("/" in name for name in plain):
        return {n.removeprefix("module."): v for n, v in tensors.items() if not n.endswith((".kernel", ".blur.weight"))}
    blocks = sum(name.startswith(("ToRGB_lod", "FromRGB_lod")) and name.endswith("bias") for name in plain)
    known, found = official_names(blocks)["D" if net == "D" else "G"], {}
    for name, value in plain.items():
        theirs, convert = known.get(name, (name, as_is))
        try:
            found[theirs] = convert(value)
        except (RuntimeError, IndexError):  # of another shape, which is reported when it is loaded
            found[theirs] = value
    return found


def _level(path: Path, generator: Mapping[str, Tensor]) -> int:
    """Return how many halvings of the full resolution have not been grown through; within a fade, those that have begun
    count.
    """
    lod = next((float(value) for name, value in generator.items() if name.endswith("lod") and value.numel() == 1), 0.0)
    blocks = sum(OUTPUT.fullmatch(name) is not None for name in generator)
    if not 0 <= lod < max(blocks, 1):
        raise UserError(f"{path} says that it is {lod} levels below its full size, and it has {blocks}")
    return int(lod)


def _sizes(path: Path, g: Mapping[str, Tensor]) -> tuple[Image, StyleGANConfig]:
    """Return what shape of model the tensors are of."""
    blocks = sum(OUTPUT.fullmatch(name) is not None for name in g)
    dense = sum(re.fullmatch(r"mapping\.dense\d+\.bias", name) is not None for name in g)
    try:
        widths = [g[f"synthesis.output{i}.weight"].shape[1] for i in range(blocks)]
        w_dim = g["synthesis.layer0.style.weight"].shape[1]
        label = g.get("mapping.label_weight")
        z_dim = g["mapping.dense0.weight"].shape[1] // (1 if label is None else 2) if dense else w_dim
        start = g["synthesis.layer0.const"].shape[2:] if "synthesis.layer0.const" in g else (4, 4)
        channels = g["synthesis.output0.weight"].shape[0]
        width = g["mapping.dense0.weight"].shape[0] if dense else w_dim
        if not 2 <= blocks <= MAX_BLOCKS or not all((*widths, w_dim, z_dim, channels, width)) or len(start) != 2:
            raise IndexError(f"between 2 and {MAX_BLOCKS} resolutions of some size")
    except (KeyError, IndexError) as error:
        raise UserError(f"{path} is no StyleGAN: its generator lacks {error}") from error
    side = 4 << blocks - 1
    config = StyleGANConfig(
        z_dim=z_dim,
        w_dim=w_dim,
        mapping_width=width,
        mapping_layers=dense,
        channel_base=widths[-1] * side,
        channel_max=max(widths),
        num_classes=0 if label is None else label.shape[0],
        constant_input="synthesis.layer0.const" in g,
    )
    return Image(channels, *(n << blocks - 1 for n in start)), config
