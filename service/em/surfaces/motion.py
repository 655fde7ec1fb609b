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
from ..kernel.definite import inverse_of
from .expectation import Moments

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# A step changes σ by at most this factor.
MOST_CHANGE = 2.0
# The ridge, as a share of the largest diagonal element, that keeps free directions where they are.
RIDGE = 1e-9
# Below this angle the factors of Rodrigues' formula are those of the limit.
SMALL_ANGLE = 1e-6


class Sums(NamedTuple):
    """Sums over all points that the M-step needs, which `add_rows` adds to."""

    matrix: Float64  # (6, 6) Σ JᵀWJ, in the order of rotation about x, y and z, then translation
    vector: Float64  # (6,) Σ Jᵀf + (g, 0)
    within: Float64  # (4, 4) Σ r p̃ p̃ᵀ of the source before it was moved, p̃ = p followed by a 1
    noise: Float64  # (3,) Σ r ‖C⁻¹ d‖², Σ r tr C⁻¹ and Σ r tr C⁻²


def no_sums() -> Sums:
    """The sums of no points."""
    return Sums(np.zeros((6, 6)), np.zeros(6), np.zeros((4, 4)), np.zeros(3))


@compiled
def add_rows(
    out: Sums,
    source: Float64,
    x: Float64,
    normals: Float64,
    mass: Float64,
    moments: Moments,
    dimension: int,
    tangential: float,
) -> None:
    """Add K points to `out`: `source` (3, K), moved to `x` with the turned `normals`, and their E-step.

    J = [-[x]ₓ I], W = Σ_j r C⁻¹ and f = Σ_j r C⁻¹ d of a point.
    """
    matrix, vector, within, noise = out
    precision, spread = moments.precision, moments.spread
    b2 = 0.5 * tangential * tangential
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
        f0, f1, f2 = moments.force[0, i], moments.force[1, i], moments.force[2, i]
        g0, g1, g2 = turning(normals, precision, spread, i, b2)
        vector[0] += b * f2 - c * f1 + g0
        vector[1] += c * f0 - a * f2 + g1
        vector[2] += a * f1 - b * f0 + g2
        vector[3] += f0
        vector[4] += f1
        vector[5] += f2
        noise[0] += spread[0, i] + spread[1, i] + spread[2, i]
        noise[1] += xx + yy + (dimension - 2) * zz  # in the plane W_zz is that of no pair
        noise[2] += moments.trace_square[i]
        for d in range(3):
            product = mass[i] * source[d, i]
            for e in range(d + 1):
                within[d, e] += product * source[e, i]
            within[3, d] += product
        within[3, 3] += mass[i]
    for d in range(6):
        for e in range(d):
            matrix[d, e] = matrix[e, d]
    for d in range(4):
        for e in range(d):
            within[e, d] = within[d, e]


@compiled
def turning(
    normals: Float64, precision: Float64, spread: Float64, i: int, half_variance: float
) -> tuple[float, float, float]:
    """g of point i of the turned `normals` (3, K): how the fit of the patches' directions drives a rotation.

    `half_variance` is b = τ²/2.
    """
    m, n, p = normals[0, i], normals[1, i], normals[2, i]
    xx, yy, zz = precision[0, i] - spread[0, i], precision[1, i] - spread[1, i], precision[2, i] - spread[2, i]
    xy, xz, yz = precision[3, i] - spread[3, i], precision[4, i] - spread[4, i], precision[5, i] - spread[5, i]
    u, v, w = xx * m + xy * n + xz * p, xy * m + yy * n + yz * p, xz * m + yz * n + zz * p
    return half_variance * (n * w - p * v), half_variance * (p * u - m * w), half_variance * (m * v - n * u)


def free_numbers(dimension: int, *, rotates: bool) -> Int64:
    """The rows of `Sums.matrix` that a pose of D = 2 or 3 may change."""
    turns = [] if not rotates else [2] if dimension == 2 else [0, 1, 2]
    return np.array([*turns, *range(3, 3 + dimension)], np.int64)


@compiled
def moved_pose(transform: Float64, matrix: Float64, vector: Float64, free: Int64) -> Float64:
    """The pose (D, D + 1) after the step of the normal equations; `free` are the rows that may change."""
    size = len(free)
    some, ridge = np.empty((size, size)), 0.0
    for d in range(len(matrix)):
        ridge = max(ridge, RIDGE * matrix[d, d])
    for d in range(size):
        for e in range(size):
            some[d, e] = matrix[free[d], free[e]]
        some[d, d] += ridge
    covariance, definite = inverse_of(some)
    step = np.zeros(6)
    if definite:
        for d in range(size):
            for e in range(size):
                step[free[d]] += covariance[d, e] * vector[free[e]]
    return displaced(transform, step)


@compiled
def displaced(transform: Float64, step: Float64) -> Float64:
    """The pose (D, D + 1) after the perturbation `step` (6,): rotation about x, y and z, then translation."""
    D = len(transform)
    turn, out = turned(step), np.zeros((D, D + 1))
    for d in range(D):
        for e in range(D + 1):
            for k in range(D):
                out[d, e] += turn[d, k] * transform[k, e]
        out[d, D] += step[3 + d]
    return out


@compiled
def turned(vector: Float64) -> Float64:
    """The rotation (3, 3) by ‖v‖ about v, the first three numbers of `vector`, by Rodrigues' formula."""
    x, y, z = vector[0], vector[1], vector[2]
    angle = math.sqrt(x * x + y * y + z * z)
    first, second = 1.0, 0.5
    if angle > SMALL_ANGLE:
        first, second = math.sin(angle) / angle, (1 - math.cos(angle)) / angle**2
    out = np.empty((3, 3))
    out[0, 0], out[1, 1], out[2, 2] = (
        1 - second * (y * y + z * z),
        1 - second * (x * x + z * z),
        1 - second * (x * x + y * y),
    )
    out[0, 1], out[1, 0] = second * x * y - first * z, second * x * y + first * z
    out[0, 2], out[2, 0] = second * x * z + first * y, second * x * z - first * y
    out[1, 2], out[2, 1] = second * y * z - first * x, second * y * z + first * x
    return out


def fit_noise(noise: Float64, sigma: float) -> float:
    """σ after Fisher's step from `sigma`, by the sums `noise` (3,); `sigma` itself if no pair is in reach."""
    squares, traces, trace_squares = noise.tolist()
    if not trace_squares > 0:
        return sigma
    square = sigma**2 + (squares - traces) / trace_squares
    return min(max(math.sqrt(max(square, 0.0)), sigma / MOST_CHANGE), sigma * MOST_CHANGE)
