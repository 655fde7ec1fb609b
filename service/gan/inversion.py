"""From an image to its latent: the maximum a posteriori z of x = G(z) + noise, z ~ N(0, I).

Minimised is E(z) = ‖x - G(z)‖² + w‖z‖², x and G in grey levels, so that w is the variance of the noise in levels². The
steps are Levenberg's and Marquardt's (1944, 1963) with the whole Jacobian of G. The weight of the prior begins at 1e5
and is halved with every step until it is w: first the nearest likely latent is found, then its details (a graduated
optimisation; Blake and Zisserman, "Visual Reconstruction", 1987). Starts are the nearest images of a fixed bank.

Every image is solved by itself, on the CPU, with the same shapes throughout, so that its answer does not depend on what
else was asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d

from . import sampling
from .networks import LATENT_DIM, NEGATIVE_SLOPE, Generator

# The bank is that of a seed which no request can name, so that it gives no image of a caller's away.
BANK_SEED, BANK_IMAGES, BANK_ROWS = 2**64 - 1, 4096, 64
STARTS = 3
MAX_ITERATIONS = 60
FIRST_WEIGHT, WEIGHT_FACTOR = 1e5, 0.5
FIRST_DAMPING, LEAST_DAMPING = 1.0, 1e-3
MAX_DAMPINGS = 6
TOLERANCE = 1e-3
GOOD_RESIDUAL = 1.0
HALF_RANGE = 127.5


class Inversion(NamedTuple):
    """A latent (128,) float32 and how near its image is."""

    latent: Tensor
    residual: float
    """Root mean square of x - G(z), in grey levels, before G(z) is rounded to 8 bits."""
    iterations: int
    """Of all starts that were tried."""
    converged: bool
    """Whether E stopped falling before the iterations ran out."""


class _Layer(NamedTuple):
    """One transposed convolution."""

    weight: Tensor
    bias: Tensor
    stride: int
    padding: int


class _Fit(NamedTuple):
    latent: Tensor
    energy: float
    residual: float
    iterations: int
    converged: bool


class Inverter:
    """Inverts one generator, on the CPU."""

    def __init__(self, generator: Generator) -> None:
        convolutions = [layer for layer in generator.layers if isinstance(layer, nn.ConvTranspose2d)]
        state = generator.state_dict()
        self._layers = [
            _Layer(weight.cpu().clone(), bias.cpu().clone(), layer.stride[0], int(layer.padding[0]))
            for layer, weight, bias in zip(convolutions, [*state.values()][::2], [*state.values()][1::2], strict=True)
        ]
        self._bank: tuple[Tensor, Tensor] | None = None

    @torch.inference_mode()
    def invert(self, image: Tensor, prior_weight: float, cancelled: Callable[[], bool] = lambda: False) -> Inversion:
        """The latent of `image` (32, 32), grey levels 0 to 255 as float32.

        Args:
            prior_weight: w, in levels²; the larger, the likelier the latent and the coarser its image.
            cancelled: asked before every iteration; once true, the best latent until then is returned.
        """
        target = image.reshape(-1) / HALF_RANGE - 1
        best: _Fit | None = None
        iterations = 0
        for start in self._nearest(target):
            fit = self._descend(start, target, prior_weight, cancelled)
            iterations += fit.iterations
            if best is None or fit.energy < best.energy:
                best = fit
            if best.residual <= GOOD_RESIDUAL or cancelled():
                break
        if best is None:
            raise RuntimeError("the bank holds at least one start")
        return Inversion(best.latent, best.residual, iterations, best.converged)

    def _descend(self, start: Tensor, target: Tensor, goal: float, cancelled: Callable[[], bool]) -> _Fit:
        latent, damping, iterations, converged = start, FIRST_DAMPING, 0, False
        image, slopes = self._linearise(latent)
        error = _error(target, image)
        weight = max(goal, FIRST_WEIGHT)
        while iterations < MAX_ITERATIONS and not converged and not cancelled():
            energy = _energy(error, latent, weight)
            jacobian = slopes.double() * HALF_RANGE
            curvature = jacobian @ jacobian.T
            curvature.diagonal().add_(weight)
            descent = jacobian @ error - weight * latent.double()
            fell = 0.0
            for _ in range(MAX_DAMPINGS):
                damped = curvature.clone()
                damped.diagonal().add_(damping)
                step = torch.cholesky_solve(descent[:, None], torch.linalg.cholesky(damped))[:, 0]
                candidate = latent + step.float()
                new_error = _error(target, self._images(candidate)[0])
                new_energy = _energy(new_error, candidate, weight)
                if new_energy < energy:
                    latent, error = candidate, new_error
                    fell = (energy - new_energy) / energy
                    damping = max(damping / 5, LEAST_DAMPING)
                    break
                damping *= 4
            iterations += 1
            converged = weight == goal and fell < TOLERANCE
            weight = max(goal, weight * WEIGHT_FACTOR)
            if not converged and fell > 0:
                _, slopes = self._linearise(latent)
        residual = float(error.square().mean().sqrt())
        return _Fit(latent, _energy(error, latent, goal), residual, iterations, converged)

    def _images(self, latents: Tensor) -> Tensor:
        """G(z) of latents (B, 128), flat, (B, 1024)."""
        signal = latents.reshape(-1, LATENT_DIM, 1, 1)
        for weight, bias, stride, padding in self._layers[:-1]:
            signal = nn.functional.leaky_relu(conv_transpose2d(signal, weight, bias, stride, padding), NEGATIVE_SLOPE)
        weight, bias, stride, padding = self._layers[-1]
        return conv_transpose2d(signal, weight, bias, stride, padding).tanh().flatten(1)

    def _linearise(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """G(z), (1024,), and its derivative in each of the latent's numbers, (128, 1024).

        The tangents of all 128 directions go through the layers as one batch (forward accumulation).
        """
        weight, bias, stride, padding = self._layers[0]
        signal = conv_transpose2d(latent.reshape(1, LATENT_DIM, 1, 1), weight, bias, stride, padding)
        tangents = weight
        for weight, bias, stride, padding in self._layers[1:]:
            slope = torch.where(signal > 0, 1.0, NEGATIVE_SLOPE)
            signal = conv_transpose2d(signal * slope, weight, bias, stride, padding)
            tangents = conv_transpose2d(tangents * slope, weight, None, stride, padding)
        image = signal.tanh()
        return image.reshape(-1), (tangents * (1 - image * image)).reshape(LATENT_DIM, -1)

    def _nearest(self, target: Tensor) -> Tensor:
        """The latents (STARTS, 128) of the bank whose images are nearest to `target` (1024,)."""
        if self._bank is None:
            latents = torch.from_numpy(sampling.latents(BANK_SEED, BANK_IMAGES))
            self._bank = latents, torch.cat([self._images(part) for part in torch.split(latents, BANK_ROWS)])
        latents, images = self._bank
        distances = (images - target).square().sum(1)
        return latents[distances.sort(stable=True).indices[:STARTS]]


def _error(target: Tensor, image: Tensor) -> Tensor:
    return (target - image).double() * HALF_RANGE


def _energy(error: Tensor, latent: Tensor, weight: float) -> float:
    wide = latent.double()
    return float(error @ error + weight * (wide @ wide))
