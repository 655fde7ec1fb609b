"""The E-step between patches: each pair has the covariance of its two patches.

A patch with the unit normal n has the covariance τ²/2 (I - n nᵀ): its point stands for places along the patch, and for
none across it. Without a normal it is τ²/2 I. With the noise σ in all directions, a pair of the normals n and m, the
latter turned with the source, has the covariance (Segal, Haehnel and Thrun 2009, eq. 2)

    C = (σ² + τ²) I - τ²/2 (n nᵀ + m mᵀ)

With a = σ² + τ², b = τ²/2, c = nᵀm (its sign chosen so that c >= 0) and C's eigenvectors n + m and n - m

    C⁻¹ = (I + f (n + m)(n + m)ᵀ + g (n - m)(n - m)ᵀ)/a,   f = b/(2(a - b(1 + c))),   g = b/(2(a - b(1 - c)))
    |C| = a^(D-2) (a - b(1 + c)) (a - b(1 - c))
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.cells import Cells
from ..kernel.truncated import UNMATCHED, exp_of, neighbours
from ..slices import ROW_PAIRS, in_slices

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Half the squared distance, in standard deviations of the pair, beyond which a pair is left out.
CUTOFF = 6.0
# The work of a pair besides that of finding it, in pairs.
PAIR = 6


class Noise(NamedTuple):
    """The scales of the noise of a pair, in the frame's unit."""

    sigma: float  # σ, in all directions
    tangential: float  # τ, along both patches together


class Matches(NamedTuple):
    """What an E-step keeps of each of N points. r are responsibilities."""

    mass: Float64  # (N,) Σ_j r
    evidence: Float64  # (N,) log(Σ_j weights + β), see `expect_patches`
    best: Int64  # (N,) argmax_j r, UNMATCHED if none is in reach
    peak: Float64  # (N,) max_j r

    def rows(self, some: slice) -> Matches:
        """Views of some of the points."""
        return Matches(self.mass[some], self.evidence[some], self.best[some], self.peak[some])


class Moments(NamedTuple):
    """The sums of N points that the M-step needs. d = q_j - x_i."""

    precision: Float64  # (6, N) Σ_j r C⁻¹: xx, yy, zz, xy, xz, yz
    force: Float64  # (3, N) Σ_j r C⁻¹ d
    square: Float64  # (N,) Σ_j r ‖C⁻¹ d‖²
    trace: Float64  # (N,) Σ_j r tr C⁻¹
    trace_square: Float64  # (N,) Σ_j r tr C⁻²
    spread: Float64  # (6, N) Σ_j r (C⁻¹ d)(C⁻¹ d)ᵀ


def empty_matches(count: int) -> Matches:
    """Uninitialised arrays of `count` points."""
    return Matches(np.empty(count), np.empty(count), np.empty(count, np.int64), np.empty(count))


def empty_moments(count: int) -> Moments:
    """Uninitialised arrays of `count` points."""
    square, trace, trace_square = (np.empty(count) for _ in range(3))
    return Moments(np.empty((6, count)), np.empty((3, count)), square, trace, trace_square, np.empty((6, count)))


def expect_patches(
    x: Float64,
    normals: Float64,
    grid: Cells,
    grid_normals: Float64,
    background: Float64,
    dimension: int,
    noise: Noise,
    cutoff: float,
    matches: Matches,
    moments: Moments,
) -> None:
    """The E-step of `x` (3, N) with its turned `normals` (3, N) against the targets in `grid`, into the last two.

    The weight of a pair is exp(-dᵀC⁻¹d/2) √(|C₀|/|C|), where |C₀| = σ² (σ² + τ²)^(D-1) is the least determinant.
    `grid_normals` (3, M) are in the grid's order. `background` (N,) is the logarithm of the weight β of each point's
    outlier bin, in the same unit. Pairs beyond `cutoff`, see CUTOFF, are left out.
    """
    arguments = x, normals, grid, grid_normals, background, dimension, *noise, cutoff, *matches, *moments
    in_slices(x.shape[1], lambda first, pairs: _expect_rows(*arguments, first, pairs))


@compiled
def _expect_rows(
    x: Float64,
    normals: Float64,
    grid: Cells,
    grid_normals: Float64,
    background: Float64,
    dimension: int,
    sigma: float,
    tangential: float,
    cutoff: float,
    mass: Float64,
    evidence: Float64,
    best: Int64,
    peak: Float64,
    precision: Float64,
    force: Float64,
    square: Float64,
    trace: Float64,
    trace_square: Float64,
    spread: Float64,
    first: int,
    pairs: int,
) -> int:
    """`expect_patches` of the rows from `first` on, until about `pairs` pairs are visited. Returns the next row."""
    size, count = grid.points.shape[1], x.shape[1]
    index, distance = np.empty(size, np.int32), np.empty(size)
    a, b = sigma * sigma + tangential * tangential, tangential * tangential / 2
    inverse_a, reach = 1.0 / a, 2 * cutoff * a
    for i in range(first, count):
        found, seen = neighbours(x, i, grid, reach, index, distance)
        m0, m1, m2 = normals[0, i], normals[1, i], normals[2, i]
        has_normal = m0 != 0.0 or m1 != 0.0 or m2 != 0.0
        # Weights relative to the bin's, if that is the larger one, cannot overflow.
        base = max(background[i], 0.0)
        total, mass_i, largest, winner = math.exp(max(background[i] - base, -700.0)), 0.0, 0.0, UNMATCHED
        xx, yy, zz, xy, xz, yz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        sxx, syy, szz, sxy, sxz, syz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        fx, fy, fz = 0.0, 0.0, 0.0
        squares, traces, trace_squares = 0.0, 0.0, 0.0
        for k in range(found):
            j = index[k]
            n0, n1, n2 = grid_normals[0, j], grid_normals[1, j], grid_normals[2, j]
            d0, d1, d2 = grid.points[0, j] - x[0, i], grid.points[1, j] - x[1, i], grid.points[2, j] - x[2, i]
            c = n0 * m0 + n1 * m1 + n2 * m2
            sign = 1.0 if c >= 0.0 else -1.0
            c = c * sign
            own, other = (m0 * d0 + m1 * d1 + m2 * d2) * sign, n0 * d0 + n1 * d1 + n2 * d2
            with_normal = n0 != 0.0 or n1 != 0.0 or n2 != 0.0
            low, high = a - b * (1.0 + c), a - b * (1.0 - c)
            if not (with_normal and has_normal):
                # With one normal, n + m and n - m are both that normal, and all other eigenvalues are a.
                low, high = (a - b if with_normal or has_normal else a), a
            inverse = 1.0 / (low * high)
            f = b / 2 * high * inverse
            g = b / 2 * low * inverse if with_normal and has_normal else f
            along_u, along_v = f * (other + own), g * (other - own)
            half = 0.5 * inverse_a * (distance[k] + along_u * (other + own) + along_v * (other - own))
            if half > cutoff:
                continue
            u0, u1, u2 = n0 + sign * m0, n1 + sign * m1, n2 + sign * m2
            v0, v1, v2 = n0 - sign * m0, n1 - sign * m1, n2 - sign * m2
            p0 = (d0 + along_u * u0 + along_v * v0) * inverse_a
            p1 = (d1 + along_u * u1 + along_v * v1) * inverse_a
            p2 = (d2 + along_u * u2 + along_v * v2) * inverse_a
            w = exp_of(-half - base) * math.sqrt(sigma * sigma * a * inverse)
            total += w
            mass_i += w
            if w > largest or (w == largest and winner > grid.order[j]):
                largest, winner = w, grid.order[j]
            xx += w * (1.0 + f * u0 * u0 + g * v0 * v0) * inverse_a
            yy += w * (1.0 + f * u1 * u1 + g * v1 * v1) * inverse_a
            zz += w * (1.0 + f * u2 * u2 + g * v2 * v2) * inverse_a
            xy += w * (f * u0 * u1 + g * v0 * v1) * inverse_a
            xz += w * (f * u0 * u2 + g * v0 * v2) * inverse_a
            yz += w * (f * u1 * u2 + g * v1 * v2) * inverse_a
            sxx += w * p0 * p0
            syy += w * p1 * p1
            szz += w * p2 * p2
            sxy += w * p0 * p1
            sxz += w * p0 * p2
            syz += w * p1 * p2
            fx += w * p0
            fy += w * p1
            fz += w * p2
            squares += w * (p0 * p0 + p1 * p1 + p2 * p2)
            traces += w * ((dimension - 2) * inverse_a + (low + high) * inverse)
            trace_squares += w * (
                (dimension - 2) * inverse_a * inverse_a + (low * low + high * high) * inverse * inverse
            )
        mass[i] = mass_i / total
        evidence[i] = math.log(total) + base
        best[i], peak[i] = winner, largest / total
        precision[0, i], precision[1, i], precision[2, i] = xx / total, yy / total, zz / total
        precision[3, i], precision[4, i], precision[5, i] = xy / total, xz / total, yz / total
        spread[0, i], spread[1, i], spread[2, i] = sxx / total, syy / total, szz / total
        spread[3, i], spread[4, i], spread[5, i] = sxy / total, sxz / total, syz / total
        force[0, i], force[1, i], force[2, i] = fx / total, fy / total, fz / total
        square[i], trace[i], trace_square[i] = squares / total, traces / total, trace_squares / total
        pairs -= seen + PAIR * found + ROW_PAIRS
        if pairs <= 0:
            return i + 1
    return int(count)
