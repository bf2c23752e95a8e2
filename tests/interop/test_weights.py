"""The originals' weights: opened as ordinary runs that compute what the originals do."""

from __future__ import annotations

import json
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from anamorph.cli.main import main
from anamorph.core.errors import UserError
from anamorph.core.model import LatentModel
from anamorph.core.signal import Image
from anamorph.edit.truncate import truncate
from anamorph.interop.import_alae import NETWORKS, read_alae, tensor_targets
from anamorph.interop.import_stylegan import official_names, read_stylegan
from anamorph.interop.imported_run import write_run
from anamorph.models.adversarial.stylegan import StyleGAN
from anamorph.models.adversarial_autoencoders.stylealae import StyleALAE
from anamorph.runs import load, settings_of
from anamorph.training.folder import RunFolder
from reference import Case, committed, full

ATOL = 1e-5  # the outputs of case g are of order one; float32


@pytest.fixture
def golden() -> Path:
    import os

    path = Path(os.environ.get("ANAMORPH_GOLDEN", "")) / "alae/g_checkpoint_style_tiny16.pth"
    if not path.is_file():
        pytest.skip("the official checkpoint is not at hand: set ANAMORPH_GOLDEN to its folder")
    return path


def imported(path: Path, out: Path, *words: str) -> StyleALAE:
    assert main(["import", "alae", str(path), "--out", str(out), *words]) == 0
    model = load(out)
    assert isinstance(model, StyleALAE)
    return model


@torch.no_grad()
def test_an_official_checkpoint_computes_what_the_official_code_does(golden: Path, tmp_path: Path) -> None:
    t, model = full("alae/g_checkpoint_style_tiny16").tensors, imported(golden, tmp_path / "run")
    w = model.map(t["z"])

    def close(got: Tensor, key: str) -> None:
        torch.testing.assert_close(got, t[key], atol=ATOL, rtol=1e-5)

    close(w["w"], "w")
    close(model.w_mean["w"], "dlatent_avg")
    close(model.decode(w, "off"), "image/no_trunc/noise_false")
    for cutoff in (3, 8):
        close(model.decode(truncate(w, model.w_mean, 0.7, cutoff), "off"), f"image/trunc0.7_cutoff{cutoff}/noise_false")
    key = "image/trunc0.7_cutoff8/noise_true"
    sampled = [t[f"{key}/randn/{i}"] for i in range(model.layers)]
    # The official code samples the first layer's noise once for the batch, since its constant input has no batch axis.
    maps = {f"noise.{i}": noise.expand(len(t["z"]), *noise.shape[1:]) for i, noise in enumerate(sampled)}
    close(model.decode(truncate(w, model.w_mean, 0.7, 8) | maps), key)
    close(model.encode(t["img"])["w"][:, :1], "encode/Z")
    close(model.critic_logits(t["img"]), "encode/d")
    close(model.decode(model.encode(t["img"]), "off"), "recon/noise_false")
    raw = imported(golden, tmp_path / "raw", "--raw")
    close(raw.decode(raw.map(t["z"]), "off"), "nonema/image/no_trunc/noise_false")


def test_an_imported_run_samples_reconstructs_and_is_trained_further(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    imported(golden, Path(run))
    assert main(["sample", run, "--n", "4", "--psi", "0.7", "--cutoff", "4"]) == 0
    assert main(["sample", run, "--psi", "0.7", "--cutoff", "7"]) == 2
    assert main(["sample", run, "--cutoff", "4"]) == 2
    assert main(["sample", run, "--psi", "nan"]) == 2
    error = capsys.readouterr().err
    assert all(text in error for text in ("0 to 6, the layers of this model", "give --psi, too", "must be a finite number"))
    assert main(["reconstruct", run, "seed:1", "seed:2"]) == 0
    capsys.readouterr()
    assert main(["reconstruct", run, "data:0"]) == 2
    assert "was imported, and has no images of its own" in capsys.readouterr().err
    assert main(["resume", run]) == 2
    assert main(["resume", run, "--source", "shapes"]) == 2
    assert capsys.readouterr().err.count("has no data to train on yet: give --source SOURCE and --images TOTAL") == 2
    assert main(["resume", run, "--images", "32", "--source", "digits-of-nobody"]) == 2
    assert main(["resume", run, "--images", "32", "--source", "shapes"]) == 0
    assert RunFolder(run).images_seen() == 32
    assert main(["resume", run, "--images", "48", "--source", "shapes"]) == 0  # the same command again
    assert main(["resume", run, "--images", "64", "--source", "digits"]) == 2
    assert "cannot be changed" in capsys.readouterr().err
    assert main(["import", "alae", str(golden), "--out", run]) == 2
    assert "already holds a run" in capsys.readouterr().err


def released(depth_reached: int = 3) -> dict[str, Any]:
    """A small checkpoint of the released layout, its finest levels untrained."""
    case = committed("alae_a_style_tiny16")
    nets: dict[str, Any] = {name: OrderedDict() for name in NETWORKS} | {"dlatent_avg": OrderedDict()}
    names = {"mapping_d": "mapping_tl", "mapping_f": "mapping_fl", "decoder": "generator", "encoder": "discriminator"}
    for key, value in case.tensors.items():
        if key.startswith("param/"):
            net, name = key.removeprefix("param/").split(".", 1)
            lod = int(name.split(".")[1]) if name.startswith("to_rgb.") else 0
            untrained = lod >= depth_reached and name.endswith("bias")
            nets[names.get(net, net)][name] = torch.zeros_like(value) if untrained else value
    nets |= {f"{name}_s": nets[name] for name in NETWORKS}
    return {"models": nets, "auxiliary": {"scheduler": {}}}


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("reached", [1, 2, 3])
def test_the_level_that_was_reached_is_found_and_kept(tmp_path: Path, new: bool, reached: int) -> None:
    torch.save(released(reached), tmp_path / "model.pth", _use_new_zipfile_serialization=new)
    imported(tmp_path / "model.pth", tmp_path / "run")
    side = 2 << reached
    assert load(tmp_path / "run").signal == Image(3, side, side)
    assert settings_of(RunFolder(tmp_path / "run")).level == 3 - reached
    assert main(["sample", str(tmp_path / "run"), "--n", "1"]) == 0
    assert main(["resume", str(tmp_path / "run"), "--images", "16", "--source", "shapes"]) == 0
    assert load(tmp_path / "run").signal == Image(3, side, side)
    assert main(["reconstruct", str(tmp_path / "run"), "--n", "2"]) == 0


def spoiled(random: np.random.Generator, tree: Any) -> Any:
    """A tree in which one thing, somewhere, is not what it was."""
    if isinstance(tree, dict) and tree and random.random() < 0.9:
        name = list(tree)[random.integers(len(tree))]
        return {**tree, name: spoiled(random, tree[name])}
    if isinstance(tree, dict) and tree and random.random() < 0.5:
        return {name: value for name, value in tree.items() if random.random() < 0.5}
    others = [torch.ones(()), torch.ones(3), torch.ones(0, 5), torch.ones(2, 3, 4, 5, 1), torch.full((4, 4), float("inf"))]
    things: list[Any] = [None, 3, "text", [], {}, {"weight": torch.ones(2)}, *others]
    if isinstance(tree, Tensor) and tree.dim() and random.random() < 0.5:
        return [tree.flatten(), tree.unsqueeze(0), tree[..., :1], tree.repeat(*[2] * tree.dim()), tree.double()][
            random.integers(5)
        ]
    return things[random.integers(len(things))]


@pytest.mark.parametrize("kind", ["alae", "stylegan"])
def test_spoiled_checkpoints_are_opened_or_refused_and_nothing_else(kind: str, tmp_path: Path) -> None:
    random, path, refused = np.random.default_rng(0), tmp_path / "file.pth", 0
    case = stylegan_case("committed")
    whole = released() if kind == "alae" else {"generator": weights(case, "G"), "discriminator": weights(case, "D")}
    for _ in range(120):
        torch.save(spoiled(random, whole), path)
        try:
            (read_alae if kind == "alae" else read_stylegan)(path)
        except UserError:  # anything else fails the test
            refused += 1
    assert refused > 40


def test_a_model_of_absurd_size_takes_no_memory(tmp_path: Path) -> None:
    tree = released()
    for suffix in ("", "_s"):
        tree["models"][f"generator{suffix}"]["decode_block.0.style_1.weight"] = torch.ones(1, 1).expand(1, 1)[:0].view(0, 1)
        tree["models"][f"discriminator{suffix}"]["from_rgb.0.from_rgb.weight"] = torch.empty(3_000_000, 0, 1, 1)
    torch.save(tree, tmp_path / "model.pth")
    with pytest.raises(UserError, match="does not fit|no StyleALAE"):
        read_alae(tmp_path / "model.pth")


def test_all_that_does_not_fit_is_listed(tmp_path: Path) -> None:
    tree = released()
    generator = tree["models"]["generator_s"]
    del generator["const"]
    generator["surplus"] = torch.ones(2)
    generator["decode_block.1.bias_1"] = torch.ones(1, 7, 1, 1)
    generator["decode_block.1.bias_2"] = generator["decode_block.1.bias_2"] * float("nan")
    torch.save(tree, tmp_path / "model.pth")
    with pytest.raises(UserError) as error:
        read_alae(tmp_path / "model.pth")
    text = str(error.value)
    assert "1 missing (generator.const)" in text
    assert "1 not known (generator.surplus 2)" in text
    assert "1 of another shape (generator.decode_block.1.bias_1 1x7x1x1, expected" in text
    assert "1 not finite (generator.decode_block.1.bias_2)" in text


@pytest.mark.parametrize(
    "tree", [{"models": {}}, {"models": {"vae": {}}}, {"state_dict": {}}, [1, 2], 3, {"models": {"generator": {}}}]
)
def test_checkpoints_of_other_models_are_named_as_such(tmp_path: Path, tree: Any) -> None:
    torch.save(tree, tmp_path / "model.pth")
    with pytest.raises(UserError, match="no checkpoint of ALAE's|no StyleALAE"):
        read_alae(tmp_path / "model.pth")
    with pytest.raises(UserError, match="no StyleGAN"):
        read_stylegan(tmp_path / "model.pth")


def test_a_file_that_is_cut_short_leaves_no_run_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(released(), tmp_path / "model.pth")
    data = (tmp_path / "model.pth").read_bytes()
    for length in (0, 3, 100, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.pth").write_bytes(data[:length])
        assert main(["import", "alae", str(tmp_path / "cut.pth"), "--out", str(tmp_path / "run")]) == 2
        assert "cut.pth" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_its_places_are_all_of_a_models_parameters() -> None:
    from anamorph.models.adversarial_autoencoders.stylealae import StyleALAEConfig

    model = StyleALAE(Image(3, 16, 16), StyleALAEConfig(w_dim=8, channel_base=64, channel_max=8))
    assert {place.target for place in tensor_targets(model).values()} >= set(model.parameters())


CASES = ("committed", "r16_cond", "r16_rgba_map1", "r32_no_const", "r128_auto_fused")


def stylegan_case(name: str) -> Case:
    return committed("stylegan_r16") if name == "committed" else full(f"stylegan/stylegan_{name}")


def weights(case: Case, net: str) -> dict[str, Tensor]:
    """The tensors of one network under genforce's names."""
    return {key.removeprefix(f"{net}."): value for key, value in case.tensors.items() if key.startswith(f"{net}.")}


def to_official(value: Tensor, how: str) -> np.ndarray[Any, Any]:
    """A tensor of genforce's as the official variable that it came from."""
    if "flip" in how:
        value = value.flip(2, 3).permute(1, 0, 2, 3).flatten(1)
    elif value.dim() == 4 and "permute" in how:
        value = value.permute(2, 3, 1, 0)
    elif value.dim() == 2 and how.endswith(".T"):
        value = value.T
    return value.contiguous().numpy()


def official(case: Case, net: str) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors of one network under the official names, by the case's own map."""
    names = case.facts[f"names_{net}"]
    return {names[name]["tf"]: to_official(value, names[name]["tf_to_port"]) for name, value in weights(case, net).items()}


def as_genforce(case: Case, path: Path) -> Path:
    trained = {name: -value for name, value in weights(case, "G").items()}
    nets = {"generator": trained, "generator_smooth": weights(case, "G"), "discriminator": weights(case, "D")}
    torch.save({"models": nets, "running_metadata": {"iter": 7}}, path.with_suffix(".pth"))
    return path.with_suffix(".pth")


def as_npz(case: Case, path: Path) -> Path:
    arrays: dict[str, Any] = {f"{net}/{name}": value for net in ("G", "D") for name, value in official(case, net).items()}
    np.savez(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def as_safetensors(case: Case, path: Path) -> Path:
    save_file(
        {name: torch.from_numpy(value.copy()) for name, value in official(case, "G").items()}, path.with_suffix(".safetensors")
    )
    return path.with_suffix(".safetensors")


def as_pickle(case: Case, path: Path) -> Path:
    """(G, D, Gs) as the official code pickles its networks: the variables, and those of the components."""
    module = types.ModuleType("dnnlib.tflib.network")
    network = type("Network", (), {"__module__": module.__name__, "__getstate__": lambda self: self.state})
    module.Network = network  # type: ignore[attr-defined]

    def net(variables: dict[str, Any], **components: Any) -> Any:
        made = network()
        made.state = {
            "version": 3,
            "name": "net",
            "static_kwargs": {},
            "components": components,
            "build_module_src": "raise SystemExit('executed')",
            "variables": list(variables.items()),
        }
        return made

    g, d = official(case, "G"), official(case, "D")
    mapping = {k: v for k, v in g.items() if k.startswith(("Dense", "LabelConcat"))}
    top = {k: v for k, v in g.items() if k in ("dlatent_avg", "lod")}
    synthesis = {k: v for k, v in g.items() if k not in mapping and k != "dlatent_avg"}
    generator = net(top, mapping=net(mapping), synthesis=net(synthesis))
    trained = net(top, mapping=net({k: -v for k, v in mapping.items()}), synthesis=net({k: -v for k, v in synthesis.items()}))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("dnnlib", "dnnlib.tflib"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        path.with_suffix(".pkl").write_bytes(pickle.dumps((trained, net(d), generator), 4))
    return path.with_suffix(".pkl")


@pytest.mark.parametrize("write", [as_genforce, as_npz, as_safetensors, as_pickle])
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_stylegans_are_opened_in_every_layout(name: str, write: Any, tmp_path: Path) -> None:
    case = stylegan_case(name)
    t, facts = case.tensors, case.facts
    found = read_stylegan(write(case, tmp_path / "file"))
    write_run(found, tmp_path / "run")
    model = load(tmp_path / "run")
    assert isinstance(model, StyleGAN)
    side = facts["config"]["resolution"]
    assert model.signal == Image(facts["config"]["image_channels"], side, side)
    labels = {"class": t["label"].argmax(1)} if "label" in t else {}
    noise = 5 * max(*facts["fp32_err"].values(), 2e-7 * facts["max_abs"]["image_psi1"])
    case.close(model.decode(model.map(t["z"], labels)), "image_psi1", atol=noise)
    if write in (as_genforce, as_npz, as_pickle):
        real = t["label_real"].argmax(1) if "label_real" in t else None
        case.close(model.discriminator(t["real"], classes=real).unsqueeze(1), "score", atol=noise)
    else:
        assert "no discriminator" in found.notes[0]


def test_averaged_weights_are_used_and_trained_ones_are_gone_on_from(tmp_path: Path) -> None:
    found = read_stylegan(as_genforce(stylegan_case("committed"), tmp_path / "file"))
    its, mine = found.model.state_dict(), found.average.state_dict()
    assert torch.equal(its["synthesis.constant"], -mine["synthesis.constant"])
    write_run(found, tmp_path / "run")
    write_run(found, tmp_path / "raw", raw=True)
    assert torch.equal(load(tmp_path / "run").state_dict()["synthesis.constant"], mine["synthesis.constant"])
    assert torch.equal(load(tmp_path / "raw").state_dict()["synthesis.constant"], its["synthesis.constant"])


def test_the_level_of_a_stylegan_is_read(tmp_path: Path) -> None:
    case = stylegan_case("committed")
    case.tensors["G.synthesis.lod"] = torch.tensor(-7.0)  # the trained network's, negated
    with pytest.raises(UserError, match="below its full size, and it has 3"):
        read_stylegan(as_genforce(case, tmp_path / "file"))
    case.tensors["G.synthesis.lod"] = torch.tensor(1.0)
    write_run(read_stylegan(as_genforce(case, tmp_path / "file")), tmp_path / "run")
    model: LatentModel = load(tmp_path / "run")
    assert model.signal == Image(3, 8, 8)


def test_the_official_names_are_those_of_the_reference() -> None:
    facts = committed("stylegan_r16").facts
    for net in ("G", "D"):
        mine = {theirs: name for theirs, (name, _) in official_names(3)[net].items()}
        for name, theirs in facts[f"names_{net}"].items():
            if not name.endswith("lod"):
                assert mine[theirs["tf"]] == name


def test_the_command_tells_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = as_genforce(stylegan_case("committed"), tmp_path / "file")
    assert main(["import", "stylegan", str(path), "--out", str(tmp_path / "run"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["model"], facts["level"]) == ("stylegan", 0)
    assert main(["sample", str(tmp_path / "run"), "--n", "4"]) == 0
