"""Models compared in the same minutes, small; and gone on with where it was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anamorph.core.files import read_json
from anamorph.models.autoencoders.autoencoder import AutoencoderConfig
from anamorph.models.autoencoders.vae import VAEConfig
from anamorph.models.closed_form.gaussian_mixture import MixtureConfig
from experiments.family import FAMILIES, Entrant, Family, Leg, family_comparison
from trained import HERE

TINY = {
    "digits": Family(
        "digits",
        (8, 8),
        {
            "vae": Entrant((Leg("vae", VAEConfig(z_dim=4, widths=(16,), likelihood="gaussian"), rate=2000, batch=32),)),
            "autoencoder + mixture": Entrant(
                (
                    Leg("autoencoder", AutoencoderConfig(z_dim=4, width=16), 0.5, 2000, 32),
                    Leg("mixture", MixtureConfig(num_components=2), 0.5, 2000, 32),
                )
            ),
        },
    )
}


def test_every_entrant_has_its_seconds_and_is_measured(tmp_path: Path) -> None:
    said: list[str] = []
    assert not family_comparison(tmp_path, HERE, said.append, 0.01, 90, TINY, lambda: True, workers=1, features="pixels-pca")
    assert not (tmp_path / "digits.md").exists()
    arguments = (tmp_path, HERE, said.append, 0.01, 90, TINY)
    assert family_comparison(*arguments, workers=1, features="pixels-pca")
    budgets = [read_json(path) for path in sorted(tmp_path.glob("digits/*/*/budget.json"))]
    assert len(budgets) == 3
    assert all(budget["done"] for budget in budgets)
    text = (tmp_path / "digits.md").read_text()
    assert "| vae | " in text
    assert "| MSE ↓ |" in text
    assert (tmp_path / "digits.png").stat().st_size > 500
    assert (tmp_path / "digits" / "comparison.html").is_file()
    before = [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("digits/*/*/checkpoints/*"))]
    assert family_comparison(*arguments, workers=1, features="pixels-pca")  # nothing is trained again
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.glob("digits/*/*/checkpoints/*"))] == before


def test_a_family_is_measured_before_the_next_is_trained(tmp_path: Path) -> None:
    both = {place: replace(TINY["digits"], entrants={"vae": TINY["digits"].entrants["vae"]}) for place in ("first", "second")}

    def measured() -> bool:
        return (tmp_path / "first.md").exists()

    arguments = (tmp_path, HERE, print, 0.01, 90, both)
    assert not family_comparison(*arguments, measured, workers=1, features="pixels-pca")
    assert (tmp_path / "first.png").is_file()
    assert not (tmp_path / "second.md").exists()
    assert family_comparison(*arguments, workers=1, features="pixels-pca")
    assert (tmp_path / "second.md").read_text().startswith("## digits")


def test_the_families_are_of_models_that_there_are() -> None:
    from anamorph.catalog import MODELS, PRIORS

    legs = [leg for family in FAMILIES.values() for entrant in family.entrants.values() for leg in entrant.legs]
    assert {leg.model for leg in legs} <= MODELS.keys() | PRIORS.keys()
    of_images = {name for name, entry in MODELS.items() if "image" in entry.signals}
    assert of_images <= {leg.model for entrant in FAMILIES["fashion-mnist"].entrants.values() for leg in entrant.legs}
    assert len(FAMILIES["cats"].entrants) == 4
    assert all(
        sum(leg.share for leg in entrant.legs) == 1 for family in FAMILIES.values() for entrant in family.entrants.values()
    )
