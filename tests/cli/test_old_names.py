"""Options by their old names are answered with the present ones."""

from __future__ import annotations

import dataclasses

import pytest

from anamorph.catalog import MODELS, PRIORS, config_class
from anamorph.cli.old_names import check_option_names
from anamorph.core.errors import UserError
from anamorph.training.format_1 import MODEL_SETTINGS
from commands import fails


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "alae", "digits", "--model.rate", "0.1"], "--model.rate is now --model.learning-rate"),
        (["train", "alae", "digits", "--model.inner=8"], "--model.inner is now --model.resolution"),
        (["train", "vae", "digits", "--model.inner=8"], "--model.inner is now --model.residual-channels"),
        (["train", "vae", "digits", "--model.objective", "iwae"], "--model.objective is now --model.bound"),
        (["train", "vae", "digits", "--model.law.width", "3"], "--model.law.width is now --model.likelihood-config.width"),
        (["train", "stylegan", "digits", "--model.no-smooth"], "--model.no-smooth is now --model.no-blur"),
        (["train", "stylegan", "digits", "--model.most-channels", "8"], "--model.most-channels is now --model.channel-max"),
        (
            ["train", "audio_vqvae", "fsdd", "--model.decoder.no-scaled"],
            "--model.decoder.no-scaled is now --model.decoder.no-scale-sums",
        ),
        (["train", "wavenet", "fsdd", "--model.net.head", "8"], "--model.net.head is now --model.network.head-channels"),
        (
            ["train", "stylegan", "digits", "--preset", "32", "--growing.rates", "1"],
            "--growing.rates is now --growing.lr-scales",
        ),
        (["train", "vae", "fsdd", "--rate", "8000"], "--rate is now --sample-rate"),
        (["train", "vae", "fsdd", "--names", "{digit}_*"], "--names is now --name-pattern"),
        (["train", "vae", "digits", "--best", "fid"], "--best is now --best-metric"),
        (["train", "vae", "digits", "--parts", "2"], "--parts is now --gradient-accumulation"),
        (["resume", "run", "--parts", "2"], "--parts is now --gradient-accumulation"),
        (["sample", "run", "--keep", "1/4"], "--keep is now --keep-best"),
        (["sources", "fsdd", "--rate", "8000"], "--rate is now --sample-rate"),
        (["project", "run", "seed:1", "--rate", "0.1"], "--rate is now --learning-rate"),
        (["project", "run", "seed:1", "--stay", "0.1"], "--stay is now --prior-weight"),
    ],
)
def test_an_old_name_is_answered_with_the_new_one(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    fails(words, message, capsys)


@pytest.mark.parametrize("model", sorted(MODELS | PRIORS))
def test_every_old_setting_has_a_present_name_and_none_is_both(model: str) -> None:
    settings = {field.name for field in dataclasses.fields(config_class(model))}
    for old, new in MODEL_SETTINGS.get(model, {}).items():
        assert old not in settings
        assert new in settings
        with pytest.raises(UserError, match=f"is now --model.{new.replace('_', '-')}$"):
            check_option_names("train", [model, "digits", f"--model.{old.replace('_', '-')}", "1"])


@pytest.mark.parametrize("model", sorted(MODELS | PRIORS))
def test_present_names_pass(model: str) -> None:
    options = [f"--model.{field.name.replace('_', '-')}" for field in dataclasses.fields(config_class(model))]
    check_option_names("train", [model, "digits", "--images", "9", *options])
