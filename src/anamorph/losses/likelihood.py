"""Log-densities in nats, summed over all dimensions but the batch; and divergences between Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

__all__ = ["bernoulli_log_prob", "gaussian_kl", "gaussian_log_prob", "iwae"]


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
