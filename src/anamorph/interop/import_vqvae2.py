"""Checkpoints of the widely used PyTorch VQ-VAE-2 (github.com/rosinality/vq-vae-2-pytorch, file vqvae.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from anamorph.catalog import build
from anamorph.core.errors import UserError
from anamorph.core.signal import Image
from anamorph.interop.imported_run import Imported
from anamorph.interop.load_tensors import TensorTarget, build_on_meta, load_tensors
from anamorph.interop.pickles import read_pickle
from anamorph.models.quantized.vqvae2 import VQVAE2, VQVAE2Config

__all__ = ["read_vqvae2", "state_dict", "tensor_targets"]


def tensor_targets(model: VQVAE2) -> dict[str, TensorTarget]:
    """Return where the tensors of a file belong, by name."""
    top, bottom = model.coarse_first
    enlarge: Any = model.upsample[0]
    modules: dict[str, nn.Module] = {
        "enc_b.blocks": bottom.encoder,
        "enc_t.blocks": top.encoder,
        "dec_t.blocks": top.decode_to_finer,
        "dec.blocks": model.decoder,
        "quantize_conv_t": top.project,
        "quantize_conv_b": bottom.project,
        "upsample_t": enlarge[0],
    }
    found = {}
    for prefix, module in modules.items():
        for name, parameter in module.named_parameters():
            number, _, rest = name.partition(".")
            inside = "." in rest  # of a residual block
            found[f"{prefix}.{number}.conv.{rest}" if inside else f"{prefix}.{name}"] = TensorTarget(parameter)
    for prefix, book in (("quantize_t", top.codebook), ("quantize_b", bottom.codebook)):
        found[f"{prefix}.embed"] = TensorTarget(book.vectors, _rows)
        found[f"{prefix}.embed_avg"] = TensorTarget(book.sums, _rows)
        found[f"{prefix}.cluster_size"] = TensorTarget(book.counts)
    return found


def _rows(value: Tensor) -> Tensor:
    """Transpose codes, which the original keeps as columns."""
    return value.t()


def read_vqvae2(path: Path, size: tuple[int, int] | None = None) -> Imported:
    """Return a VQ-VAE-2 of two levels from a checkpoint, a bare state dict.

    size: height and width of its images, which the file does not tell; None: 256, as in the original's settings.
    Raises: UserError if the file is damaged, unsafe, or of another model; it lists the tensors that do not fit.
    """
    tensors = state_dict(read_pickle(path), path)
    image, config = _sizes(path, tensors, size or (256, 256))
    fit_to = build_on_meta("vqvae2", image, config)
    assert isinstance(fit_to, VQVAE2)
    model, _ = build("vqvae2", image, config, seed=0)
    assert isinstance(model, VQVAE2)
    load_tensors(tensor_targets(model), tensors, str(path))
    notes = () if size else (f"the file does not say the size of its images: taken as {image.height}x{image.width} (--size)",)
    return Imported("vqvae2", image, config, model, model, notes=notes)


def state_dict(tree: Any, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict by name, without what several processes put before each.

    Raises: UserError if there are none.
    """
    items = tree.items() if isinstance(tree, Mapping) else ()
    tensors = {str(name).removeprefix("module."): value for name, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no state dict: expected tensors by name")
    return tensors


def _sizes(path: Path, tensors: Mapping[str, Tensor], size: tuple[int, int]) -> tuple[Image, VQVAE2Config]:
    """Return what shape of model the tensors are of."""
    try:
        channels, width = tensors["enc_b.blocks.0.weight"].shape[1], tensors["enc_b.blocks.4.weight"].shape[0]
        blocks = len({name.split(".")[2] for name in tensors if name.startswith("enc_b.blocks.") and ".conv." in name})
        inner = tensors["enc_b.blocks.5.conv.1.weight"].shape[0]
        code_dim, vocabulary = tensors["quantize_t.embed"].shape
        image = Image(channels, *size)
        return image, VQVAE2Config(
            num_levels=2,
            stride=4,
            width=width,
            residual_blocks=blocks,
            residual_channels=inner,
            num_embeddings=vocabulary,
            embedding_dim=code_dim,
            restart_threshold=0.0,
            kmeans_init=False,
        )
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(f"{path} is no VQ-VAE-2 of two levels: {error} is missing or of another shape") from error
