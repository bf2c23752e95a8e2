"""How well a model undoes itself, measured in one pass: |G(E(x)) - x| by every yardstick, and |E(G(w)) - w|."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from anamorph.core.model import LatentModel
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random
from anamorph.core.signal import Image, Source
from anamorph.features.batches import Decoded, reconstructed
from anamorph.features.moments import Moments
from anamorph.features.network import DistanceNetwork, FeatureNetwork
from anamorph.metrics.frechet import frechet_bias, frechet_distance
from anamorph.metrics.measure import Measure
from anamorph.metrics.reconstruction import latent_error
from anamorph.metrics.similarity import feature_distance, ms_ssim, mse, psnr_db, smallest_side, ssim

__all__ = ["latent_measures", "measures_of_pairs", "reconstruction_measures"]


def reconstruction_measures(
    model: LatentModel,
    source: Source,
    n: int,
    networks: Sequence[FeatureNetwork] = (),
    split: str = "",
    progress: Progress = no_progress,
) -> list[Measure]:
    """Of n images and their reconstructions, each decoded once: squared error, signal to noise, structural similarity, and for
    each network the distance of images and the FID of reconstructions, where there are enough of them.

    Raises: UserError if the model does not encode, or the source has fewer images.
    """
    return measures_of_pairs(reconstructed(model, source, n, progress), source.signal, networks, split)


@torch.no_grad()
def measures_of_pairs(
    pairs: Iterable[Decoded], signal: object, networks: Sequence[FeatureNetwork], split: str
) -> list[Measure]:
    """The same of pairs that come in batches, such as those that are also looked at."""
    scales = _scales(signal)
    values: dict[str, list[Tensor]] = {}
    laws = [(Moments(network.width), Moments(network.width)) for network in networks]
    for pair in pairs:
        if pair.originals is None:
            continue
        a, b = pair.originals, pair.images
        found = {"mse": mse(a, b), "psnr_db": psnr_db(a, b)}
        if scales:
            found |= {"ssim": ssim(a, b), _ms_name(scales): ms_ssim(a, b, scales)}
        for i, (network, (real, made)) in enumerate(zip(networks, laws, strict=True)):
            seen = network(a), network(b)
            real.add(seen[0])
            made.add(seen[1])
            apart = network.distance(a, b) if isinstance(network, DistanceNetwork) else feature_distance(*seen)
            found[f"apart {i}"] = apart
        for name, value in found.items():
            values.setdefault(name, []).append(value.double().cpu())
    joined = {name: torch.cat(parts) for name, parts in values.items()}
    return [*_plain(joined, split, scales), *_seen(joined, networks, laws, split)]


def _scales(signal: object) -> int:
    """How many scales of structural similarity an image has; 0 if its window does not fit."""
    if not isinstance(signal, Image):
        return 0
    side = min(signal.height, signal.width)
    return max((scales for scales in range(1, 6) if side >= smallest_side(scales)), default=0)


def _ms_name(scales: int) -> str:
    return "ms_ssim" if scales == 5 else f"ms_ssim_{scales}_scales"


def _plain(values: dict[str, Tensor], split: str, scales: int) -> list[Measure]:
    n, low = {"images": len(values["mse"])}, values["mse"].mean()
    measures = [
        _mean("reconstruction_mse", values["mse"], "low", split),
        Measure("reconstruction_psnr", float(10 * torch.log10(4 / low)), "dB of the mean error", "high", n, split=split),
    ]
    if scales:
        measures += [_mean(f"reconstruction_{name}", values[name], "high", split) for name in ("ssim", _ms_name(scales))]
    return measures


def _seen(
    values: dict[str, Tensor], networks: Sequence[FeatureNetwork], laws: Sequence[tuple[Moments, Moments]], split: str
) -> list[Measure]:
    measures = []
    for i, (network, (real, made)) in enumerate(zip(networks, laws, strict=True)):
        name = "lpips" if isinstance(network, DistanceNetwork) else "feature_distance"
        measures.append(_mean(name, values[f"apart {i}"], "low", split, network))
        if real.count > network.width:
            n, floor = {"real": real.count, "reconstructed": made.count}, frechet_bias(real, real.count, made.count)
            value = frechet_distance(real, made)
            measures.append(
                Measure("fid_of_reconstructions", value, "", "low", n, network.name, network.resizer, split, floor=floor)
            )
    return measures


def _mean(name: str, values: Tensor, better: str, split: str, network: FeatureNetwork | None = None) -> Measure:
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
    seen = (network.name, network.resizer) if network else ("", "")
    return Measure(
        name, float(values.mean()), "", "high" if better == "high" else "low", {"images": len(values)}, *seen, split, error
    )


def latent_measures(model: LatentModel, n: int, random: Random) -> list[Measure]:
    """|E(G(w)) - w| of n drawn codes, and the same relative to the codes' spread.

    Raises: UserError if the model does not draw, or does not encode.
    """
    return [Measure(name, value, "", "low", {"codes": n}) for name, value in latent_error(model, n, random).items()]
