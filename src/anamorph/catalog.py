"""The catalog of models and priors. A new model adds one entry here; its module is imported only when it is used."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anamorph.core.errors import UserError, nearest

if TYPE_CHECKING:
    from anamorph.core.model import Encodes, LatentModel
    from anamorph.core.recipe import Recipe
    from anamorph.core.signal import Signal
    from anamorph.core.space import Space
    from anamorph.models.two_stage import TwoStageModel

__all__ = ["MODELS", "PRIORS", "ModelEntry", "build", "build_with_prior", "config_class", "model_entry", "models_with"]


@dataclass(frozen=True)
class ModelEntry:
    """A model of the catalog: its code, and its place in the taxonomy of generative models.

    Args:
        name: name on the command line and in Python.
        title: full name, for pages and tables.
        module: module that holds its class, its settings (`<model>Config`) and its `recipe`.
        model: name of its class.
        paper: authors, year and identifier of the paper.
        signals: kinds of signals it can model, "image" or "sound".
        representation: kind of codes.
        learning: objective, and number of phases.
        data_distribution: how the distribution of generated data is matched to that of real data.
        latent_distribution: how the distribution of codes is matched to that of the prior.
        reciprocity: in what sense encoder and decoder invert each other.
    """

    name: str
    title: str
    module: str
    model: str
    paper: str
    signals: tuple[str, ...] = ("image",)
    representation: str = ""
    learning: str = ""
    data_distribution: str = ""
    latent_distribution: str = ""
    reciprocity: str = ""


MODELS: dict[str, ModelEntry] = {
    e.name: e
    for e in (
        ModelEntry(
            name="alae",
            title="adversarial latent autoencoder (MLP-ALAE)",
            module="anamorph.models.adversarial_autoencoders.alae",
            model="ALAE",
            representation="w, a real vector whose distribution is learned",
            learning="adversarial, three phases",
            data_distribution="adversarial, through E and D",
            latent_distribution="imposed by F on the generated side; adversarial on the real side",
            reciprocity="in w: |E(G(w)) - w|^2",
            paper="Pidhorskyi et al. 2020, arXiv:2004.04467",
        ),
        ModelEntry(
            name="audio_vqvae",
            title="vector-quantised autoencoder of sounds, with a WaveNet as decoder",
            module="anamorph.models.quantized.audio_vqvae",
            model="AudioVQVAE",
            representation="a sequence of codes of a learned codebook; the speaker is a condition",
            learning="likelihood and commitment, one phase",
            data_distribution="likelihood given the codes",
            latent_distribution="none of its own: a prior is trained on the codes",
            reciprocity="in x: log p(x | q(E(x)), speaker)",
            paper="van den Oord et al. 2017, arXiv:1711.00937",
            signals=("sound",),
        ),
        ModelEntry(
            name="autoencoder",
            title="plain autoencoder",
            module="anamorph.models.autoencoders.autoencoder",
            model="Autoencoder",
            representation="z, a real vector",
            learning="reconstruction, one phase",
            data_distribution="none",
            latent_distribution="none (no sampling without a prior)",
            reciprocity="in x: |G(E(x)) - x|^2",
            paper="Hinton and Salakhutdinov 2006, doi:10.1126/science.1127647",
            signals=("image", "sound"),
        ),
        ModelEntry(
            name="gan",
            title="generative adversarial network",
            module="anamorph.models.adversarial.gan",
            model="GAN",
            representation="z, a real vector ~ N(0, I)",
            learning="adversarial, two phases",
            data_distribution="adversarial",
            latent_distribution="given",
            reciprocity="none (no encoder)",
            paper="Goodfellow et al. 2014, arXiv:1406.2661",
            signals=("image", "sound"),
        ),
        ModelEntry(
            name="stylealae",
            title="style-based adversarial latent autoencoder (StyleALAE)",
            module="anamorph.models.adversarial_autoencoders.stylealae",
            model="StyleALAE",
            representation="w, styles per resolution, whose distribution is learned; noise maps",
            learning="adversarial, three phases",
            data_distribution="adversarial, through E and D",
            latent_distribution="imposed by F on the generated side; adversarial on the real side",
            reciprocity="in w: |E(G(w)) - w|^2",
            paper="Pidhorskyi et al. 2020, arXiv:2004.04467",
        ),
        ModelEntry(
            name="stylegan",
            title="style-based generative adversarial network (StyleGAN)",
            module="anamorph.models.adversarial.stylegan",
            model="StyleGAN",
            representation="w, styles per resolution, whose distribution is learned; noise maps",
            learning="adversarial, two phases",
            data_distribution="adversarial",
            latent_distribution="imposed by the mapping network",
            reciprocity="none (no encoder)",
            paper="Karras, Laine, Aila 2018, arXiv:1812.04948",
        ),
        ModelEntry(
            name="vae",
            title="variational autoencoder",
            module="anamorph.models.autoencoders.vae",
            model="VAE",
            representation="z, a real vector; the encoder gives a distribution per image",
            learning="likelihood bound (ELBO or IWAE), one phase",
            data_distribution="likelihood",
            latent_distribution="KL to N(0, I)",
            reciprocity="in x, in expectation: log p(x | z)",
            paper="Kingma and Welling 2013, arXiv:1312.6114",
        ),
        ModelEntry(
            name="vqvae",
            title="vector-quantised autoencoder",
            module="anamorph.models.quantized.vqvae",
            model="VQVAE",
            representation="maps of codes, of a learned codebook or of finite scalars",
            learning="likelihood and commitment, one phase",
            data_distribution="likelihood given the codes",
            latent_distribution="none of its own: a prior is trained on the codes",
            reciprocity="in x: log p(x | q(E(x)))",
            paper="van den Oord et al. 2017, arXiv:1711.00937",
        ),
        ModelEntry(
            name="vqvae2",
            title="hierarchical vector-quantised autoencoder (VQ-VAE-2)",
            module="anamorph.models.quantized.vqvae2",
            model="VQVAE2",
            representation="maps of codes of learned codebooks, coarse and fine",
            learning="reconstruction and commitment, one phase",
            data_distribution="squared error",
            latent_distribution="none of its own: a prior is trained on the codes",
            reciprocity="in x: |G(q(E(x))) - x|^2",
            paper="Razavi, van den Oord, Vinyals 2019, arXiv:1906.00446",
        ),
    )
}


PRIORS: dict[str, ModelEntry] = {
    e.name: e
    for e in (
        ModelEntry(
            name="gaussian",
            title="normal distribution over the real codes of a model",
            module="anamorph.models.closed_form.gaussian_mixture",
            model="Gaussian",
            representation="the codes of the model that it is fitted to",
            learning="moments of the codes, in closed form",
            data_distribution="through the decoder over codes",
            latent_distribution="one normal distribution per class",
            reciprocity="as in the model that it is fitted to",
            paper="Ghosh et al. 2019, arXiv:1903.12436",
            signals=("image", "sound"),
        ),
        ModelEntry(
            name="mixture",
            title="mixture of normal distributions over the real codes of a model",
            module="anamorph.models.closed_form.gaussian_mixture",
            model="Mixture",
            representation="the codes of the model that it is fitted to",
            learning="expectation maximisation, one step per batch",
            data_distribution="through the decoder over codes",
            latent_distribution="a mixture of normal distributions per class",
            reciprocity="as in the model that it is fitted to",
            paper="Ghosh et al. 2019, arXiv:1903.12436",
            signals=("image", "sound"),
        ),
        ModelEntry(
            name="pixelcnn",
            title="gated PixelCNN, over the codes of a model, or over pixels",
            module="anamorph.models.autoregressive.pixelcnn",
            model="PixelCNN",
            representation="the codes of the model that it is trained on",
            learning="likelihood of codes, one phase per level",
            data_distribution="exact likelihood over pixels; through the decoder over codes",
            latent_distribution="autoregressive: masked convolutions in two stacks",
            reciprocity="as in the model that it is trained on",
            paper="van den Oord et al. 2016, arXiv:1606.05328",
        ),
        ModelEntry(
            name="pixelsnail",
            title="PixelSNAIL, over the codes of a model",
            module="anamorph.models.autoregressive.pixelsnail",
            model="PixelSNAIL",
            representation="the codes of the model that it is trained on",
            learning="likelihood of codes, one phase per level",
            data_distribution="exact likelihood over pixels; through the decoder over codes",
            latent_distribution="autoregressive: causal convolutions and attention",
            reciprocity="as in the model that it is trained on",
            paper="Chen et al. 2017, arXiv:1712.09763",
        ),
        ModelEntry(
            name="wavenet",
            title="WaveNet, over the codes of a model of sounds, or over samples",
            module="anamorph.models.autoregressive.wavenet",
            model="WaveNet",
            representation="the codes of the model that it is trained on",
            learning="likelihood of codes, one phase per level",
            data_distribution="exact likelihood over samples; through the decoder over codes",
            latent_distribution="autoregressive: dilated causal convolutions",
            reciprocity="as in the model that it is trained on",
            paper="van den Oord et al. 2016, arXiv:1609.03499",
            signals=("sound",),
        ),
    )
}
"""Priors over the codes of other models. A prior and such a model are together a model that samples."""


def model_entry(name: str) -> ModelEntry:
    """Return the entry of a model or prior.

    Raises:
        UserError: if there is none of that name; the message suggests similar names.
    """
    known = MODELS | PRIORS
    if name not in known:
        raise UserError(f"no model {name!r}: {nearest(name, known)}")
    return known[name]


def models_with(capability: type[LatentModel]) -> list[str]:
    """Return the names of the models that have a capability. This imports every model."""
    classes = {e.name: getattr(importlib.import_module(e.module), e.model) for e in MODELS.values()}
    return [name for name, model in classes.items() if issubclass(model, capability)]


def config_class(name: str) -> type[Any]:
    """Return the dataclass of a model's settings."""
    entry = model_entry(name)
    config: type[Any] = getattr(importlib.import_module(entry.module), entry.model + "Config")
    return config


def build(name: str, signal: Signal, config: Any, seed: int, device: str = "cpu") -> tuple[LatentModel, Recipe]:
    """Build a model and its recipe. The initial weights depend on nothing but the seed.

    Raises:
        UserError: if the model is not for such signals.
    """
    import torch

    entry = model_entry(name)
    _check_signal(entry, signal)
    module = importlib.import_module(entry.module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(module, entry.model)(signal, config).to(device)
    return model, module.recipe(model)


def build_with_prior(
    name: str, first_stage: Encodes, config: Any, seed: int, device: str = "cpu"
) -> tuple[TwoStageModel, Recipe]:
    """Build a model with priors over its codes, one per space, each conditioned on the spaces before it; and their recipe.

    A discrete space without a grid, one class per example, comes first and has a categorical prior, whatever the others have.

    Args:
        name: name of a prior of the catalog.
        first_stage: model whose codes the prior is of; it is frozen.
        config: settings of the prior, or a tuple with those of each space.
        seed: seed of the initial weights.
        device: device of the model.

    Raises:
        UserError: if the prior is not for codes of such signals.
    """
    import torch

    from anamorph.core.model import code_spaces
    from anamorph.core.space import Space
    from anamorph.models.closed_form.categorical import Categorical
    from anamorph.models.two_stage import ChainedPrior, recipe, two_stage

    entry = model_entry(name)
    _check_signal(entry, first_stage.signal)
    prior = getattr(importlib.import_module(entry.module), entry.model)
    spaces = sorted(code_spaces(first_stage), key=lambda space: not _is_class(space))
    configs = config if isinstance(config, tuple) else (config,) * len(spaces)
    labels = [Space(configs[0].label, (), configs[0].num_classes, role="label")] if configs[0].num_classes else []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stages = []
        for i, space in enumerate(spaces):
            kind = Categorical if _is_class(space) else prior
            conditions = [known for known in (*labels, *spaces[:i]) if kind.accepts_condition(known)]
            stages.append(kind([space], conditions, *([] if _is_class(space) else [configs[i]])))
    model = two_stage(first_stage, stages[0] if len(stages) == 1 else ChainedPrior(stages)).to(device)
    return model, recipe(model)


def _is_class(space: Space) -> bool:
    return space.shape == () and not space.is_real


def _check_signal(entry: ModelEntry, signal: Signal) -> None:
    if signal.noun not in entry.signals:
        known = PRIORS if entry.name in PRIORS else MODELS
        able = ", ".join(e.name for e in known.values() if signal.noun in e.signals)
        what = " and ".join(f"{noun}s" for noun in entry.signals)
        raise UserError(f"{entry.name} is for {what}, got {signal.noun}s of {signal}: choose one of {able}")
