"""The value function, the losses derived from it, and the gradient penalty; all from logits, so that they stay finite.

With logits l, log D = logsigmoid(l) and log(1 - D) = logsigmoid(-l). A loss takes the logits (B,) of a batch of real
images and of as many generated ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import logsigmoid


def calculate_v(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """V(G, D) = mean log D(x) + mean log(1 - D(G(z))), a scalar; logits are (B,).

    Goodfellow et al., "Generative Adversarial Nets" (2014), eq. 1. D maximises it. -2 log 2 where D is 1/2.
    """
    return logsigmoid(real_logits).mean() + logsigmoid(-fake_logits).mean()


def minimax_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What G minimises, literally: the part of V that depends on G, mean log(1 - D(G(z))). A scalar."""
    del real_logits  # the other part of V has no gradient in G
    return logsigmoid(-fake_logits).mean()


def non_saturating_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-mean log D(G(z)), a scalar: the same fixed point, but gradients where D is sure of itself (ibid., section 3)."""
    del real_logits
    return -logsigmoid(fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-V, a scalar: what D minimises."""
    return -calculate_v(real_logits, fake_logits)


def relativistic_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-mean log sigmoid(l(G(z)) - l(x)) over pairs, a scalar: G wants its image to look more real than a real one.

    Jolicoeur-Martineau, "The relativistic discriminator" (2018), section 4.3; D minimises it with the two exchanged.
    """
    return -logsigmoid(fake_logits - real_logits).mean()


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-mean log sigmoid(l(x) - l(G(z))), a scalar: what D minimises against `relativistic_loss`."""
    return relativistic_loss(fake_logits, real_logits)


class Objective(NamedTuple):
    """What each network minimises, as a function of the logits of real and of generated images."""

    generator: Callable[[Tensor, Tensor], Tensor]
    discriminator: Callable[[Tensor, Tensor], Tensor]
    pairs: bool = False
    """Whether both losses compare the logits of pairs: they depend on the real images, and on no common offset."""


OBJECTIVES = {
    "minimax": Objective(minimax_loss, discriminator_loss),
    "non_saturating": Objective(non_saturating_loss, discriminator_loss),
    "relativistic": Objective(relativistic_loss, relativistic_discriminator_loss, pairs=True),
}
