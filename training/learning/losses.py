"""The value function and the losses derived from it. All are computed from logits, so they are finite.

With logits l, log D = logsigmoid(l) and log(1 - D) = logsigmoid(-l). A loss takes the logits (B,) of real images and
the logits (B,) of generated images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import logsigmoid


def calculate_v(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """V(G, D) = mean log D(x) + mean log(1 - D(G(z))), a scalar; logits are (B,).

    Goodfellow et al., "Generative Adversarial Nets" (2014), eq. 1. D maximises V. If D is 1/2 everywhere, V = -2 log 2.
    """
    return logsigmoid(real_logits).mean() + logsigmoid(-fake_logits).mean()


def minimax_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """mean log(1 - D(G(z))), a scalar: the part of V that depends on G. G minimises it (ibid., eq. 1)."""
    del real_logits  # the rest of V does not depend on G
    return logsigmoid(-fake_logits).mean()


def non_saturating_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-mean log D(G(z)), a scalar. Its fixed point is that of V, and its gradient does not vanish where D is near 0.

    Goodfellow et al. (2014), section 3.
    """
    del real_logits
    return -logsigmoid(fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-V, a scalar: what D minimises."""
    return -calculate_v(real_logits, fake_logits)


def relativistic_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-mean log sigmoid(l(G(z)) - l(x)) over pairs, a scalar. It is small if generated images have the larger logits.

    Jolicoeur-Martineau, "The relativistic discriminator" (2018), section 4.3.
    """
    return -logsigmoid(fake_logits - real_logits).mean()


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-mean log sigmoid(l(x) - l(G(z))), a scalar: the loss of D that belongs to `relativistic_loss`."""
    return relativistic_loss(fake_logits, real_logits)


class Objective(NamedTuple):
    """The losses of both networks, as functions of the logits (B,) of real and of generated images."""

    generator: Callable[[Tensor, Tensor], Tensor]
    discriminator: Callable[[Tensor, Tensor], Tensor]
    pairs: bool = False
    """Whether the losses compare pairs of logits. Then a common offset of all logits does not change them."""


OBJECTIVES = {
    "minimax": Objective(minimax_loss, discriminator_loss),
    "non_saturating": Objective(non_saturating_loss, discriminator_loss),
    "relativistic": Objective(relativistic_loss, relativistic_discriminator_loss, pairs=True),
}
