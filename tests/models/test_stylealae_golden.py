"""StyleALAE against the author's released classes: forward passes at every level and alpha, losses, gradients, iterations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anamorph.core.random import Random, Replay
from anamorph.core.recipe import Phase
from anamorph.core.signal import Batch, Image
from anamorph.core.stage import Constant, Stage
from anamorph.edit.truncate import truncate
from anamorph.interop.import_alae import tensor_targets
from anamorph.interop.load_tensors import TensorTarget, load_tensors
from anamorph.models.adversarial_autoencoders.stylealae import Encoder, StyleALAE, StyleALAEConfig, recipe
from anamorph.nn.mapping_network import mix_styles
from anamorph.nn.resample import fade_in
from anamorph.training.ema import EMA
from anamorph.training.gradients import compute_gradients
from anamorph.training.loop import train_phase
from anamorph.training.run import ComputeSettings, Run
from reference import Case, committed, full

EVERY = pytest.mark.parametrize("name", ["committed", "a_style_tiny16", "b_style_fused128", "d_style_gray32"])
NOISY = {
    # A feature of E lies at the kink of its leaky ReLU: random numbers changed by 3e-6 move these norms by up to 3e-3.
    ("b_style_fused128", "top_blend1", "critic"): 3e-3,
}
"""Relative float32 noise of gradient norms, measured, where it is more than 2e-4."""
NUDGED = {("b_style_fused128", "top_blend0.35", "reciprocity"): 1}
"""Where rounding decides on which side of its leaky ReLU's kink a feature lies: the seed of a perturbation of random numbers by
3e-7 that puts it on the recorded side. Without it, norms differ by up to 2.6e-2, in float64 too; with it, by 3e-5."""
LOSSES = {"critic": "loss_d", "generator": "loss_g", "reciprocity": "lae"}


@dataclass(frozen=True)
class Loaded:
    """A case, our model with its weights, and the places of the original's tensors in it."""

    case: Case
    model: StyleALAE
    tensor_targets: dict[str, TensorTarget]

    @property
    def depth(self) -> int:
        return int(self.case.facts["config"]["layer_count"])

    def stage(self, lod: int, blend: float, batch: int = 2) -> Stage:
        return Stage(self.depth - 1 - lod, batch, blend)

    def close(self, got: Tensor, key: str) -> None:
        """Within five times the float32 noise of this output, or of the noisiest of its kind where it has none of its own."""
        kind = key.split("/")[0]
        kind = {"dec_w": "dec", "trunc": "dec", "mix": "dec"}.get(kind, kind)
        noise = self.case.facts["fp32_noise"]
        known = {k: v["max_abs_err_vs_fp64"] for k, v in noise.items() if k.startswith(kind)}
        floor = 1.2e-7 * max(1.0, float(self.case.tensors[key].abs().max()))
        self.case.close(got.detach(), key, atol=5 * max(known.get(key, max(known.values(), default=0.0)), floor))


def load(name: str) -> Loaded:
    case = committed("alae_a_style_tiny16") if name == "committed" else full(f"alae/{name}")
    c = case.facts["config"]
    side = 2 ** (c["layer_count"] + 1)
    config = StyleALAEConfig(
        w_dim=c["latent"], mapping_layers=c["mapping_layers"], channel_base=c["startf"] * side, channel_max=c["maxf"]
    )
    model = StyleALAE(Image(c["channels"], side, side), config)
    found = {_renamed(key): place for key, place in tensor_targets(model).items()}
    weights = {key.removeprefix("param/"): t for key, t in case.tensors.items() if key.startswith("param/")}
    load_tensors(found, {key: t for key, t in weights.items() if not key.endswith("blur.weight")}, name)
    return Loaded(case, model, found)


RENAMED = {"mapping_tl": "mapping_d", "mapping_fl": "mapping_f", "generator": "decoder", "discriminator": "encoder"}


def _renamed(key: str) -> str:
    """The name of the original's attribute for a name in a checkpoint."""
    net, rest = key.split(".", 1)
    return f"{RENAMED.get(net, net)}.{rest}"


def replayed(case: Case, key: str) -> list[Tensor]:
    """The numbers of a case's random stream."""
    prefix = f"{key}/randn/"
    return [case.tensors[f"{prefix}{i}"] for i in range(sum(k.startswith(prefix) for k in case.tensors))]


def draws(case: Case, key: str, layers: int) -> dict[str, list[Tensor]]:
    """The random numbers of an iteration's three phases, in our order: z, z2, decision, crossover, noise maps.

    The original samples z2 and the crossover only if it mixes, and neither in the third phase.
    """
    numbers, choices = replayed(case, key), list(case.facts["python_random"].get(key, []))
    found = {}
    for phase in LOSSES:
        z, *numbers = numbers
        found[phase] = [z]
        if phase != "reciprocity":
            decision, *choices = choices
            does_mix = decision["value"] < 0.9
            other, crossover = z, 1
            if does_mix:
                other, *numbers = numbers
                picked, *choices = choices
                crossover = picked["value"]
            found[phase] += [other, torch.tensor([decision["value"]]), torch.tensor([crossover])]
        found[phase] += numbers[:layers]
        numbers = numbers[layers:]
    assert not numbers
    assert not choices
    return found


def _variants(t: dict[str, Tensor], start: str) -> list[tuple[str, int, float, str]]:
    """Keys such as dec/lod2/blend0.35/noise_false, with their level, blend and the rest."""
    found = []
    for key in t:
        parts = key.split("/")
        if parts[0] == start and len(parts) in (3, 4) and parts[1].startswith("lod") and parts[2].startswith("blend"):
            found.append((key, int(parts[1][3:]), float(parts[2][5:]), "/".join(parts[3:])))
    assert found
    return found


@EVERY
def test_forward_passes_agree_at_every_level_and_blend(name: str) -> None:
    at = load(name)
    case, model, t = at.case, at.model, at.case.tensors
    at.close(model.map(t["z"])["w"], "w")
    for start, codes in (("dec", t["styles"]), ("dec_w", t["w"])):
        for key, lod, blend, noise in _variants(t, start):
            stage = at.stage(lod, blend)
            layers = model.layers_at(stage.level)
            maps: list[Tensor | None] = [None] * layers if noise == "noise_false" else [*replayed(case, key)]
            at.close(model.synthesis(codes, maps, stage.level, blend), key)
    for key, lod, blend, _ in _variants(t, "enc"):
        view = model.at(at.stage(lod, blend))
        at.close(view.encode(t[f"img/lod{lod}"])["w"][:, :1], key)
    for key, lod, blend, _ in _variants(t, "disc"):
        at.close(model.critic_logits(t[f"img/lod{lod}"], at.depth - 1 - lod, blend), key)
    for key, lod, blend, _ in _variants(t, "blend_input"):
        case.close(fade_in(t[f"img/lod{lod}"], blend), key, atol=1e-6)


@EVERY
def test_truncation_mixing_and_the_mean_agree(name: str) -> None:
    at = load(name)
    model, t = at.model, at.case.tensors
    codes, start = model.map(t["z"]), model.w_mean_tracker.mean.clone()
    for key in [k for k in t if k.startswith("trunc/psi") and k.endswith("styles")]:
        psi, cutoff = key.split("/")[1].removeprefix("psi").split("_cutoff")
        cut = truncate(codes, model.w_mean, float(psi), int(cutoff))
        at.close(cut["w"], key)
        at.close(model.decode(cut, "off"), key.replace("styles", "image"))
    model.w_mean_tracker.gather(codes["w"])
    model.w_mean_tracker.commit()
    at.close(model.w_mean["w"], "avg_update/beta0.995/buff_after")
    model.w_mean_tracker.mean.copy_(start)
    for key, facts in at.case.facts["python_random"].items():
        if key.startswith("mix/"):
            z, other = (model.map(drawn)["w"] for drawn in replayed(at.case, key))
            chosen = [torch.tensor([fact["value"]]) for fact in facts]
            layers = 2 * (int(key.removeprefix("mix/lod")) + 1)
            at.close(mix_styles(z, other, Replay(chosen), 0.9, layers), f"{key}/styles")


@EVERY
@pytest.mark.parametrize("tag", ["top_blend1", "top_blend0.35", "lod1_blend1", "lod0_blend1"])
def test_losses_and_gradients_agree(name: str, tag: str) -> None:
    at = load(name)
    model, t = at.model, at.case.tensors
    where, blend = tag.split("_blend")
    lod = at.depth - 1 if where == "top" else int(where[3:])
    stage = at.stage(lod, float(blend))
    batch = Batch(t[f"img/lod{lod}"])
    torch.testing.assert_close(fade_in(batch.signals, stage.alpha), t[f"loss/{tag}/x"], atol=1e-6, rtol=0)
    for phase in recipe(model).phases:
        key = f"loss/{tag}/{LOSSES[phase.name]}"
        numbers = _alone(at, key, phase.name, model.layers_at(stage.level))
        if (name, tag, phase.name) in NUDGED:
            generator = torch.Generator().manual_seed(NUDGED[name, tag, phase.name])
            numbers = [n + 3e-7 * torch.randn(n.shape, generator=generator) for n in numbers]
        outcome, found = compute_gradients(phase, batch, stage, Replay(numbers), ComputeSettings())
        at.close(outcome.total(), key)
        by_parameter: dict[Tensor, Tensor | None] = dict(zip(phase.parameters, found, strict=True))
        norms = at.case.facts["grad_norms"][key]
        for parameter_name, place in at.tensor_targets.items():
            if place.target in by_parameter:
                gradient = by_parameter[place.target]
                norm = 0.0 if gradient is None else float(gradient.double().norm())
                expected = norms.get(parameter_name) or 0.0
                rel = NOISY.get((name, tag, phase.name), 2e-4)
                assert norm == pytest.approx(expected, rel=rel, abs=2e-6), (phase.name, parameter_name)


def _alone(at: Loaded, key: str, phase: str, layers: int) -> list[Tensor]:
    """The random numbers of a single phase's case."""
    z, *numbers = replayed(at.case, key)
    if phase == "reciprocity":
        return [z, *numbers]
    decision, *rest = at.case.facts["python_random"][key]
    other = numbers.pop(0) if decision["value"] < 0.9 else z
    crossover = rest[0]["value"] if rest else 1
    assert len(numbers) == layers
    return [z, other, torch.tensor([decision["value"]]), torch.tensor([crossover]), *numbers]


class _Replayed(Run):
    """A run whose phases use recorded random numbers."""

    numbers: dict[str, list[Tensor]]

    def random(self, phase: Phase) -> Random:
        return Replay(self.numbers[phase.name])


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("a_style_tiny16", "top_blend1"),
        ("a_style_tiny16", "top_blend0.35"),
        ("d_style_gray32", "top_blend1"),
        ("b_style_fused128", "top_blend1"),
    ],
)
def test_training_iterations_agree(name: str, tag: str) -> None:
    """In float64: Adam's first step is the learning rate times the gradient's sign, so rounding decides the step of a weight
    with almost no gradient."""
    at = load(name)
    model, t = at.model.double(), at.case.tensors
    stage = at.stage(at.depth - 1, float(tag.split("_blend")[1]), batch=4)
    run = _Replayed(model, recipe(model), Constant(4))
    for adam in run.recipe.optimizers.values():
        adam.learning_rate = 0.002
    iterations = sum(f"train/{tag}/it{i}/loss_d" in t for i in range(5))
    assert iterations == (2 if (name, tag) == ("a_style_tiny16", "top_blend1") else 1)
    for i in range(iterations):
        key = f"train/{tag}/it{i}"
        numbers = draws(at.case, key, model.layers)
        run.numbers = {phase: [n.double() if n.is_floating_point() else n for n in its] for phase, its in numbers.items()}
        for phase in run.recipe.phases:
            outcome = train_phase(run, phase, Batch(t[f"{key}/x_raw"].double()), stage)
            at.case.close(outcome.total().float(), f"{key}/{LOSSES[phase.name]}", atol=1e-5)
        at.case.close(model.w_mean["w"].float(), f"{key}/dlatent_avg", atol=5e-6)
        far = total = 0
        for parameter_name, place in at.tensor_targets.items():
            if f"{key}/after/{parameter_name}" in t and isinstance(place.target, nn.Parameter):
                expected = place.converted(t[f"{key}/after/{parameter_name}"])
                assert expected is not None
                far += int(((place.target.detach() - expected).abs() > 1e-5).sum())
                total += expected.numel()
        assert far <= 1e-4 * total
        assert total or name == "b_style_fused128"


def ablated(name: str, w_from: str) -> tuple[Case, Encoder, float]:
    """One of the ablations' encoders with the case's weights, and the tolerance for its outputs."""
    case = full("alae/f_ablation_parts")
    c = case.facts["configs"][name]
    side = 2 ** (c["layer_count"] + 1)
    config = StyleALAEConfig(w_dim=c["latent_size"], channel_base=c["startf"] * side, channel_max=c["maxf"])
    encoder: Any = Encoder(Image(c["channels"], side, side), config, w_from)
    found: dict[str, TensorTarget] = {}
    for kind in ("weight", "bias"):
        for i, from_rgb in enumerate(encoder.from_rgb):
            found[f"from_rgb.{i}.from_rgb.{kind}"] = TensorTarget(getattr(from_rgb, kind))
        for i, block in enumerate(encoder.blocks):
            layers = {"dense": block.dense, "style_1": block.read_1, "style_2": block.read_2}
            found |= {
                f"encode_block.{i}.{n}.{kind}": TensorTarget(getattr(layer, kind)) for n, layer in layers.items() if layer
            }
        if encoder.last is not None:
            found[f"fc2.{kind}"] = TensorTarget(getattr(encoder.last, kind))
    for i, block in enumerate(encoder.blocks):
        for number, conv in ((1, block.conv), (2, block.down)):
            if conv is not None:
                found[f"encode_block.{i}.conv_{number}.weight"] = TensorTarget(conv.weight)
                found[f"encode_block.{i}.bias_{number}"] = TensorTarget(conv.bias)
    start = f"{name}/param/"
    theirs = {key.removeprefix(start): t for key, t in case.tensors.items() if key.startswith(start)}
    load_tensors(found, {key: t for key, t in theirs.items() if key in found}, name)
    unused = {f"encode_block.{len(encoder.blocks) - 1}.bias_2", "fc2.weight", "fc2.bias"}  # dense has a bias of its own
    assert {key for key in theirs if key not in found and not key.endswith("blur.weight")} <= unused
    return case, encoder, 5e-6


@pytest.mark.parametrize(
    ("name", "w_from", "key"),
    [
        ("EncoderNoStyle", "features", "out"),
        ("EncoderWithStatistics", "styles and features", "out"),
        ("EncoderWithFC", "styles and features", "styles"),
    ],
)
@torch.no_grad()
def test_the_encoders_of_the_ablations_agree(name: str, w_from: str, key: str) -> None:
    case, encoder, atol = ablated(name, w_from)
    checked = 0
    for where in [k for k in case.tensors if k.startswith(f"{name}/lod") and k.endswith(f"/{key}")]:
        _, lod, blend, _ = where.split("/")
        x, level = case.tensors[f"{name}/{lod}/x"], len(encoder.blocks) - 1 - int(lod[3:])
        case.close(encoder(x, level, float(blend[5:])).unsqueeze(1), where, atol)
        if name == "EncoderWithFC":
            weight, bias = (case.tensors[f"{name}/param/fc2.{kind}"] for kind in ("weight", "bias"))
            features = encoder.styles_and_features(x, level, float(blend[5:]))[1]
            case.close(torch.nn.functional.linear(features, weight, bias), where.replace("styles", "fc2"), atol)
        checked += 1
    assert checked == 5


@torch.no_grad()
def test_the_mapping_of_the_ablations_agrees() -> None:
    case = full("alae/f_ablation_parts")
    w_dim = case.tensors["MappingDefault/z"].shape[1]
    mapping: Any = StyleALAE(
        Image(3, 8, 8), StyleALAEConfig(w_dim=w_dim, mapping_layers=3, mapping_lr_multiplier=0.01, channel_base=64)
    ).mapping
    for i, layer in enumerate(mapping.net.layers, 1):
        for kind in ("weight", "bias"):
            getattr(layer, kind).copy_(case.tensors[f"MappingDefault/param/block_{i}.fc.{kind}"])
        assert layer.lr_multiplier == 0.01
    w = mapping(case.tensors["MappingDefault/z"])
    case.close(w.unsqueeze(1).expand(-1, 6, -1), "MappingDefault/w", 1e-6)


@pytest.mark.parametrize("name", ["a_style_tiny16", "d_style_gray32"])
def test_the_averaged_weights_are_those_of_the_original(name: str) -> None:
    """After one step; the tracked mean is copied, not averaged."""
    at = load(name)
    t, checked = at.case.tensors, 0
    for tag in sorted({key.split("/")[1] for key in t if key.startswith("ema/")}):
        last = max(int(key.split("/")[2][2:]) for key in t if key.startswith(f"train/{tag}/it"))
        for batch in (512, 4):
            average = EMA(at.model, half_life=10_000)
            followed = {id(its): mine for its, mine in zip(at.model.parameters(), average.model.parameters(), strict=True)}
            with torch.no_grad():
                for key, place in at.tensor_targets.items():
                    if f"ema/{tag}/before/{key}" in t:
                        before = place.converted(t[f"ema/{tag}/before/{key}"])
                        after = place.converted(t.get(f"train/{tag}/it{last}/after/{key}", t[f"param/{key}"]))
                        assert before is not None
                        assert after is not None
                        followed[id(place.target)].copy_(before)
                        place.target.copy_(after)
            average.update(average.weight(batch, seen=10**9))
            for key, place in at.tensor_targets.items():
                if f"ema/{tag}/batch{batch}/after/{key}" in t:
                    expected = place.converted(t[f"ema/{tag}/batch{batch}/after/{key}"])
                    torch.testing.assert_close(followed[id(place.target)], expected, atol=1e-6, rtol=0)
                    checked += 1
    assert checked >= 6
