"""MLP-ALAE against the author's own code: the mnist_ref branch behind the paper's table (c2), and the released classes (c)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from anamorph.core.random import Random, Replay
from anamorph.core.recipe import Phase
from anamorph.core.signal import Batch, Image
from anamorph.core.stage import Constant, Stage
from anamorph.edit.truncate import truncate
from anamorph.models.adversarial_autoencoders.alae import ALAE, ALAEConfig, recipe
from anamorph.training.compiled import CompiledStep
from anamorph.training.gradients import compute_gradients
from anamorph.training.loop import train_phase
from anamorph.training.run import ComputeSettings, Run
from reference import Case, committed, full

LOSSES = {"critic": "loss_d", "generator": "loss_g", "reciprocity": "lae"}
ATOL, LOSS_ATOL = 5e-6, 6e-5  # five times the cases' own float32 noise: 1e-6 in outputs, 1.2e-5 in losses of about 10


@dataclass(frozen=True)
class Origin:
    """A reference case, how its parameters are named, and which settings of ours it is."""

    case: str
    config: ALAEConfig
    image: Image
    critic: str
    mapping: str

    def names(self, model: ALAE) -> dict[str, nn.Parameter]:
        """Our parameters by the origin's names. Its D has 50 outputs, of which the first is read; ours has that one."""
        named: dict[str, nn.Parameter] = {}
        for kind in ("weight", "bias"):
            for i in range(3):
                named[f"{self.critic}.map_blocks.{i}.{kind}"] = getattr(model.critic.layers[i], kind)
                named[f"decoder.fc_{i + 1}.{kind}"] = getattr(model.generator.layers[i], kind)
                named[f"encoder.fc_{i + 1}.{kind}"] = getattr(model.encoder.layers[i], kind)
            for i in range(6):
                named[f"{self.mapping}.map_blocks.{i}.fc.{kind}"] = getattr(model.mapping.layers[i], kind)
        return named

    @torch.no_grad()
    def model(self, case: Case) -> ALAE:
        model = ALAE(self.image, self.config)
        for name, parameter in self.names(model).items():
            parameter.copy_(case.parameter(name)[: len(parameter)])
        model.w_mean_tracker.mean.copy_(case.tensors["param/dlatent_avg.buff"][0])
        return model


REFERENCE = Origin("c2_mlp_mnist_ref", ALAEConfig(), Image(1, 28, 28), "mapping_tl", "mapping_fl")
RELEASED = Origin(
    "c_mlp_mnist_fc",
    ALAEConfig(pixel_range="signed", resolution=28, code_slope=0.2, generator_slope=0.2),
    Image(1, 32, 32),
    "mapping_d",
    "mapping_f",
)
BOTH = pytest.mark.parametrize("origin", [REFERENCE, RELEASED], ids=["c2", "c"])


def load(origin: Origin) -> tuple[Case, ALAE]:
    case = full(f"alae/{origin.case}")
    return case, origin.model(case)


def batch(origin: Origin, x: Tensor) -> Batch:
    """The origin's own input as signals in [-1, 1]."""
    return Batch(x * 2 - 1 if origin.config.pixel_range == "unit" else x)


def draws(case: Case, key: str) -> list[Tensor]:
    """The z of each of a case's forward passes; style mixing samples a second one, which an MLP generator never reads."""
    prefix = f"{key}/randn/"
    sampled = [case.tensors[f"{prefix}{i}"] for i in range(sum(k.startswith(prefix) for k in case.tensors))]
    mixed = [call["value"] < 0.9 for call in case.facts.get("python_random", {}).get(key, []) if call["fn"] == "random"]
    for place, second in enumerate(mixed):
        if second:
            del sampled[place + 1]
    return sampled


def test_forward_passes_of_the_paper_code_agree() -> None:
    case, model = load(REFERENCE)
    t = case.tensors
    case.close(model.map(t["z"])["w"].unsqueeze(1).expand(-1, 8, -1), "w", ATOL)
    case.close(model.generate({"w": t["w"][:, 0]}), "dec", ATOL)
    case.close(model.embed(t["x"]), "enc/short", ATOL)
    case.close(model.encode(t["x"] * 2 - 1)["w"], "enc/short", ATOL)
    case.close(model.features(t["x"] * 2 - 1), "enc/long", ATOL)
    case.close(model.critic_logits(t["x"]), "disc", ATOL)


def test_forward_passes_of_the_released_classes_agree() -> None:
    case, model = load(RELEASED)
    t = case.tensors
    case.close(model.map(t["z"])["w"].unsqueeze(1).expand(-1, 8, -1), "w", ATOL)
    for key, w in (("dec/lod3/w", t["w"][:, 0]), ("dec/lod3/styles", t["styles"][:, 0])):
        case.close(model.decode({"w": w}), key, ATOL)
    case.close(model.generator(t["w"][:, 0]).view(-1, 1, 28, 28), "dec/raw28", ATOL)
    for size in (32, 28):
        case.close(model.embed(t[f"img/{size}"]), f"enc/{size}", ATOL)
        case.close(model.critic_logits(t[f"img/{size}"]), f"disc/{size}", ATOL)
    case.close(model.features(t["img/32"]), "enc/long_feature_32", ATOL)
    codes = truncate({"w": t["w"][:, 0]}, model.w_mean, 0.7)
    case.close(model.decode(codes), "trunc/psi0.7/image", ATOL)
    for side in (4, 8, 16):  # the generator alone, resized to other images
        other = ALAE(Image(1, side, side), RELEASED.config)
        other.load_state_dict(model.state_dict())
        case.close(other.decode({"w": t["w"][:, 0]}), f"dec/lod{side.bit_length() - 3}/from2d", ATOL)


@BOTH
def test_losses_and_gradients_agree(origin: Origin) -> None:
    case, model = load(origin)
    key = "x" if "x" in case.tensors else "img/32"
    for phase in recipe(model).phases:
        loss = LOSSES[phase.name]
        z = draws(case, f"loss/{loss}")[:1]
        outcome, found = compute_gradients(phase, batch(origin, case.tensors[key]), Stage(0, 4), Replay(z), ComputeSettings())
        case.close(outcome.total(), f"loss/{loss}", LOSS_ATOL)
        by_parameter = dict(zip(phase.parameters, found, strict=True))
        norms = case.facts["grad_norms"][loss]
        for name, parameter in origin.names(model).items():
            if parameter in by_parameter:
                gradient = by_parameter[parameter]
                assert gradient is not None, name
                norm = float(gradient.double().norm())
                assert norm == pytest.approx(norms[name], rel=1e-4, abs=1e-6), (phase.name, name)


@BOTH
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["eager", "compiled"])
def test_two_training_iterations_agree(origin: Origin, compiled: bool) -> None:
    case, model = load(origin)
    run = _Replayed(model, recipe(model), Constant(4), compute=ComputeSettings(compiled=compiled))
    whole = CompiledStep(run) if compiled else None
    for iteration in range(2):
        key = f"train/it{iteration}"
        run.noise = dict(zip(LOSSES, draws(case, key), strict=True))
        x, stage = batch(origin, case.tensors[f"{key}/x"]), Stage(0, 4)
        if whole:
            outcomes = whole.step(run.recipe.phases, x, stage)
        else:
            outcomes = {phase.name: train_phase(run, phase, x, stage) for phase in run.recipe.phases}
        for name, loss in LOSSES.items():
            case.close(outcomes[name].total(), f"{key}/{loss}", LOSS_ATOL)
        torch.testing.assert_close(model.w_mean["w"], case.tensors[f"{key}/dlatent_avg"][0], atol=ATOL, rtol=0)
        for name, parameter in origin.names(model).items():
            expected = case.tensors[f"{key}/after/{name}"]
            got = parameter.detach()
            if got.shape != expected.shape:  # large matrices are stored as every 64th row, and D has fewer rows
                got = got[::64] if len(got) > len(expected) else got
            far = (got - expected[: len(got)]).abs() > 1e-5
            assert float(far.float().mean()) < 1e-3, name
            if len(parameter) > 1:
                norm = case.facts["train_params"][key][name]["norm"]
                assert float(parameter.detach().double().norm()) == pytest.approx(norm, rel=1e-6), name


class _Replayed(Run):
    """A run whose phases use recorded random numbers."""

    noise: dict[str, Tensor]

    def random(self, phase: Phase) -> Random:
        return Replay([self.noise[phase.name]])


def test_the_committed_parts_agree() -> None:
    """The part of the reference that is committed: F, D and E."""
    case, mappings = committed("alae_c2_encoder"), committed("alae_c2_mappings")
    model, names = ALAE(REFERENCE.image, REFERENCE.config), {}
    names = REFERENCE.names(model)
    rows = case.tensors["param_int8/encoder.fc_2.weight[::64]"].float() * case.facts["int8_scales"]["encoder.fc_2.weight"]
    with torch.no_grad():
        for name, parameter in names.items():
            for cut in (case, mappings):
                if {f"param/{name}", f"param_int8/{name}"} & cut.tensors.keys():
                    parameter.copy_(cut.parameter(name)[: len(parameter)])
        names["encoder.fc_2.weight"].zero_()[::64] = rows
    t = mappings.tensors
    mappings.close(model.map(t["z"])["w"].unsqueeze(1).expand(-1, 8, -1), "w", ATOL)
    torch.testing.assert_close(model.critic(t["enc/short"]).squeeze(1), t["disc"], atol=ATOL, rtol=0)
    long = model.features(case.tensors["x"] * 2 - 1)
    torch.testing.assert_close(long[:, ::64], case.tensors["enc/long"][:, ::64], atol=ATOL, rtol=0)
    short = torch.nn.functional.leaky_relu(model.encoder.layers[2](case.tensors["enc/long"]), 0.01)
    case.close(short, "enc/short", ATOL)
