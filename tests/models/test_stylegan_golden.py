"""StyleGAN against the official source and its port by genforce."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anamorph.core.random import Replay
from anamorph.core.signal import Batch, Image
from anamorph.core.stage import Stage
from anamorph.edit.truncate import truncate
from anamorph.interop.import_stylegan import discriminator_targets, generator_targets
from anamorph.interop.load_tensors import TensorTarget, load_tensors
from anamorph.losses.penalty import wasserstein_penalty
from anamorph.models.adversarial.stylegan import StyleGAN, StyleGANConfig, recipe
from anamorph.nn.equalized import lr_multipliers_of
from anamorph.nn.resample import downsample, fade_in, upsample
from anamorph.training.gradients import compute_gradients
from anamorph.training.run import ComputeSettings
from reference import Case, committed, full

CASES = ("committed", "r16", "r16_cond", "r16_rgba_map1", "r32", "r32_fused_true", "r32_no_const", "r64", "r128_auto_fused")
EVERY = pytest.mark.parametrize("name", CASES)


@dataclass(frozen=True)
class Loaded:
    """A case, our model with its weights, and the places of the port's tensors in it."""

    case: Case
    model: StyleGAN
    tensor_targets: dict[str, TensorTarget]

    def close(self, got: Tensor, key: str) -> None:
        noise = max(self.case.facts["fp32_err"].get(key, 0.0), 2e-7 * max(1.0, self.case.facts["max_abs"].get(key, 1.0)))
        self.case.close(got.float(), key, atol=5 * noise)

    @property
    def labels(self) -> dict[str, Tensor]:
        t = self.case.tensors
        return {"class": t["label"].argmax(1)} if "label" in t else {}

    @property
    def real_classes(self) -> Tensor | None:
        t = self.case.tensors
        return t["label_real"].argmax(1) if "label_real" in t else None


def config(facts: dict[str, Any]) -> StyleGANConfig:
    c = facts["config"]
    flipped = {"auto": 128, True: 4, False: None}[c["fused_scale"]]
    return StyleGANConfig(
        z_dim=c["z_dim"],
        w_dim=c["w_dim"],
        mapping_width=c["mapping_fmaps"],
        mapping_layers=c["mapping_layers"],
        channel_base=2 * c["fmap_base_official"],
        channel_max=c["fmap_max"],
        num_classes=c["label_size"],
        constant_input=c["const_input_layer"],
        flipped_from=flipped,
        mbstd_group_size=c["mbstd_group_size"],
        mapping_lr_multiplier=c["lrmul"],
    )


def load(name: str) -> Loaded:
    case = committed("stylegan_r16") if name == "committed" else full(f"stylegan/stylegan_{name}")
    c = case.facts["config"]
    side = c["resolution"]
    model = StyleGAN(Image(c["image_channels"], side, side), config(case.facts))
    found = {f"G.{key}": place for key, place in generator_targets(model).items()}
    found |= {f"D.{key}": place for key, place in discriminator_targets(model).items()}
    load_tensors(found, {key: t for key, t in case.tensors.items() if key in found}, name)
    return Loaded(case, model, found)


def stage(lod: float) -> Stage:
    level = math.floor(lod)
    return Stage(level, 4, 1.0 - (lod - level))


@EVERY
def test_styles_agree(name: str) -> None:
    at = load(name)
    t, model = at.case.tensors, at.model
    w = model.map(t["z"], at.labels)
    at.close(w["w"][:, 0], "w")
    at.close(model.map(t["z2"], at.labels)["w"][:, 0], "w2")
    for key, psi, layers in (("psi0.7_cut8", 0.7, 8), ("psi0.5_all", 0.5, None), ("psi-0.5_cut4", -0.5, 4)):
        at.close(truncate(w, model.w_mean, psi, layers)["w"], f"wp_{key}")
    model.w_mean_tracker.gather(w["w"])
    model.w_mean_tracker.commit()
    at.close(model.w_mean_tracker.mean[0], "w_avg_after_update")


@EVERY
def test_images_agree(name: str) -> None:
    at = load(name)
    t, model = at.case.tensors, at.model
    codes = model.map(t["z"], at.labels)
    at.close(model.decode(codes), "image_psi1")
    at.close(model.decode(truncate(codes, model.w_mean, 0.7, 8)), "image_psi0.7_cut8")
    cut = at.case.facts["mixing_cutoff"]
    other = model.map(t["z2"], at.labels)["w"]
    at.close(model.decode({"w": torch.cat([codes["w"][:, :cut], other[:, cut:]], 1)}), "image_mixed")
    drawn = {f"noise.{i}": t[f"noise.{i}"] for i in range(model.layers)}
    at.close(model.decode(codes | drawn), "image_noise")
    for key in [k for k in t if k.startswith("image_lod")]:
        s = stage(float(key.removeprefix("image_lod")))
        at.close(upsample(model.at(s).decode(codes), s.level), key)


@EVERY
def test_logits_and_penalties_agree(name: str) -> None:
    at = load(name)
    t, d, classes = at.case.tensors, at.model.discriminator, at.real_classes
    at.close(d(t["real"], classes=classes).unsqueeze(1), "score")
    for n in (1, 3):
        part = None if classes is None else classes[:n]
        at.close(d(t["real"][:n], classes=part).unsqueeze(1), f"score_batch{n}")
    for key in [k for k in t if k.startswith("score_lod")]:
        s = stage(float(key.removeprefix("score_lod")))
        at.close(d(downsample(t["real"], s.level), s.level, s.alpha, classes).unsqueeze(1), key)
    real = t["real"].requires_grad_()
    (slope,) = torch.autograd.grad(d(real, classes=classes).sum(), real)
    at.close(slope, "r1_grad")
    at.close(slope.square().sum((1, 2, 3)), "r1_penalty")


@EVERY
def test_losses_and_gradients_agree(name: str) -> None:
    at = load(name)
    t, model = at.case.tensors, at.model
    if "d_loss_per_sample" not in t:
        pytest.skip("this case has no losses")
    n = len(t["z"])
    labels = at.labels if at.real_classes is None else {"class": at.real_classes[:n]}
    if labels and not torch.equal(labels["class"], at.labels["class"]):
        pytest.skip("this case scores real images of one class against generated ones of another")
    # The case's own fakes: stored noise, no mixing (1 is above its probability), z2 and the crossover unused.
    stored = [getattr(model.synthesis, f"noise_{i}").expand(n, -1, -1, -1) for i in range(model.layers)]
    draws = [t["z"], t["z"], torch.ones(1), torch.ones(1, dtype=torch.int64), *stored]
    batch = Batch(t["real"][:n], labels)
    critic, generator = recipe(model).phases
    for phase, key, net in ((critic, "d_loss_per_sample", "D"), (generator, "g_loss_per_sample", "G")):
        outcome, found = compute_gradients(phase, batch, Stage(0, n), Replay(draws), ComputeSettings())
        assert float(outcome.total()) == pytest.approx(float(t[key].mean()), rel=1e-5)
        by_parameter: dict[Tensor, Tensor | None] = dict(zip(phase.parameters, found, strict=True))
        for parameter_name, place in at.tensor_targets.items():
            expected = t.get(f"grad.{parameter_name}")
            if parameter_name.startswith(net) and expected is not None:
                gradient = by_parameter[place.target]
                got = torch.zeros_like(place.target) if gradient is None else gradient * place.factor
                at.close(got.reshape(expected.shape), f"grad.{parameter_name}")


def test_real_images_are_faded_in_as_in_the_original() -> None:
    t = full("stylegan/process_reals").tensors
    x = t["x_uint8"].float() / 127.5 - 1
    x = torch.where(t["mirror_u"] < 0.5, x, x.flip(3))
    for key in [k for k in t if k.startswith("out_lod")]:
        s = stage(float(key.removeprefix("out_lod")))
        source = t["x_uint8"][:, :, : 16 >> s.level, : 16 >> s.level].float() / 127.5 - 1
        source = torch.where(t["mirror_u"] < 0.5, source, source.flip(3))
        torch.testing.assert_close(upsample(fade_in(source, s.alpha), s.level), t[key], atol=2e-6, rtol=0)


ABLATION_NOISE = 5 * 1.4e-6
"""Five times the float32 noise of the images of case r16, relative to the largest value; these cases record none."""
ABLATIONS = {
    "tuned_baseline": StyleGANConfig(styles=False, norm="pixel", mapping_layers=0, constant_input=False, noise=False),
    "traditional_8": StyleGANConfig(styles=False, norm="pixel", constant_input=False, noise=False),
    "mapping_and_styles": StyleGANConfig(constant_input=False, noise=False),
    "remove_traditional_input": StyleGANConfig(noise=False),
    "stylebased_0": StyleGANConfig(mapping_layers=0),
    "noblur_relu": StyleGANConfig(blur=False, slope=0.0),
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_rows_of_the_papers_tables_agree(name: str) -> None:
    """Configurations of Table 1 and depths of Table 4, as settings, against the official source."""
    case = full(f"stylegan/ablation_{name}")
    c, t = case.facts["config"], case.tensors
    w_dim = c["dlatent_size"]
    sizes = {"z_dim": c["latent_size"], "w_dim": w_dim, "mapping_width": c["mapping_fmaps"]}
    given = replace(ABLATIONS[name], **sizes, channel_base=2 * c["fmap_base"], channel_max=c["fmap_max"])
    model = StyleGAN(Image(c["num_channels"], c["resolution"], c["resolution"]), given)
    coefficients = lr_multipliers_of(model)
    with torch.no_grad():
        for key, parameter in _official(model).items():
            value = t[f"tf.{key}"]
            value = value.permute(3, 2, 0, 1) if value.dim() == 4 and "const" not in key else value
            value = value.T if value.dim() == 2 else value
            parameter.copy_(value.reshape(parameter.shape) * coefficients[parameter])
        for i in range(model.layers if given.noise else 0):
            getattr(model.synthesis, f"noise_{i}").copy_(t[f"tf.synthesis/noise{i}"])
        model.w_mean_tracker.mean.copy_(t["tf.dlatent_avg"])
    codes = model.map(t["z"])
    for key in [k for k in t if k.startswith("image_lod")]:
        s = stage(float(key.removeprefix("image_lod")))
        atol = ABLATION_NOISE * float(t[key].abs().max())
        torch.testing.assert_close(upsample(model.at(s).decode(codes), s.level).detach(), t[key].float(), atol=atol, rtol=0)
    if "image_psi0.7" in t:
        image = model.decode(truncate(codes, model.w_mean, 0.7, 8)).detach()
        atol = ABLATION_NOISE * float(image.abs().max())
        torch.testing.assert_close(image, t["image_psi0.7"].float(), atol=atol, rtol=0)


def _official(model: Any) -> dict[str, nn.Parameter]:
    """The generator's parameters by the official variables' names."""
    names: dict[str, nn.Parameter] = {}
    for i, dense in enumerate(getattr(model.mapping.net, "layers", ())):
        names |= {f"mapping/Dense{i}/{kind}": getattr(dense, kind) for kind in ("weight", "bias")}
    synthesis = model.synthesis
    first = "Const" if model.config.constant_input else "Dense"
    for i, layer in enumerate(synthesis.layers):
        side = 4 * 2 ** (i // 2)
        here = f"synthesis/{side}x{side}/" + ((first, "Conv")[i] if i < 2 else ("Conv0_up", "Conv1")[i % 2])
        names[f"{here}/bias"] = layer.bias
        if layer.conv is not None:
            names[f"{here}/weight"] = layer.conv.weight
        if layer.noise_weight is not None:
            names[f"{here}/Noise/weight"] = layer.noise_weight
        if layer.style is not None:
            names |= {f"{here}/StyleMod/{kind}": getattr(layer.style, kind) for kind in ("weight", "bias")}
    if model.config.constant_input:
        names["synthesis/4x4/Const/const"] = synthesis.constant
    else:
        names["synthesis/4x4/Dense/weight"] = synthesis.dense.weight
    for block, layer in enumerate(synthesis.to_rgb):
        here = f"synthesis/ToRGB_lod{synthesis.blocks - 1 - block}"
        names |= {f"{here}/{kind}": getattr(layer, kind) for kind in ("weight", "bias")}
    return names


@EVERY
def test_the_wasserstein_penalty_is_that_of_the_original(name: str) -> None:
    at = load(name)
    t, model = at.case.tensors, at.model
    if "wgangp_norm" not in t or at.labels:
        pytest.skip("this case has no such penalty, or mixes images of two classes")
    fake = model.decode(model.map(t["z"])).detach()
    share = 1 - t["wgangp_alpha"].flatten()  # of the real image
    penalty = wasserstein_penalty(model.discriminator, t["real"][: len(fake)], fake, share)
    assert penalty.item() == pytest.approx(float((t["wgangp_norm"] - 1).square().mean()), rel=1e-5)
