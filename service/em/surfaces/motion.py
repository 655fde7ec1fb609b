"""The M-step between patches: Gauss and Newton's step of the pose, and Fisher's of σ.

With r and C fixed, the expected complete log-likelihood is -½ Σ r dᵀC⁻¹d in the pose, d = q - R p - t. A left
perturbation (ω, v) of x = R p + t changes d by -(ω × x + v), so that with J = [-[x]ₓ I] its best value solves

    Σ_i Jᵢᵀ (Σ_j r C⁻¹) Jᵢ (ω, v) = Σ_i Jᵢᵀ (Σ_j r C⁻¹ d) + (gᵢ, 0)

C turns with the normal m of the source, as C = ... - b m mᵀ with b = τ²/2. The derivative of the log-density by this
rotation is gᵢ = b m × (Σ_j r (C⁻¹ - C⁻¹d dᵀC⁻¹)) m.

∂C/∂σ² = I, so the score of σ² is ½ Σ r (‖C⁻¹ d‖² - tr C⁻¹), and its expected information ½ Σ r tr C⁻².
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.definite import inverse
from .expectation import Moments

Float64 = NDArray[np.float64]

# A step changes σ by at most this factor.
MOST_CHANGE = 2.0
# The ridge, as a share of the largest diagonal element, that keeps free directions where they are.
RIDGE = 1e-9


@compiled
def normal_equations(x: Float64, precision: Float64, force: Float64) -> tuple[Float64, Float64]:
    """Σ JᵀWJ (6, 6) and Σ Jᵀf (6,) of points `x` (3, N) with W (6, N), as in `Moments.precision`, and f (3, N).

    The order is rotation about x, y and z, then translation.
    """
    matrix, vector = np.zeros((6, 6)), np.zeros(6)
    for i in range(x.shape[1]):
        a, b, c = x[0, i], x[1, i], x[2, i]
        xx, yy, zz = precision[0, i], precision[1, i], precision[2, i]
        xy, xz, yz = precision[3, i], precision[4, i], precision[5, i]
        # K = [x]ₓ W, so that JᵀWJ = [[-K [x]ₓ, K], [Kᵀ, W]].
        k00, k01, k02 = b * xz - c * xy, b * yz - c * yy, b * zz - c * yz
        k10, k11, k12 = c * xx - a * xz, c * xy - a * yz, c * xz - a * zz
        k20, k21, k22 = a * xy - b * xx, a * yy - b * xy, a * yz - b * xz
        matrix[0, 0] += k02 * b - k01 * c
        matrix[0, 1] += k00 * c - k02 * a
        matrix[0, 2] += k01 * a - k00 * b
        matrix[1, 1] += k10 * c - k12 * a
        matrix[1, 2] += k11 * a - k10 * b
        matrix[2, 2] += k21 * a - k20 * b
        matrix[0, 3] += k00
        matrix[0, 4] += k01
        matrix[0, 5] += k02
        matrix[1, 3] += k10
        matrix[1, 4] += k11
        matrix[1, 5] += k12
        matrix[2, 3] += k20
        matrix[2, 4] += k21
        matrix[2, 5] += k22
        matrix[3, 3] += xx
        matrix[4, 4] += yy
        matrix[5, 5] += zz
        matrix[3, 4] += xy
        matrix[3, 5] += xz
        matrix[4, 5] += yz
        f0, f1, f2 = force[0, i], force[1, i], force[2, i]
        vector[0] += b * f2 - c * f1
        vector[1] += c * f0 - a * f2
        vector[2] += a * f1 - b * f0
        vector[3] += f0
        vector[4] += f1
        vector[5] += f2
    for d in range(6):
        for e in range(d):
            matrix[d, e] = matrix[e, d]
    return matrix, vector


def turning(normals: Float64, moments: Moments, tangential: float) -> Float64:
    """g (3, N) of points with the turned `normals` (3, N): how the fit of the patches' directions drives a rotation."""
    xx, yy, zz, xy, xz, yz = moments.precision - moments.spread
    a, b, c = normals
    pulled = np.stack([xx * a + xy * b + xz * c, xy * a + yy * b + yz * c, xz * a + yz * b + zz * c])
    return np.asarray(0.5 * tangential**2 * np.cross(normals, pulled, axis=0))


def free_numbers(dimension: int, *, rotates: bool) -> list[int]:
    """The rows of `normal_equations` that a pose of D = 2 or 3 may change."""
    turns = [] if not rotates else [2] if dimension == 2 else [0, 1, 2]
    return [*turns, *range(3, 3 + dimension)]


def moved_pose(transform: Float64, matrix: Float64, vector: Float64, free: list[int]) -> Float64:
    """The pose (D, D + 1) after the step of `normal_equations`; `free` are the rows that may change."""
    some = matrix[np.ix_(free, free)] + RIDGE * float(matrix.diagonal().max()) * np.eye(len(free))
    covariance = inverse(some)
    if covariance is None:
        return transform
    step = np.zeros(6)
    step[free] = covariance @ vector[free]
    return displaced(transform, step)


def displaced(transform: Float64, step: Float64) -> Float64:
    """The pose (D, D + 1) after the perturbation `step` (6,), in the order of `normal_equations`."""
    D = len(transform)
    turn = turned(step[:3])[:D, :D]
    return np.asarray(turn @ transform + np.pad(step[3 : 3 + D, None], ((0, 0), (D, 0))))


def turned(vector: Float64) -> Float64:
    """The rotation (3, 3) by ‖vector‖ about `vector` (3,), by Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-9:
        return np.asarray(np.eye(3) + skew)
    return np.asarray(np.eye(3) + math.sin(angle) / angle * skew + (1 - math.cos(angle)) / angle**2 * skew @ skew)


class NoiseSums(NamedTuple):
    """Sums over all pairs, for `fit_noise`."""

    square: float = 0.0  # Σ r ‖C⁻¹ d‖²
    trace: float = 0.0  # Σ r tr C⁻¹
    trace_square: float = 0.0  # Σ r tr C⁻²

    def plus(self, more: Moments) -> NoiseSums:
        """The sums with some more points."""
        return NoiseSums(
            self.square + float(more.square.sum()),
            self.trace + float(more.trace.sum()),
            self.trace_square + float(more.trace_square.sum()),
        )


def fit_noise(sums: NoiseSums, sigma: float) -> float:
    """σ after Fisher's step from `sigma`; `sigma` itself if no pair is in reach."""
    if not sums.trace_square > 0:
        return sigma
    square = sigma**2 + (sums.square - sums.trace) / sums.trace_square
    return min(max(math.sqrt(max(square, 0.0)), sigma / MOST_CHANGE), sigma * MOST_CHANGE)
