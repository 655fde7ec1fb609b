"""The gradient penalty of D, by a pass of tangents instead of a gradient of a gradient.

For g = ∇_x l(x), taken as a constant, the gradient of ½‖∇_x l(x)‖² in D's weights is that of the derivative of l at x
along g. D is linear in pieces, so that derivative is D itself on the piece that x is on: convolutions without biases,
with the slopes and the maxima of x. Its backward pass costs what any other does, while that of a gradient runs
convolutions of shapes for which there is no fast kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import leaky_relu, max_pool2d

from service.gan.networks import NEGATIVE_SLOPE, Discriminator


def gradient_penalty(logits: Tensor, images: Tensor, gamma: float) -> Tensor:
    """gamma/2 · mean ‖∇_x l(x)‖² at `images`, a scalar: R1 where they are real, R2 where they are generated.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?" (2018), eq. 9 and 10. `images`
    (B, ...), or features of them, have to require gradients, and `logits` (B,) to be computed from them.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.flatten(1).square().sum(1).mean() * (gamma / 2)


def discriminator_penalty(discriminator: Discriminator, images: Tensor, gamma: float) -> Tensor:
    """gamma/2 · mean ‖∇_x l(x)‖² at `images` (B, 1, 32, 32), a scalar with its gradient in the weights of D.

    The same as `objectives.gradient_penalty` of D's logits, value and gradient, but nothing flows into `images`.
    """
    convolutions = [layer for layer in discriminator.layers if isinstance(layer, nn.Conv2d)]
    pools = [layer for layer in discriminator.layers if isinstance(layer, nn.MaxPool2d)]
    last = discriminator.linear.weight
    signal = images = images.detach().requires_grad_(True)
    pieces = []
    for convolution, pool in zip(convolutions, pools, strict=True):
        # Only the tangents have gradients in the weights.
        fixed = {name: value.detach() for name, value in convolution.named_parameters()}
        # LeakyReLU keeps signs and order: it, and its slope, are needed only where a maximum was taken.
        signal, places = max_pool2d(functional_call(convolution, fixed, signal), pool.kernel_size, return_indices=True)
        signal = leaky_relu(signal, NEGATIVE_SLOPE)
        slopes = torch.full_like(signal, NEGATIVE_SLOPE).masked_fill_(signal.detach() > 0, 1.0)
        pieces.append((places.flatten(2), slopes))
    slopes_of_last = last.detach().to(signal.dtype).view(1, -1, 1, 1).expand_as(signal)
    (tangent,) = torch.autograd.grad(signal, images, slopes_of_last)
    for convolution, (places, slopes) in zip(convolutions, pieces, strict=True):
        # A slope does not know the height of its line.
        tangent = functional_call(convolution, {"bias": last.new_zeros(convolution.out_channels)}, tangent)
        tangent = tangent.flatten(2).gather(2, places).view_as(slopes) * slopes
    along = (tangent.flatten(1).to(last.dtype) * last).sum(1).mean()
    # Along g the derivative is g·g, the squared norm, whose gradient is twice that of the derivative with g held fast.
    return gamma * (along - along.detach() / 2)
