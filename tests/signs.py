"""What is known of a run of an older version: what it samples, and the signs of its tensors."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import torch
from torch import Tensor

from anamorph.core.labels import encode_batch
from anamorph.core.model import Encodes, Samples, decode_in_chunks
from anamorph.core.random import Seeded
from anamorph.run_data import preview_data
from anamorph.runs import load, settings_of
from anamorph.training.folder import RunFolder

Sign = tuple[str, int, float, float]


def processor() -> str:
    """What decides how sums are rounded."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


@torch.no_grad()
def seen(run: Path) -> dict[str, Tensor]:
    """What a run samples, and how it reconstructs the first image that it is shown."""
    model, found = load(run), {}
    if isinstance(model, Samples):
        found["samples"] = decode_in_chunks(model, model.sample_codes(1, Seeded(7, "seed")))
    if isinstance(model, Encodes) and settings_of(RunFolder(run)).source:
        batch = preview_data(settings_of(RunFolder(run))).take(0, 1, 0)
        if model.signal.shape == tuple(batch.signals.shape[1:]):
            found["reconstructions"] = model.decode(encode_batch(model, batch))
    return {name: value.flatten() for name, value in found.items()}


def signs(tensors: dict[str, Tensor]) -> list[Sign]:
    """Of each tensor, whatever its name: a digest of its bits, its size, its sum and that of its absolute values."""
    return sorted(
        (
            hashlib.blake2b(t.contiguous().numpy().tobytes(), digest_size=6).hexdigest(),
            t.numel(),
            float(f"{t.double().sum():.6g}"),
            float(f"{t.double().abs().sum():.6g}"),
        )
        for t in tensors.values()
    )
