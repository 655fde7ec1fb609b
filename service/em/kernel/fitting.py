"""The M-step in closed form: the transform that fits the source to its weighted targets.

A transform is B = [A | t] (D, D + 1), x = A p + t. All kinds minimise Σ_ij r_ij ‖A p_i + t - q_j‖², which depends on
the responsibilities through a few moments only (`Sums`):

- translation: A stays, t = mean(q) - A mean(p), all means weighted by r;
- rigid (D = 2 or 3): A is the proper rotation nearest to the cross-covariance, in space by its quaternion, which
  excludes mirror images (Horn 1987, J. Opt. Soc. Am. A 4);
- similarity: that rotation times s = tr(Aᵀ C) / var(p) (Umeyama 1991, eq. 42), at least LEAST_SCALE;
- affine: A = C var(p)^-1, weighted linear regression, damped by a ridge of 1e-12 of the variance (Levenberg 1944):
  along an axis more than about 1e5 times thinner than the others, A converges in several steps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kinds import AFFINE, RIGID, SIMILARITY, TRANSLATION
from .truncated import EStep

Float64 = NDArray[np.float64]

# The ridge, as a share of the variance, that makes the variance invertible.
RIDGE = 1e-12
# Below this, responsibilities are what `truncated.exp_of` leaves of terms that are cut off. Their products with squares
# of coordinates would underflow.
LEAST_TOTAL = 1e-100
# The largest number of a transform, whose square can be summed.
MOST = 1e75
# A variance below this share of the mean square is the rounding of their difference.
CANCELLED = 1e-15
# The least scale of a similarity, from which its rotation can still be told. If all points match one target, the best
# scale is 0.
LEAST_SCALE = 1e-60
# The most sweeps of Jacobi's method, each of which doubles the correct digits, and the elements that count as 0.
SWEEPS = 12
NEGLIGIBLE = 1e-18


class Sums(NamedTuple):
    """Moments of the pairs, weighted by r_ij. p̃ is p followed by a 1, so that they include the means and the total."""

    within: Float64  # (D + 1, D + 1) Σ r p̃ p̃ᵀ
    across: Float64  # (D + 1, D) Σ r p̃ qᵀ
    residual: float  # Σ r ‖x_i - y_j‖² at the transform of the E-step, in squared units of the target
    evidence: float  # Σ log z, in nats


@compiled
def move(transform: Float64, points: Float64, out: Float64) -> None:
    """Write x = A p + t into the first D rows of `out` (P, N), for `points` (P, N)."""
    dimension = transform.shape[0]
    count = points.shape[1]
    for d in range(dimension):
        shift = transform[d, dimension]
        for i in range(count):
            out[d, i] = shift
        for e in range(dimension):
            factor = transform[d, e]
            if factor != 0:
                for i in range(count):
                    out[d, i] += factor * points[e, i]


@compiled
def sums_of_rows(source: Float64, dimension: int, found: EStep) -> Sums:
    """The moments of an E-step over the source: `found` belongs to `source` (P, N)."""
    n = source.shape[1]  # `found` may be longer
    within = np.zeros((dimension + 1, dimension + 1))
    across = np.zeros((dimension + 1, dimension))
    for d in range(dimension):
        for e in range(d + 1):
            total = 0.0
            for i in range(n):
                total += found.mass[i] * source[d, i] * source[e, i]
            within[d, e] = within[e, d] = total
        total = 0.0
        for i in range(n):
            total += found.mass[i] * source[d, i]
        within[d, dimension] = within[dimension, d] = total
        for e in range(dimension):
            total = 0.0
            for i in range(n):
                total += source[d, i] * found.weighted_target[e, i]
            across[d, e] = total
        across[dimension, d] = found.weighted_target[d, :n].sum()
    within[dimension, dimension] = found.mass[:n].sum()
    return Sums(within, across, found.residual[:n].sum(), found.evidence[:n].sum())


@compiled
def sums_of_columns(source: Float64, target: Float64, dimension: int, found: EStep, columns: Float64) -> Sums:
    """The moments of an E-step over the target.

    `found` belongs to `target` (P, M). Its `weighted_target` holds sums of source points before the transform.
    `columns` (N,) are Σ_j r_ij of `source` (P, N).
    """
    m = target.shape[1]  # `found` may be longer
    within = np.zeros((dimension + 1, dimension + 1))
    across = np.zeros((dimension + 1, dimension))
    for d in range(dimension):
        for e in range(d + 1):
            within[d, e] = within[e, d] = (columns * source[d] * source[e]).sum()
        within[d, dimension] = within[dimension, d] = found.weighted_target[d, :m].sum()
        for e in range(dimension):
            across[d, e] = (found.weighted_target[d, :m] * target[e]).sum()
        across[dimension, d] = (found.mass[:m] * target[d]).sum()
    within[dimension, dimension] = found.mass[:m].sum()
    return Sums(within, across, found.residual[:m].sum(), found.evidence[:m].sum())


@compiled
def fit(kind: int, transform: Float64, sums: Sums) -> Float64:
    """The best transform (D, D + 1) of a kind, given by its code.

    It is a copy of `transform` if the pairs have no weight, or if a number of the best one is beyond MOST. `transform`
    (D, D + 1) is that of the E-step. If all pairs have one source point, an affine transform keeps its A, and a
    similarity its scale. A translation always keeps its A, and so do all kinds if the weight is below LEAST_TOTAL.
    Raises ValueError for an unknown code.
    """
    dimension = transform.shape[0]
    total = sums.within[dimension, dimension]
    if not total > 0:
        return transform.copy()
    p = sums.within[dimension, :dimension] / total
    q = sums.across[dimension] / total
    linear: Float64 = np.ascontiguousarray(transform[:, :dimension])
    if kind != TRANSLATION and total > LEAST_TOTAL:
        # Cross-covariance, target by source.
        cross = np.empty((dimension, dimension))
        spread = np.empty((dimension, dimension))
        for d in range(dimension):
            for e in range(dimension):
                cross[d, e] = sums.across[e, d] / total - q[d] * p[e]
                spread[d, e] = sums.within[d, e] / total - p[d] * p[e]
        variance = np.trace(spread)
        varies = variance > CANCELLED * (variance + (p * p).sum())
        if kind == AFFINE and varies:
            ridge = RIDGE * variance
            # Solving for the change of A leaves undetermined directions as they were. The ridge then only makes a
            # thin cloud converge in more than one step.
            missing = cross - linear @ spread
            for d in range(dimension):
                spread[d, d] += ridge
            linear = linear + solved(spread, missing)
        elif kind in (RIGID, SIMILARITY):
            linear = rotation(cross)
        elif kind != AFFINE:
            raise ValueError("no M-step has this code")
        if kind == SIMILARITY:
            before = math.sqrt((transform[:, :dimension] ** 2).sum() / dimension)
            scale = (linear * cross).sum() / variance if varies else before
            linear = linear * max(scale, LEAST_SCALE)
    out = np.empty((dimension, dimension + 1))
    assign(linear, out)
    shift = q - linear @ p
    for d in range(dimension):
        out[d, dimension] = shift[d]
    return out if np.abs(out).max() <= MOST else transform.copy()


@compiled
def assign(values: Float64, out: Float64) -> None:
    """Write `values` (D, K) into the first K columns of `out`.

    An assignment of slices would be compiled together with the text of its error, for 2.5 seconds.
    """
    for d in range(values.shape[0]):
        for k in range(values.shape[1]):
            out[d, k] = values[d, k]


@compiled
def solved(matrix: Float64, right: Float64) -> Float64:
    """X (D, D) with X A = B, for A = `matrix` and B = `right` (D, D). Infinite or NaN if A is singular.

    Gaussian elimination with partial pivoting. It overwrites `matrix`. Compiling NumPy's solver takes four seconds.
    """
    size = len(matrix)
    out = right.copy()
    for k in range(size):
        pivot = k
        for a in range(k + 1, size):
            if abs(matrix[k, a]) > abs(matrix[k, pivot]):
                pivot = a
        for a in range(size):
            matrix[a, k], matrix[a, pivot] = matrix[a, pivot], matrix[a, k]
            out[a, k], out[a, pivot] = out[a, pivot], out[a, k]
        for b in range(k + 1, size):
            factor = matrix[k, b] / matrix[k, k]
            for a in range(k, size):
                matrix[a, b] -= factor * matrix[a, k]
            for a in range(size):
                out[a, b] -= factor * out[a, k]
    for k in range(size - 1, -1, -1):
        for a in range(size):
            for b in range(k + 1, size):
                out[a, k] -= out[a, b] * matrix[b, k]
            out[a, k] /= matrix[k, k]
    return out


@compiled
def rotation(cross: Float64) -> Float64:
    """The proper rotation R (D, D) that maximises tr(Rᵀ C), D = 2 or 3; the identity for C = 0."""
    return _rotation_in_plane(cross) if cross.shape[0] == 2 else _rotation_in_space(cross)


@compiled
def _rotation_in_plane(cross: Float64) -> Float64:
    """The angle φ that maximises tr(Rᵀ C) = (c_11 + c_22) cos φ + (c_21 - c_12) sin φ, as a matrix (2, 2)."""
    along, beside = cross[0, 0] + cross[1, 1], cross[1, 0] - cross[0, 1]
    length = math.hypot(along, beside)
    # The compiler may multiply by 1 / length, which would overflow for less.
    cosine, sine = (along / length, beside / length) if length > 1e-300 else (1.0, 0.0)
    out = np.empty((2, 2))
    out[0, 0], out[0, 1], out[1, 0], out[1, 1] = cosine, -sine, sine, cosine
    return out


@compiled
def _rotation_in_space(cross: Float64) -> Float64:
    """The rotation (3, 3) of the unit quaternion q that maximises qᵀ N q (Horn 1987, section 4).

    N (4, 4) is symmetric and made of the elements of C. Jacobi's method finds its eigenvectors: each rotation of two
    rows and columns makes one element zero.
    """
    c = cross / max(np.abs(cross).max(), 1e-300)
    n = np.empty((4, 4))
    n[0, 0] = c[0, 0] + c[1, 1] + c[2, 2]
    n[1, 1] = c[0, 0] - c[1, 1] - c[2, 2]
    n[2, 2] = c[1, 1] - c[0, 0] - c[2, 2]
    n[3, 3] = c[2, 2] - c[0, 0] - c[1, 1]
    n[0, 1] = n[1, 0] = c[2, 1] - c[1, 2]
    n[0, 2] = n[2, 0] = c[0, 2] - c[2, 0]
    n[0, 3] = n[3, 0] = c[1, 0] - c[0, 1]
    n[1, 2] = n[2, 1] = c[0, 1] + c[1, 0]
    n[1, 3] = n[3, 1] = c[0, 2] + c[2, 0]
    n[2, 3] = n[3, 2] = c[1, 2] + c[2, 1]
    vectors = np.eye(4)
    for _ in range(SWEEPS):
        rest = 0.0
        for a in range(3):
            for b in range(a + 1, 4):
                rest = max(rest, abs(n[a, b]))
                if abs(n[a, b]) < NEGLIGIBLE:
                    continue
                ratio = (n[b, b] - n[a, a]) / (2 * n[a, b])
                tangent = (1.0 if ratio >= 0 else -1.0) / (abs(ratio) + math.sqrt(ratio * ratio + 1))
                cosine = 1 / math.sqrt(tangent * tangent + 1)
                sine = tangent * cosine
                for k in range(4):
                    n[k, a], n[k, b] = cosine * n[k, a] - sine * n[k, b], sine * n[k, a] + cosine * n[k, b]
                for k in range(4):
                    n[a, k], n[b, k] = cosine * n[a, k] - sine * n[b, k], sine * n[a, k] + cosine * n[b, k]
                    vectors[a, k], vectors[b, k] = (
                        cosine * vectors[a, k] - sine * vectors[b, k],
                        sine * vectors[a, k] + cosine * vectors[b, k],
                    )
                n[a, b] = n[b, a] = 0
        if rest < NEGLIGIBLE:
            break
    top = 0
    for a in range(1, 4):
        if n[a, a] > n[top, top]:
            top = a
    w, x, y, z = vectors[top]
    length = w * w + x * x + y * y + z * z
    out = np.empty((3, 3))
    out[0, 0], out[0, 1], out[0, 2] = w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)
    out[1, 0], out[1, 1], out[1, 2] = 2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)
    out[2, 0], out[2, 1], out[2, 2] = 2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z
    out /= length
    return out


@compiled
def residual_after(sums: Sums, before: Float64, after: Float64) -> float:
    """Σ r_ij ‖A p_i + t - q_j‖² at the transform `after` (D, D + 1), from `sums` at `before` (D, D + 1).

    It is the residual at `before` plus a difference that involves little cancellation.
    """
    dimension = before.shape[0]
    step = after - before
    total = sums.residual
    for d in range(dimension):
        for a in range(dimension + 1):
            reach = -sums.across[a, d]
            for b in range(dimension + 1):
                reach += sums.within[a, b] * (before[d, b] + 0.5 * step[d, b])
            total += 2 * step[d, a] * reach
    return max(total, 0.0)


def rms_distance(points: Float64, one: Float64, other: Float64) -> float:
    """The root mean square distance between `points` (P, n) under two transforms (D, D + 1)."""
    D = len(one)
    step = one - other
    return float(np.sqrt(((step[:, :D] @ points[:D] + step[:, D:]) ** 2).sum(0).mean()))


@compiled
def mean_square_step(within: Float64, before: Float64, after: Float64) -> float:
    """The mean square distance between the points under two transforms, mean ‖x' - x‖², from Σ p̃ p̃ᵀ (D + 1, D + 1)."""
    dimension = before.shape[0]
    step = after - before
    square: float = 0.0
    for d in range(dimension):
        for a in range(dimension + 1):
            for b in range(dimension + 1):
                square += step[d, a] * within[a, b] * step[d, b]
    total = within[dimension, dimension]
    return float(max(square, 0.0) / total) if total > 0 else 0.0
