"""The value function, and the losses derived from it; all from logits, so that they are finite always.

With logits l, log D = logsigmoid(l) and log(1 - D) = logsigmoid(-l).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def calculate_v(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """V(G, D) = mean log D(x) + mean log(1 - D(G(z))), a scalar; logits are (B,).

    Goodfellow et al., "Generative Adversarial Nets" (2014), eq. 1. D maximises it. -2 log 2 where D is 1/2.
    """
    return logsigmoid(real_logits).mean() + logsigmoid(-fake_logits).mean()


def minimax_loss(fake_logits: Tensor) -> Tensor:
    """What G minimises, literally: the part of V that depends on G, mean log(1 - D(G(z))). A scalar."""
    return logsigmoid(-fake_logits).mean()


def non_saturating_loss(fake_logits: Tensor) -> Tensor:
    """-mean log D(G(z)), a scalar: the same fixed point, but gradients where D is sure of itself (ibid., section 3)."""
    return -logsigmoid(fake_logits).mean()


def r1_penalty(real_logits: Tensor, real: Tensor, gamma: float, every: int = 1) -> Tensor:
    """gamma/2 · mean ‖∇_x l(x)‖² at the real images, a scalar, times `every` when computed every so many steps.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?" (2018), eq. 9; lazy as in Karras et al.
    (2020). `real` (B, 1, 32, 32) has to require gradients, and `real_logits` (B,) to be computed from it.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean() * (gamma / 2 * every)


GENERATOR_LOSSES = {"minimax": minimax_loss, "non_saturating": non_saturating_loss}
