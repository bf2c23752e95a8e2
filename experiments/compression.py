"""Models of codes as compressors: the size of their files against the prior's likelihood, and against JPEG and WebP."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from anamorph.coding.compress import compress, decompress, reconstruct
from anamorph.coding.container import unpack
from anamorph.coding.lockstep import distributions_of
from anamorph.core.files import write_json
from anamorph.core.model import code_space
from anamorph.data.images import to_signal
from anamorph.data.read_options import ReadOptions
from anamorph.figures.grid import Row, as_picture, save_picture, sheet
from anamorph.figures.rates import RatePoint, save_rates
from anamorph.metrics.similarity import ssim
from anamorph.models.two_stage import TwoStageModel
from anamorph.run_data import open_data
from anamorph.runs import load, settings_of
from anamorph.training.autotune import ComputeRequest
from anamorph.training.folder import RunFolder
from experiments.tokens import GREY, SMALL, TOKENS, Stage, Tokens, hours_of, trained

__all__ = ["COMPRESSION", "as_stored", "compression_study", "header_bytes", "measured", "other_codec"]

MEASURED, SHOWN = 1000, 8
QUALITIES = (0, 2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95)
COMPRESSION = {
    "compression": {
        "one code per 4x4 pixels": TOKENS["tokens-fashion-mnist"],
        "four codes per 4x4 pixels": Tokens(
            "fashion-mnist",
            Stage("vqvae", replace(GREY, quantizer="residual", codes_per_position=4), 600_000),
            Stage("pixelcnn", SMALL, 600_000, 128),
        ),
    },
    "compression-eurosat": {"coarse and fine codes": TOKENS["tokens-eurosat"]},
}
"""By the name of the experiment: models of the same images, which differ in what they keep of one."""
CODECS = ("JPEG", "WebP")
COSTS = (
    "bytes per image",
    "raw codes",
    "the prior's ideal",
    "payload, a file each",
    "with header",
    "payload, one file",
    "with header",
    "payload / ideal, a file each",
    "payload / ideal, one file",
    "exact",
    "seconds there and back",
)
QUALITY = ("", "bits per pixel", "without headers", "PSNR, dB", "SSIM")


@dataclass(frozen=True)
class Measured:
    """What a model's files cost over so many images, in bytes, and what came back.

    ideal: the cost of the codes by its prior; raw: if all codes cost alike. single: in a file for each image; together: in
    one for all. Payloads are files without headers. exact: how many came back as the reconstruction, bit for bit."""

    images: int
    raw_bytes: float
    ideal_bytes: float
    single_payload_bytes: int
    single_bytes: int
    together_payload_bytes: int
    together_bytes: int
    exact: int
    mse: float
    ssim: float
    seconds: float
    weights_bytes: int


def compression_study(
    models: Mapping[str, Tokens],
    out: Path,
    choice: ComputeRequest,
    say: Callable[[str], None],
    images: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Train the models, each in a folder of its own, compress held-out images, and write results.json, results.md, rates.png
    and compressed.png.

    What has been done is not done again: finished runs of the experiments on tokens may be put into place. images: that each
    model sees, if not as many as it should. Returns whether it came to its end, or was stopped.
    """
    found: dict[str, Measured] = {}
    rows: list[Row] = []
    hours: dict[str, float] = {}
    x = torch.empty(0)
    for name, study in models.items():
        folder = out / name.split()[0]
        for stage, run, of in ((study.first, "first", ""), (study.prior, "prior", str(folder / "first"))):
            wanted = stage if images is None else replace(stage, images=images)
            if not trained(
                study.source, wanted, RunFolder(folder / run), choice, say, stop, wanted=ReadOptions(study.size), codes_of=of
            ):
                return False
        model, _ = distributions_of(load(folder / "prior"))
        held = open_data(settings_of(RunFolder(folder / "prior")), "test").shuffled()
        x = held.take(0, min(MEASURED, held.size)).signals
        found[name], again = measured(model, x)
        say(f"{name}: {found[name].single_bytes / len(x):.1f} bytes a file on average, {found[name].exact} of {len(x)} exact")
        rows.append(Row(f"{name}: {found[name].single_bytes / len(x):.0f} bytes, on average", again[:SHOWN]))
        hours[name] = hours_of(folder / "first") + hours_of(folder / "prior")
    codecs = {kind: [other_codec(x, kind, quality) for quality in QUALITIES] for kind in CODECS}
    source = next(iter(models.values())).source
    _write(out, x, found, codecs, hours, source)
    first = next(iter(found.values()))
    rows += [_nearest(x, kind, codecs[kind], first.single_bytes / len(x)) for kind in CODECS]
    save_picture(out / "compressed.png", sheet([Row("held out", x[:SHOWN]), *rows], f"The first {SHOWN}, unpicked: {source}"))
    say(f"wrote {out / 'results.md'}")
    return True


@torch.no_grad()
def measured(model: TwoStageModel, x: Tensor) -> tuple[Measured, Tensor]:
    """What images [n, C, H, W] cost and what came back [n, C, H, W]."""
    start = time.perf_counter()
    singles = compress(model, x)
    found = decompress(model, singles)
    seconds = time.perf_counter() - start
    (whole,) = compress(model, x, joint=True)
    again = torch.cat([one.signals for one in found])
    wanted = reconstruct(model, x)
    same = (again == wanted).flatten(1).all(1) & (decompress(model, [whole])[0].signals == wanted).flatten(1).all(1)
    codes = {name: torch.cat([one.codes[name] for one in found]) for name in found[0].codes}
    nats = torch.cat([-model.code_log_prob({k: v[i : i + 100] for k, v in codes.items()}) for i in range(0, len(x), 100)])
    kept = as_stored(again)
    raw = sum(v[0].numel() * math.log2(code_space(model).num_codes or 1) for v in codes.values()) / 8 * len(x)
    return (
        Measured(
            images=len(x),
            raw_bytes=raw,
            ideal_bytes=float(nats.sum()) / math.log(2) / 8,
            single_payload_bytes=sum(len(unpack(data).payload) for data in singles),
            single_bytes=sum(map(len, singles)),
            together_payload_bytes=len(unpack(whole).payload),
            together_bytes=len(whole),
            exact=int(same.sum()),
            mse=float((kept - x).square().mean()),
            ssim=float(ssim(kept, x).mean()),
            seconds=seconds,
            weights_bytes=4 * sum(p.numel() for p in model.parameters()),
        ),
        again,
    )


def as_stored(x: Tensor) -> Tensor:
    """Images [n, C, H, W] as a picture file holds them: 8 bits a value."""
    return to_signal(np.stack([np.atleast_3d(np.asarray(as_picture(one))).transpose(2, 0, 1) for one in x]))


def other_codec(x: Tensor, kind: str, quality: int) -> RatePoint:
    """What a codec's files of images [n, C, H, W] cost, and how well they are kept. Pillow's encoder, with optimised tables, at
    its slowest."""
    files = _coded(x, kind, quality)
    again = _decoded(files, x.shape[1])
    pixels = len(x) * x.shape[-1] * x.shape[-2]
    headers = sum(header_bytes(data) for data in files)
    size = sum(map(len, files))
    return RatePoint(8 * size / pixels, 8 * (size - headers) / pixels, _psnr(again, x), float(ssim(again, x).mean()))


def _nearest(x: Tensor, kind: str, curve: Sequence[RatePoint], size: float) -> Row:
    """What a codec makes of the first images with the setting whose files are nearest to a size in bytes."""
    pixels = x.shape[-1] * x.shape[-2]
    sizes = [one.bits * pixels / 8 for one in curve]
    at = min(range(len(curve)), key=lambda i: abs(sizes[i] - size))
    files = _coded(x[:SHOWN], kind, QUALITIES[at])
    return Row(f"{kind}, quality {QUALITIES[at]}: {sizes[at]:.0f} bytes, on average", _decoded(files, x.shape[1]))


def _coded(x: Tensor, kind: str, quality: int) -> list[bytes]:
    files = []
    for one in x:
        stream = BytesIO()
        picture = as_picture(one)
        if kind == "JPEG":
            picture.save(stream, "JPEG", quality=max(1, quality), optimize=True)
        else:
            picture.save(stream, "WEBP", quality=quality, method=6)
        files.append(stream.getvalue())
    return files


def _decoded(files: Sequence[bytes], channels: int) -> Tensor:
    """Images [n, channels, H, W] of files."""
    arrays = []
    for data in files:
        with Pillow.open(BytesIO(data)) as picture:
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"), np.uint8)
            arrays.append(np.atleast_3d(pixels).transpose(2, 0, 1))
    return to_signal(np.stack(arrays))


def header_bytes(data: bytes) -> int:
    """JPEG: all but the entropy-coded scan. WebP: RIFF's, the chunk's and the frame's (RFC 9649; RFC 6386, section 9.1)."""
    if data[:4] == b"RIFF":
        return 12 + 8 + 10
    scan = data.index(b"\xff\xda")
    return scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big") + 2


def _psnr(again: Tensor, x: Tensor) -> float:
    return 10 * math.log10(4 / float((again - x).square().mean()))


def _write(
    out: Path, x: Tensor, found: dict[str, Measured], codecs: dict[str, list[RatePoint]], hours: dict[str, float], source: str
) -> None:
    pixels = x.shape[-1] * x.shape[-2]
    models = {
        name: RatePoint(
            8 * m.single_bytes / m.images / pixels,
            8 * m.single_payload_bytes / m.images / pixels,
            10 * math.log10(4 / m.mse),
            m.ssim,
        )
        for name, m in found.items()
    }
    facts: dict[str, Any] = {
        "models": {name: asdict(m) for name, m in found.items()},
        "hours of CPU": hours,
        "codecs": {name: [asdict(one) for one in curve] for name, curve in codecs.items()},
    }
    write_json(out / "results.json", facts)
    save_rates(out / "rates.png", codecs, models, f"{len(x):,} held-out images of {source}")
    lines = [*_head(COSTS), *(_cost_row(name, m) for name, m in found.items()), ""]
    lines += [*_head(QUALITY), *(_quality_row(name, one) for name, one in models.items())]
    for kind, curve in codecs.items():
        lines += [_quality_row(f"{kind}, quality {q}", one) for q, one in zip(QUALITIES, curve, strict=True)]
    lines.append("")
    for kind, curve in codecs.items():
        for name, one in models.items():
            lines += [f"* {kind}, {how}, at the rate of {name}: {_at(curve, bits, bare)}" for how, bits, bare in _rates(one)]
    (out / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _head(columns: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def _cost_row(name: str, m: Measured) -> str:
    each = (m.raw_bytes, m.ideal_bytes, m.single_payload_bytes, m.single_bytes, m.together_payload_bytes, m.together_bytes)
    ratios = (m.single_payload_bytes / m.ideal_bytes, m.together_payload_bytes / m.ideal_bytes)
    numbers = [
        *(f"{value / m.images:.2f}" for value in each),
        *(f"{ratio:.4f}" for ratio in ratios),
        f"{m.exact} of {m.images}",
    ]
    return f"| {' | '.join([name, *numbers, f'{m.seconds:.1f}'])} |"


def _quality_row(name: str, one: RatePoint) -> str:
    return f"| {name} | {one.bits:.3f} | {one.bare_bits:.3f} | {one.psnr_db:.2f} | {one.ssim:.3f} |"


def _rates(one: RatePoint) -> list[tuple[str, float, bool]]:
    return [("whole files", one.bits, False), ("without headers", one.bare_bits, True)]


def _at(curve: Sequence[RatePoint], bits: float, bare: bool) -> str:
    """A codec's quality at a rate, between its settings along the logarithm of the rate; or the least that it can do."""
    rates = [one.bare_bits if bare else one.bits for one in curve]
    if bits < min(rates):
        return f"cannot: its least is {min(rates):.3f} bits per pixel"
    order = np.argsort(rates)
    at = np.log(np.array(rates)[order])
    at_size = [np.interp(math.log(bits), at, np.array([getattr(one, m) for one in curve])[order]) for m in ("psnr_db", "ssim")]
    return f"{at_size[0]:.2f} dB, {at_size[1]:.3f}"
