"""Inversion: the maximum a posteriori latent z of an image x = G(z) + noise, with z ~ N(0, I).

It minimises E(z) = ‖x - G(z)‖² + w‖z‖² with x and G in grey levels, so w is the variance of the noise in levels². The
steps are those of Levenberg (1944) and Marquardt (1963), with the full Jacobian of G. The weight of the prior starts at
1e5 and is halved at each step until it is w. This finds the nearest likely latent first and its details later
(graduated optimisation; Blake and Zisserman, "Visual Reconstruction", 1987). The starts are the latents of a fixed bank
whose images are nearest to x.

Each image is solved separately, on the CPU and always with the same shapes, so its result does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d

from . import sampling
from .networks import LATENT_DIM, NEGATIVE_SLOPE, Generator

# No request can use the seed of the bank, so the bank contains no image of a caller. It is drawn in passes of
# BANK_ROWS.
BANK_SEED, BANK_IMAGES, BANK_ROWS = 2**64 - 1, 4096, 64
STARTS = 3
# Per start.
MAX_ITERATIONS = 60
# In levels², as the prior's weight.
FIRST_WEIGHT, WEIGHT_FACTOR = 1e5, 0.5
FIRST_DAMPING, LEAST_DAMPING = 1.0, 1e-3
# Per iteration.
MAX_DAMPINGS = 6
# Relative decrease of E below which a start has converged.
TOLERANCE = 1e-3
# Grey levels, root mean square, below which no further start is tried.
GOOD_RESIDUAL = 1.0
# Grey levels per unit of the generator's output.
HALF_RANGE = 127.5


class Inversion(NamedTuple):
    """The latent (128,), float32, of one image, and the quality of the fit."""

    latent: Tensor
    residual: float
    """Root mean square of x - G(z), in grey levels, before G(z) is rounded to 8 bits."""
    iterations: int
    """Sum over all starts that were tried."""
    converged: bool
    """Whether the decrease of E fell below the tolerance within the maximum of iterations."""


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
        """The latent of one image. It does not depend on earlier calls.

        Args:
            image: (32, 32), grey levels 0 to 255 as float32.
            prior_weight: w, in levels². A larger value gives a more likely latent and a coarser image.
            cancelled: called before each iteration. Once it returns true, the best latent so far is returned.
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
            raise RuntimeError("the bank has no start")
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
        """Flattened images G(z) (B, 1024) of `latents` (B, 128)."""
        signal = latents.reshape(-1, LATENT_DIM, 1, 1)
        for weight, bias, stride, padding in self._layers[:-1]:
            signal = nn.functional.leaky_relu(conv_transpose2d(signal, weight, bias, stride, padding), NEGATIVE_SLOPE)
        weight, bias, stride, padding = self._layers[-1]
        return conv_transpose2d(signal, weight, bias, stride, padding).tanh().flatten(1)

    def _linearise(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """The image G(z) (1024,) of `latent` (128,), and its derivatives (128, 1024) in the latent's components.

        The tangents of all 128 directions pass through the layers as one batch (forward-mode differentiation).
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
        """Latents (STARTS, 128) of the bank whose images are nearest to `target` (1024,); on a tie the first ones."""
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
