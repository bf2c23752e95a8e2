"""Runs that older versions wrote: each opens, samples what it sampled, resumes to the same bits, and shows in the studio.

format_1: made by make_format_1.py, as it was when these runs were committed.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from anamorph.coding.compress import decompress
from anamorph.core.errors import UserError
from anamorph.core.model import Samples
from anamorph.core.space import check_codes
from anamorph.edit.directions import Directions
from anamorph.models.two_stage import TwoStageModel
from anamorph.runs import load, open_training
from anamorph.settings import settings_of
from anamorph.studio.describe import describe
from anamorph.studio.points import DecodeOptions, FromSeed
from anamorph.studio.saved_session import Session
from anamorph.training.folder import RunFolder
from signs import Sign, processor, seen, signs
from sounds import recordings
from studios import bench_of

HERE = Path(__file__).parent / "format_1"
RUNS = sorted(path.stem for path in HERE.glob("*.zip"))


@pytest.fixture
def unpacked(tmp_path: Path) -> Any:
    """Unpacks a run, and those whose codes it learned, with the recordings that runs of sounds are trained on."""

    def unpack(name: str) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path / name
        with zipfile.ZipFile(HERE / f"{name}.zip") as archive:
            archive.extractall(folder)
        config = (folder / "config.json").read_text().replace("ROOT", str(tmp_path))
        (folder / "config.json").write_text(config)
        if "recordings" in config:
            recordings(tmp_path / "recordings")
        return folder, json.loads((folder / "expected.json").read_text())

    return unpack


def same_tensors(found: list[Sign], expected: list[Any], exact: bool) -> bool:
    """Whether every tensor that was there is there again; a later version may keep more."""
    if exact:
        return not Counter(sign[0] for sign in expected) - Counter(sign[0] for sign in found)
    left = list(found)
    for _, size, total, absolute in expected:
        close = [s for s in left if s[1] == size and math.isclose(s[3], absolute, rel_tol=0.02, abs_tol=1e-4)]
        if not close:
            return False
        left.remove(min(close, key=lambda s: abs(s[2] - total)))
    return True


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_opens_samples_resumes_and_shows(name: str, unpacked: Any) -> None:
    run, expected = unpacked(name)
    exact = expected["processor"] == processor()
    now = seen(run)
    assert {"samples", "reconstructions"} & now.keys() == {"samples", "reconstructions"} & expected.keys()
    for what, values in now.items():
        torch.testing.assert_close(values, torch.tensor(expected[what]), atol=1e-4 if exact else 1e-2, rtol=1e-3)
    bench = bench_of(run)
    facts = describe(bench)
    assert facts["panels"]
    if isinstance(bench.model, Samples):
        codes = bench.codes([FromSeed(seed=7)])
        assert check_codes(codes, bench.model.spaces) == 1
        torch.testing.assert_close(bench.decode(codes, DecodeOptions())[0].flatten(), now["samples"], atol=1e-4, rtol=1e-3)
    if "tensors" in expected:
        folder = RunFolder(run)
        folder.update_config({"images": expected["last"]})
        with folder.locked():
            for _ in open_training(folder).run_to_end():
                pass
        found = folder.latest()
        assert found is not None
        assert same_tensors(signs(found[0]), expected["tensors"], exact)


def unnamed(kind: Any, values: Any, where: str) -> list[str]:
    """The fields of a dataclass, and of those within it, that plain values do not name."""
    wrong = [f"{where}.{f.name}" for f in fields(kind) if f.name not in values]
    inner = {f.name: getattr(kind, f.name) for f in fields(kind) if is_dataclass(getattr(kind, f.name)) and f.name != "config"}
    return wrong + [text for name, one in inner.items() for text in unnamed(one, values.get(name, {}), f"{where}.{name}")]


@pytest.mark.parametrize("name", RUNS)
def test_a_migrated_config_names_every_setting(name: str, unpacked: Any) -> None:
    """Otherwise a new default would change what an old run is."""
    run, _ = unpacked(name)
    config, settings = RunFolder(run).config(), settings_of(RunFolder(run))
    model = settings.config if isinstance(settings.config, tuple) else (settings.config,)
    plain = config["config"] if isinstance(config["config"], list) else [config["config"]]
    wrong = [text for kind, values in zip(model, plain, strict=True) for text in unnamed(kind, values, "config")]
    assert not wrong + unnamed(settings, {**config, "config": {}}, "run")


def test_what_lies_in_an_old_run_folder_is_read(unpacked: Any) -> None:
    run, _ = unpacked("vae")
    directions = Directions.read(run / "directions-pca.safetensors")
    directions.check(load(run).spaces)
    assert directions.names == ("pca0", "pca1")
    assert len(RunFolder(run).metrics()) > 3
    assert json.loads((run / "evaluation" / "evaluation.json").read_text())


@pytest.mark.parametrize("name", ["pixelcnn", "wavenet-speaker"])
def test_an_old_compressed_file_is_known(name: str, unpacked: Any) -> None:
    """Whether it can be unpacked depends on the processor; that it is of this model does not."""
    run, expected = unpacked(name)
    model = load(run)
    assert isinstance(model, TwoStageModel)
    try:
        (found,) = decompress(model, [(run / "file.anam").read_bytes()])
    except UserError as error:
        assert "other" not in str(error)  # noqa: PT017
        assert expected["processor"] != processor()
    else:
        assert found.signals.shape == (1, *model.signal.shape)


def test_an_old_session_of_the_studio_opens() -> None:
    session = Session.model_validate_json((HERE / "session.json").read_text())
    session.check()
    assert len(session.pins) == 2
    assert session.look.noise_seed == 5
