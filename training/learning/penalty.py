"""The gradient penalty of D: by its definition, and by a pass of tangents that avoids a second derivative.

D is piecewise linear. On the piece that contains an image x, every LeakyReLU has a fixed slope and every max pooling a
fixed choice of elements. Let g = ∇_x l(x), taken as a constant. Then the gradient of ½‖∇_x l(x)‖² in D's weights equals
the gradient of the directional derivative of l at x along g. That derivative is D itself on the piece, without biases.
Its backward pass costs as much as an ordinary one. A second derivative would need convolutions of shapes for which no
fast kernel exists.

Where several elements of a pooling window are equal, as on a digit's constant background, x lies on the border of
several pieces. Each of them gives a valid penalty, and rounding decides between them. `discriminator_penalty` makes the
choice once, in one forward pass: g, the value and the gradient all belong to the same piece.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import leaky_relu, max_pool2d

from service.gan.networks import NEGATIVE_SLOPE, Discriminator


def gradient_penalty(logits: Tensor, images: Tensor, gamma: float) -> Tensor:
    """gamma/2 · mean ‖∇_x l(x)‖² at `images`, a scalar: R1 for real images, R2 for generated ones.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?" (2018), eq. 9 and 10. `images` (B, ...),
    or features of images, must require gradients, and `logits` (B,) must be computed from them.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.flatten(1).square().sum(1).mean() * (gamma / 2)


class Piece(NamedTuple):
    """What one block of D (convolution, LeakyReLU, max pooling) does on the linear piece that contains each image."""

    places: Tensor
    """(B, C, h, w) int64: the element that each window chose, as an index into the flattened (H, W) of its channel."""
    slopes: Tensor
    """(B, C, h, w): the slope of LeakyReLU at the chosen elements."""


def discriminator_penalty(discriminator: Discriminator, images: Tensor, gamma: float) -> Tensor:
    """gamma/2 · mean ‖∇_x l(x)‖² at `images` (B, 1, 32, 32), a scalar with its gradient in the weights of D.

    Value and gradient equal those of `gradient_penalty` of D's logits, but nothing flows into `images`.
    """
    convolutions = [layer for layer in discriminator.layers if isinstance(layer, nn.Conv2d)]
    last = discriminator.linear.weight
    images = images.detach().requires_grad_(True)
    signal, pieces = _choose(discriminator, images)
    slopes_of_last = last.detach().to(signal.dtype).view(1, -1, 1, 1).expand_as(signal)
    (tangent,) = torch.autograd.grad(signal, images, slopes_of_last)
    for convolution, piece in zip(convolutions, pieces, strict=True):
        # A bias shifts the logit and does not change its derivative.
        tangent = functional_call(convolution, {"bias": last.new_zeros(convolution.out_channels)}, tangent)
        tangent = tangent.flatten(2).gather(2, piece.places.flatten(2)).view_as(piece.slopes) * piece.slopes
    along = (tangent.flatten(1).to(last.dtype) * last).sum(1).mean()
    # Along g the derivative is g·g, the squared norm, whose gradient is twice that of the derivative with g constant.
    return gamma * (along - along.detach() / 2)


def _choose(discriminator: Discriminator, images: Tensor) -> tuple[Tensor, list[Piece]]:
    """D's features (B, 128, 1, 1) of `images`, with gradients in the images alone, and the piece of each block."""
    convolutions = [layer for layer in discriminator.layers if isinstance(layer, nn.Conv2d)]
    pools = [layer for layer in discriminator.layers if isinstance(layer, nn.MaxPool2d)]
    signal, pieces = images, []
    for convolution, pool in zip(convolutions, pools, strict=True):
        # Only the tangents have gradients in the weights.
        fixed = {name: value.detach() for name, value in convolution.named_parameters()}
        # LeakyReLU keeps signs and order, so it need be applied only to the chosen elements.
        signal, places = max_pool2d(functional_call(convolution, fixed, signal), pool.kernel_size, return_indices=True)
        signal = leaky_relu(signal, NEGATIVE_SLOPE)
        slopes = torch.full_like(signal, NEGATIVE_SLOPE).masked_fill_(signal.detach() > 0, 1.0)
        pieces.append(Piece(places, slopes))
    return signal, pieces
