"""Measures of samples, from what a feature network sees in real and generated images; each says how it was taken."""

from __future__ import annotations

from anamorph.core.errors import UserError
from anamorph.core.progress import Progress, no_progress
from anamorph.core.random import Random
from anamorph.features.feature_set import FeatureSet, check_pair
from anamorph.features.moments import Moments
from anamorph.metrics.frechet import frechet_bias, frechet_distance
from anamorph.metrics.kernel import kernel_distance
from anamorph.metrics.measure import Better, Measure
from anamorph.metrics.neighbours import Memorisation, mean_distance, memorisation, neighbour_scores

__all__ = ["copies", "diversity", "fid", "kid", "neighbours"]


def fid(real: FeatureSet, generated: FeatureSet) -> Measure:
    """Compute the Fréchet distance, and its floor: the value for as many images of the real distribution.

    Raises: UserError as `frechet_distance`, and if the sets are of two networks.
    """
    _check_same_network(real, generated)
    check_pair(real.values, generated.values)
    moments, other = Moments.of(real.values), Moments.of(generated.values)
    floor = frechet_bias(moments, moments.count, other.count)
    return _measure("fid", frechet_distance(moments, other), "low", real, generated, floor=floor)


def kid(real: FeatureSet, generated: FeatureSet, random: Random, subsets: int = 100, size: int = 1000) -> Measure:
    """Compute the kernel distance times 1000, as usually reported.

    Raises: UserError as `kernel_distance`, and if the sets are of two networks.
    """
    _check_same_network(real, generated)
    value, error = kernel_distance(real.values, generated.values, random, subsets, size)
    taken = min(size, len(real), len(generated))
    settings: dict[str, float | str] = {"subsets": subsets, "size": taken}
    return _measure("kid", 1000 * value, "low", real, generated, unit="/ 1000", error=1000 * error, settings=settings)


def neighbours(
    real: FeatureSet, generated: FeatureSet, k: int = 3, density_k: int = 5, progress: Progress = no_progress
) -> list[Measure]:
    """Compute precision, recall, density and coverage.

    Raises: UserError as `neighbour_scores`, and if the sets are of two networks.
    """
    _check_same_network(real, generated)
    found = neighbour_scores(real.values, generated.values, k, density_k, progress)
    return [
        _measure("precision", found.precision, "high", real, generated, settings={"k": k}),
        _measure("recall", found.recall, "high", real, generated, settings={"k": k}),
        _measure("density", found.density, "high", real, generated, settings={"k": density_k}),
        _measure("coverage", found.coverage, "high", real, generated, settings={"k": density_k}),
    ]


def diversity(images: FeatureSet, progress: Progress = no_progress) -> Measure:
    """Compute the mean distance between two of the images; it means something beside that of real images alone."""
    value = mean_distance(images.values, progress)
    return Measure("diversity", value, "", "neither", {images.images: len(images)}, images.network, images.resizer)


def copies(
    train: FeatureSet, held: FeatureSet, generated: FeatureSet, progress: Progress = no_progress
) -> tuple[Measure, Memorisation]:
    """Compute the chance that a generated image lies closer to the training set than a held-out one does: half is as it
    should be; and the distances and nearest images, to be looked at.

    Raises: UserError as `memorisation`, and if the sets are of several networks.
    """
    _check_same_network(train, generated)
    _check_same_network(train, held)
    found = memorisation(train.values, held.values, generated.values, progress)
    n = {"train": len(train), "held out": len(held), "generated": len(generated)}
    # Under the null hypothesis that nothing is copied (Mann and Whitney 1947).
    error = ((len(held) + len(generated) + 1) / (12 * len(held) * len(generated))) ** 0.5
    measure = Measure("copies", found.closer, "", "neither", n, train.network, train.resizer, train.images, error, 0.5)
    return measure, found


def _check_same_network(a: FeatureSet, b: FeatureSet) -> None:
    if (a.network, a.resizer) != (b.network, b.resizer):
        raise UserError(
            f"features of {a.images} are from {a.network} ({a.resizer}), and those of {b.images} from {b.network} "
            f"({b.resizer}): take both from one network"
        )


def _measure(
    name: str,
    value: float,
    better: Better,
    real: FeatureSet,
    generated: FeatureSet,
    unit: str = "",
    error: float | None = None,
    floor: float | None = None,
    settings: dict[str, float | str] | None = None,
) -> Measure:
    n = {"real": len(real), "generated": len(generated)}
    return Measure(name, value, unit, better, n, real.network, real.resizer, real.images, error, floor, settings or {})
