"""The models that there are, and what they are. Adding a model adds one entry here. Nothing is imported before it is needed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anamorph.core.errors import UserError, nearest

if TYPE_CHECKING:
    from anamorph.core.model import Encodes, LatentModel
    from anamorph.core.recipe import Recipe
    from anamorph.core.signal import Signal
    from anamorph.priors.compose import WithPrior

__all__ = ["MODELS", "PRIORS", "Entry", "build", "build_with_prior", "capable", "config_class", "entry"]


@dataclass(frozen=True)
class Entry:
    """A model: where it is, and its place among generative models.

    representation: what codes are. learning: what is optimised. data_law, latent_law: how the laws of generated data and of
    codes are matched to the real ones. reciprocity: in what sense encoder and decoder undo each other. signals: what it is
    a model of.
    """

    name: str
    title: str
    module: str
    model: str
    representation: str
    learning: str
    data_law: str
    latent_law: str
    reciprocity: str
    paper: str
    signals: tuple[str, ...] = ("image",)


MODELS: dict[str, Entry] = {
    e.name: e
    for e in (
        Entry(
            "alae",
            "adversarial latent autoencoder (MLP-ALAE)",
            "anamorph.models.alae",
            "ALAE",
            "w, a real vector whose law is learned",
            "adversarial, three phases",
            "adversarial, through E and D",
            "imposed by F on the generated side; adversarial on the real side",
            "in w: |E(G(w)) - w|^2",
            "Pidhorskyi et al. 2020, arXiv:2004.04467",
        ),
        Entry(
            "audio_vqvae",
            "vector-quantised autoencoder of sounds, with a WaveNet as decoder",
            "anamorph.models.audio_vqvae",
            "AudioVQVAE",
            "a sequence of codes of a learned codebook; who speaks, which is told",
            "likelihood and commitment, one phase",
            "likelihood given the codes",
            "none by itself: a prior is trained on the codes",
            "in x: log p(x | q(E(x)), speaker)",
            "van den Oord et al. 2017, arXiv:1711.00937",
            ("sound",),
        ),
        Entry(
            "autoencoder",
            "plain autoencoder",
            "anamorph.models.autoencoder",
            "Autoencoder",
            "z, a real vector",
            "reconstruction, one phase",
            "none",
            "none (nothing to draw from)",
            "in x: |G(E(x)) - x|^2",
            "Hinton and Salakhutdinov 2006, doi:10.1126/science.1127647",
            ("image", "sound"),
        ),
        Entry(
            "gan",
            "generative adversarial network",
            "anamorph.models.gan",
            "GAN",
            "z, a real vector ~ N(0, I)",
            "adversarial, two phases",
            "adversarial",
            "given",
            "none (no encoder)",
            "Goodfellow et al. 2014, arXiv:1406.2661",
            ("image", "sound"),
        ),
        Entry(
            "stylealae",
            "style-based adversarial latent autoencoder (StyleALAE)",
            "anamorph.models.stylealae",
            "StyleALAE",
            "w, styles per resolution, whose law is learned; noise maps",
            "adversarial, three phases",
            "adversarial, through E and D",
            "imposed by F on the generated side; adversarial on the real side",
            "in w: |E(G(w)) - w|^2",
            "Pidhorskyi et al. 2020, arXiv:2004.04467",
        ),
        Entry(
            "stylegan",
            "style-based generative adversarial network (StyleGAN)",
            "anamorph.models.stylegan",
            "StyleGAN",
            "w, styles per resolution, whose law is learned; noise maps",
            "adversarial, two phases",
            "adversarial",
            "imposed by the mapping network",
            "none (no encoder)",
            "Karras, Laine, Aila 2018, arXiv:1812.04948",
        ),
        Entry(
            "vae",
            "variational autoencoder",
            "anamorph.models.vae",
            "VAE",
            "z, a real vector, a law per image",
            "likelihood bound (ELBO or IWAE), one phase",
            "likelihood",
            "KL to N(0, I)",
            "in x, in expectation: log p(x | z)",
            "Kingma and Welling 2013, arXiv:1312.6114",
        ),
        Entry(
            "vqvae",
            "vector-quantised autoencoder",
            "anamorph.models.vqvae",
            "VQVAE",
            "maps of codes, of a learned codebook or of finite scalars",
            "likelihood and commitment, one phase",
            "likelihood given the codes",
            "none by itself: a prior is trained on the codes",
            "in x: log p(x | q(E(x)))",
            "van den Oord et al. 2017, arXiv:1711.00937",
        ),
        Entry(
            "vqvae2",
            "hierarchical vector-quantised autoencoder (VQ-VAE-2)",
            "anamorph.models.vqvae2",
            "VQVAE2",
            "maps of codes of learned codebooks, coarse and fine",
            "reconstruction and commitment, one phase",
            "squared error",
            "none by itself: a prior is trained on the codes",
            "in x: |G(q(E(x))) - x|^2",
            "Razavi, van den Oord, Vinyals 2019, arXiv:1906.00446",
        ),
    )
}


PRIORS: dict[str, Entry] = {
    e.name: e
    for e in (
        Entry(
            "gaussian",
            "normal law, over the real codes of a model",
            "anamorph.priors.mixture",
            "Gaussian",
            "those of the model whose codes it is fitted to; none of its own",
            "moments of codes, in closed form",
            "through the decoder over codes",
            "one normal, of each class",
            "that of the model whose codes it is fitted to",
            "Ghosh et al. 2019, arXiv:1903.12436",
            ("image", "sound"),
        ),
        Entry(
            "mixture",
            "mixture of normals, over the real codes of a model",
            "anamorph.priors.mixture",
            "Mixture",
            "those of the model whose codes it is fitted to; none of its own",
            "expectation maximisation, a step per batch",
            "through the decoder over codes",
            "several normals, of each class",
            "that of the model whose codes it is fitted to",
            "Ghosh et al. 2019, arXiv:1903.12436",
            ("image", "sound"),
        ),
        Entry(
            "pixelcnn",
            "gated PixelCNN, over the codes of a model, or over pixels",
            "anamorph.priors.pixelcnn",
            "PixelCNN",
            "those of the model whose codes it is trained on; none of its own",
            "likelihood of codes, one phase per level",
            "exact likelihood over pixels; through the decoder over codes",
            "autoregressive: masked convolutions in two stacks",
            "that of the model whose codes it is trained on",
            "van den Oord et al. 2016, arXiv:1606.05328",
        ),
        Entry(
            "pixelsnail",
            "PixelSNAIL, over the codes of a model",
            "anamorph.priors.pixelsnail",
            "PixelSNAIL",
            "those of the model whose codes it is trained on; none of its own",
            "likelihood of codes, one phase per level",
            "exact likelihood over pixels; through the decoder over codes",
            "autoregressive: causal convolutions and attention",
            "that of the model whose codes it is trained on",
            "Chen et al. 2017, arXiv:1712.09763",
        ),
        Entry(
            "wavenet",
            "WaveNet, over the codes of a model of sounds, or over samples",
            "anamorph.priors.wavenet",
            "WaveNet",
            "those of the model whose codes it is trained on; none of its own",
            "likelihood of codes, one phase per level",
            "exact likelihood over samples; through the decoder over codes",
            "autoregressive: dilated causal convolutions",
            "that of the model whose codes it is trained on",
            "van den Oord et al. 2016, arXiv:1609.03499",
            ("sound",),
        ),
    )
}
"""Laws of other models' codes: together with such a model, they are a model that draws."""


def entry(name: str) -> Entry:
    """Raises: UserError naming the nearest models, if there is none of that name."""
    known = MODELS | PRIORS
    if name not in known:
        raise UserError(f"no model {name!r}: {nearest(name, known)}")
    return known[name]


def capable(capability: type[LatentModel]) -> list[str]:
    """The names of the models that have a capability. Imports all of them."""
    classes = {e.name: getattr(importlib.import_module(e.module), e.model) for e in MODELS.values()}
    return [name for name, model in classes.items() if issubclass(model, capability)]


def config_class(name: str) -> type[Any]:
    """The dataclass of a model's own settings."""
    found = entry(name)
    config: type[Any] = getattr(importlib.import_module(found.module), found.model + "Config")
    return config


def build(name: str, signal: Signal, config: Any, seed: int, device: str = "cpu") -> tuple[LatentModel, Recipe]:
    """A model with weights that depend on the seed alone, and its recipe.

    Raises: UserError if it is no model of such signals.
    """
    import torch

    found = entry(name)
    _check_signal(found, signal)
    module = importlib.import_module(found.module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(module, found.model)(signal, config).to(device)
    return model, module.recipe(model)


def build_with_prior(name: str, first: Encodes, config: Any, seed: int, device: str = "cpu") -> tuple[WithPrior, Recipe]:
    """A model with a prior over its codes, a law per level, each told the coarser ones; and the recipe of the prior.

    config: the prior's settings, or a tuple of them, one per level.
    Raises: UserError if it is no prior of codes of such signals.
    """
    import torch

    from anamorph.core.model import code_spaces
    from anamorph.core.space import Space
    from anamorph.priors.compose import Chain, recipe, with_prior

    found = entry(name)
    _check_signal(found, first.signal)
    law = getattr(importlib.import_module(found.module), found.model)
    levels = code_spaces(first)
    configs = config if isinstance(config, tuple) else (config,) * len(levels)
    labels = [Space(configs[0].label, (), configs[0].classes)] if configs[0].classes else []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = [law([space], [*labels, *levels[:i]], configs[i]) for i, space in enumerate(levels)]
    model = with_prior(first, parts[0] if len(parts) == 1 else Chain(parts)).to(device)
    return model, recipe(model)


def _check_signal(found: Entry, signal: Signal) -> None:
    if signal.noun not in found.signals:
        known = PRIORS if found.name in PRIORS else MODELS
        able = ", ".join(e.name for e in known.values() if signal.noun in e.signals)
        what = " and ".join(f"{noun}s" for noun in found.signals)
        raise UserError(f"{found.name} is for {what}, got {signal.noun}s of {signal}: choose one of {able}")
