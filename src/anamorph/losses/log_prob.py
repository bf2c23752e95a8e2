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

LEAST_LOG_SCALE = -7.0
"""Of a logistic: e^-7 of the range from -1 to 1 is an eighth of one of 256 values."""


def gaussian_log_prob(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log N(x; mean, exp(log_var)), with its constant, summed over the last axis."""
    return -0.5 * (math.log(2 * math.pi) + log_var + (x - mean).square() * torch.exp(-log_var)).sum(-1)


def bernoulli_log_prob(x: Tensor, logit: Tensor) -> Tensor:
    """x log p + (1 - x) log(1 - p) with p = sigmoid(logit), summed over the last axis; x in [0, 1]."""
    x, logit = torch.broadcast_tensors(x, logit)
    return -binary_cross_entropy_with_logits(logit, x, reduction="none").sum(-1)


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, 1)) per dimension (Kingma and Welling 2013, arXiv:1312.6114, appendix B)."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var)


def iwae(log_weights: Tensor) -> Tensor:
    """The importance-weighted bound [B] on log p(x), from k log weights per example [B, k].

    Burda et al. 2015 (arXiv:1509.00519, equation 8). k = 1 gives the ELBO; it grows with k.
    """
    return torch.logsumexp(log_weights, 1) - math.log(log_weights.shape[1])


def logistic_mixture_log_prob(x: Tensor, logits: Tensor) -> Tensor:
    """log p(x) per pixel [B, H, W], summed over channels, of 8-bit values x [B, C, H, W] = k / 127.5 - 1, under a mixture of
    discretised logistics.

    Salimans et al. 2017, "PixelCNN++", arXiv:1701.05517, section 2.1 and equation 3. logits: the weights of M components, and
    for each channel M means, M log scales and M coefficients on earlier channels (none with one channel), [B, O, H, W]. The
    first and the last value have all that lies beyond them. Where a bin's mass is below 1e-5 its density is taken times its
    width, so that the total is only nearly one.
    """
    weights, means, log_scales = _components(x, logits)  # [B, M, H, W], [B, C, M, H, W] twice
    centred, inverse = x.unsqueeze(2) - means, torch.exp(-log_scales)
    above, below = inverse * (centred + 1 / 255), inverse * (centred - 1 / 255)
    mass = above.sigmoid() - below.sigmoid()
    middle = inverse * centred
    density = middle - log_scales - 2 * softplus(middle) - math.log(127.5)
    inside = torch.where(mass > 1e-5, mass.clamp(min=1e-12).log(), density)
    edge = x.unsqueeze(2)
    each = torch.where(edge < -0.999, above - softplus(above), torch.where(edge > 0.999, -softplus(below), inside))
    return torch.logsumexp(each.sum(1) + weights.log_softmax(1), 1)


def logistic_mixture_sample(logits: Tensor, channels: int, which: Tensor, where: Tensor) -> Tensor:
    """A sample [B, C, H, W] in [-1, 1] of such a mixture. which [B, H, W, M], where [B, H, W, C]: uniform numbers that choose
    the component, and the place in each logistic. Each channel is bounded before the next one depends on it."""
    count = which.shape[-1]
    chosen = (logits[:, :count] - torch.log(-torch.log(which.movedim(-1, 1)))).argmax(1, keepdim=True)
    blocks = logits[:, count:].unflatten(1, (channels, -1, count))  # [B, C, 2 or 3, M, H, W]
    places = chosen[:, None, None].expand(-1, channels, blocks.shape[2], -1, -1, -1)
    picked = blocks.gather(3, places).squeeze(3)
    x = picked[:, :, 0] + picked[:, :, 1].clamp(min=LEAST_LOG_SCALE).exp() * where.movedim(-1, 1).logit()
    found = [x[:, 0].clamp(-1, 1)]
    if channels == 3:
        a, b, c = picked[:, :, 2].tanh().unbind(1)
        found.append((x[:, 1] + a * found[0]).clamp(-1, 1))
        found.append((x[:, 2] + b * found[0] + c * found[1]).clamp(-1, 1))
    return torch.stack(found, 1)


def logistic_levels(parameters: Tensor, levels: int) -> Tensor:
    """log p [..., K] of each of K numbers spread evenly over [-1, 1], under a mixture of logistics with parameters [..., 3M]:
    logits of the weights, means, log scales. Each number has the mass nearer to it than to others, so that all sum to one.

    Salimans et al. 2017, arXiv:1701.05517, section 2.1, for sounds as in van den Oord et al. 2017, arXiv:1711.10433, section 2.
    """
    ids = torch.arange(levels, device=parameters.device)
    return logistic_levels_log_prob(ids, parameters.unsqueeze(-2), levels)


def logistic_levels_log_prob(ids: Tensor, parameters: Tensor, levels: int) -> Tensor:
    """The same of given ones, ids [...] in 0 .. K - 1.

    With edges h > l, sigmoid(h) - sigmoid(l) = sigmoid(h) sigmoid(-l) (1 - exp(l - h)), of which each factor is exact however
    far out it lies.
    """
    weights, means, log_scales = parameters.chunk(3, -1)
    half = 1 / (levels - 1)
    inverse = torch.exp(-log_scales.clamp(min=LEAST_LOG_SCALE + math.log(255 * half)))
    ids = ids.unsqueeze(-1).to(means.dtype)
    centred = ids * (2 * half) - 1 - means
    above = torch.where(ids == levels - 1, 0.0, logsigmoid((centred + half) * inverse))
    below = torch.where(ids == 0, 0.0, logsigmoid((half - centred) * inverse))
    inside = torch.where((ids == 0) | (ids == levels - 1), 0.0, torch.log(-torch.expm1(-2 * half * inverse)))
    return torch.logsumexp(above + below + inside + weights.log_softmax(-1), -1)


def _components(x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights [B, M, H, W], means and log scales [B, C, M, H, W], the means moved by the true earlier channels."""
    channels = x.shape[1]
    count = logits.shape[1] // (10 if channels == 3 else 3)
    blocks = logits[:, count:].unflatten(1, (channels, -1, count))  # means, log scales, coefficients
    means, log_scales = blocks[:, :, 0], blocks[:, :, 1].clamp(min=LEAST_LOG_SCALE)
    if channels == 3:
        a, b, c = blocks[:, :, 2].tanh().unbind(1)
        red, green = x[:, 0, None], x[:, 1, None]
        means = torch.stack([means[:, 0], means[:, 1] + a * red, means[:, 2] + b * red + c * green], 1)
    return logits[:, :count], means, log_scales
