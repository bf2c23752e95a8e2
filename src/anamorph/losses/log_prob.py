"""Log-densities in nats, summed over all dimensions but the batch; and divergences between Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus

__all__ = [
    "bernoulli_log_prob",
    "gaussian_kl",
    "gaussian_log_prob",
    "iwae",
    "logistic_levels",
    "logistic_levels_log_prob",
    "logistic_mixture_log_prob",
    "logistic_mixture_sample",
]

MIN_LOG_SCALE = -7.0
"""The least log scale of a logistic: e^-7 is an eighth of the distance 2 / 255 between 8-bit values in [-1, 1]."""


def gaussian_log_prob(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Compute log N(x; mean, exp(log_var)) with its constant, summed over the last axis."""
    return -0.5 * (math.log(2 * math.pi) + log_var + (x - mean).square() * torch.exp(-log_var)).sum(-1)


def bernoulli_log_prob(x: Tensor, logit: Tensor) -> Tensor:
    """Compute x log p + (1 - x) log(1 - p) of x in [0, 1], with p = sigmoid(logit), summed over the last axis."""
    x, logit = torch.broadcast_tensors(x, logit)
    return -binary_cross_entropy_with_logits(logit, x, reduction="none").sum(-1)


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """Compute KL(N(mean, exp(log_var)) || N(0, 1)) per dimension (Kingma and Welling 2013, arXiv:1312.6114, appendix B)."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)


def iwae(log_weights: Tensor) -> Tensor:
    """Compute the importance-weighted bound [B] on log p(x), from k log weights per example [B, k].

    Burda et al. 2015 (arXiv:1509.00519, equation 8). k = 1 gives the ELBO; it grows with k.
    """
    return torch.logsumexp(log_weights, 1) - math.log(log_weights.shape[1])


def logistic_mixture_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    """Compute log p(x) per pixel [B, H, W] of 8-bit images under a mixture of discretised logistics, summed over channels.

    Salimans et al. 2017, "PixelCNN++", arXiv:1701.05517, section 2.1 and equation 3. The first and the last value have all
    mass beyond them. Where a bin's mass is below 1e-5, its density times its width is used, so the total is only nearly one.

    Args:
        x: images [B, C, H, W] of values k / 127.5 - 1, with 1 or 3 channels.
        logits: [B, O, H, W], the weights of M components; then, for each channel, M means, M log scales and, with 3 channels,
            M coefficients on earlier channels.
    """
    weights, means, log_scales = _components(x, logits)  # [B, M, H, W], and twice [B, C, M, H, W]
    centred, inverse = x.unsqueeze(2) - means, torch.exp(-log_scales)
    above, below = inverse * (centred + 1 / 255), inverse * (centred - 1 / 255)
    mass = above.sigmoid() - below.sigmoid()
    middle = inverse * centred
    density = middle - log_scales - 2 * softplus(middle) - math.log(127.5)
    inside = torch.where(mass > 1e-5, mass.clamp(min=1e-12).log(), density)
    value = x.unsqueeze(2)
    each = torch.where(value < -0.999, above - softplus(above), torch.where(value > 0.999, -softplus(below), inside))
    return torch.logsumexp(each.sum(1) + weights.log_softmax(1), 1)


def logistic_mixture_sample(logits: Tensor, channels: int, component_uniforms: Tensor, value_uniforms: Tensor) -> Tensor:
    """Sample images [B, C, H, W] in [-1, 1] from a mixture of logistics.

    Args:
        logits: [B, O, H, W], as for `logistic_mixture_log_prob`.
        channels: C, 1 or 3; each channel is clamped before the next one depends on it.
        component_uniforms: numbers in (0, 1) that choose the component [B, H, W, M] (the Gumbel-max trick).
        value_uniforms: numbers in (0, 1) at which each logistic's cumulative distribution is inverted [B, H, W, C].
    """
    count = component_uniforms.shape[-1]
    gumbel = -torch.log(-torch.log(component_uniforms.movedim(-1, 1)))
    component = (logits[:, :count] + gumbel).argmax(1, keepdim=True)
    blocks = logits[:, count:].unflatten(1, (channels, -1, count))  # [B, C, 2 or 3, M, H, W]
    index = component[:, None, None].expand(-1, channels, blocks.shape[2], -1, -1, -1)
    parameters = blocks.gather(3, index).squeeze(3)
    x = parameters[:, :, 0] + parameters[:, :, 1].clamp(min=MIN_LOG_SCALE).exp() * value_uniforms.movedim(-1, 1).logit()
    sampled = [x[:, 0].clamp(-1, 1)]
    if channels == 3:
        a, b, c = parameters[:, :, 2].tanh().unbind(1)
        sampled.append((x[:, 1] + a * sampled[0]).clamp(-1, 1))
        sampled.append((x[:, 2] + b * sampled[0] + c * sampled[1]).clamp(-1, 1))
    return torch.stack(sampled, 1)


def logistic_levels(parameters: Tensor, levels: int) -> Tensor:
    """Compute log p [..., K] of K levels spaced evenly over [-1, 1], under a mixture of logistics.

    Each level has the mass that is nearer to it than to others, so the probabilities sum to one. Salimans et al. 2017,
    arXiv:1701.05517, section 2.1; for sounds, van den Oord et al. 2017, arXiv:1711.10433, section 2.

    Args:
        parameters: [..., 3M], the logits of the weights, the means and the log scales.
        levels: K.
    """
    ids = torch.arange(levels, device=parameters.device)
    return logistic_levels_log_prob(ids, parameters.unsqueeze(-2), levels)


def logistic_levels_log_prob(ids: Tensor, parameters: Tensor, levels: int) -> Tensor:
    """Compute log p [...] of given levels, ids [...] in 0 .. K - 1, under the mixture of `logistic_levels`.

    With bin edges h > l, sigmoid(h) - sigmoid(l) = sigmoid(h) sigmoid(-l) (1 - exp(l - h)); each factor is exact in the tails.
    """
    weights, means, log_scales = parameters.chunk(3, -1)
    half = 1 / (levels - 1)
    inverse = torch.exp(-log_scales.clamp(min=MIN_LOG_SCALE + math.log(255 * half)))
    ids = ids.unsqueeze(-1).to(means.dtype)
    centred = ids * (2 * half) - 1 - means
    above = torch.where(ids == levels - 1, 0.0, logsigmoid((centred + half) * inverse))
    below = torch.where(ids == 0, 0.0, logsigmoid((half - centred) * inverse))
    inside = torch.where((ids == 0) | (ids == levels - 1), 0.0, torch.log(-torch.expm1(-2 * half * inverse)))
    return torch.logsumexp(above + below + inside + weights.log_softmax(-1), -1)


def _components(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights [B, M, H, W], means and log scales [B, C, M, H, W]; the means depend on the earlier channels of x."""
    channels = x.shape[1]
    count = logits.shape[1] // (10 if channels == 3 else 3)
    blocks = logits[:, count:].unflatten(1, (channels, -1, count))  # means, log scales, coefficients
    means, log_scales = blocks[:, :, 0], blocks[:, :, 1].clamp(min=MIN_LOG_SCALE)
    if channels == 3:
        a, b, c = blocks[:, :, 2].tanh().unbind(1)
        red, green = x[:, 0, None], x[:, 1, None]
        means = torch.stack([means[:, 0], means[:, 1] + a * red, means[:, 2] + b * red + c * green], 1)
    return logits[:, :count], means, log_scales
