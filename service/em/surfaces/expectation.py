"""The E-step between patches: each pair has the covariance of its two patches.

A patch with the unit normal n has the covariance τ²/2 (I - n nᵀ): its point stands for places along the patch, and for
none across it. Without a normal it is τ²/2 I, as with n = 0. With the noise σ in all directions, a pair of the normals
n and m, the latter turned with the source, has the covariance (Segal, Haehnel and Thrun 2009, eq. 2)

    C = (σ² + τ²) I - τ²/2 (n nᵀ + m mᵀ)

With a = σ² + τ², b = τ²/2, c = nᵀm, A = a - b nᵀn and B = a - b mᵀm, by Woodbury's formula

    C⁻¹ = (I + b/Δ (B n nᵀ + A m mᵀ + b c (n mᵀ + m nᵀ)))/a,   Δ = A B - b² c²,   |C| = a^(D-2) Δ

The m of a source point is the same in all its pairs. A sum of C⁻¹ over them therefore needs those of the factors, of n
and of n nᵀ only. Sums of traces are traces of sums; only tr C⁻² has a sum of its own.
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
# The pairs of a vector, or a multiple.
LANES = 8


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
    spread: Float64  # (6, N) Σ_j r (C⁻¹ d)(C⁻¹ d)ᵀ
    trace_square: Float64  # (N,) Σ_j r tr C⁻²


def empty_matches(count: int) -> Matches:
    """Uninitialised arrays of `count` points."""
    return Matches(np.empty(count), np.empty(count), np.empty(count, np.int64), np.empty(count))


def empty_moments(count: int) -> Moments:
    """Uninitialised arrays of `count` points."""
    return Moments(np.empty((6, count)), np.empty((3, count)), np.empty((6, count)), np.empty(count))


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
    spread: Float64,
    trace_square: Float64,
    first: int,
    pairs: int,
) -> int:
    """`expect_patches` of the rows from `first` on, until about `pairs` pairs are visited. Returns the next row."""
    size, count = grid.points.shape[1], x.shape[1]
    index, distance = np.empty(size, np.int32), np.empty(size)
    # The pairs of a row, side by side: the loop over them vectorises, as it has neither an index nor a branch.
    along_x, along_y, along_z = np.empty(size + LANES), np.empty(size + LANES), np.empty(size + LANES)
    normal_x, normal_y, normal_z = np.empty(size + LANES), np.empty(size + LANES), np.empty(size + LANES)
    weight = np.empty(size + LANES)
    b = tangential * tangential / 2
    a = sigma * sigma + 2 * b
    inverse_a, reach, root = 1.0 / a, 2 * cutoff * a, sigma * math.sqrt(a)
    for i in range(first, count):
        found, seen = neighbours(x, i, grid, reach, index, distance)
        x0, x1, x2 = x[0, i], x[1, i], x[2, i]
        for k in range(found):
            j = index[k]
            along_x[k], along_y[k], along_z[k] = grid.points[0, j] - x0, grid.points[1, j] - x1, grid.points[2, j] - x2
            normal_x[k], normal_y[k], normal_z[k] = grid_normals[0, j], grid_normals[1, j], grid_normals[2, j]
        # Pairs out of reach fill the last vector.
        full = (found + LANES - 1) // LANES * LANES
        for k in range(found, full):
            along_x[k], along_y[k], along_z[k] = 2 * math.sqrt(reach), 0.0, 0.0
            normal_x[k], normal_y[k], normal_z[k] = 0.0, 0.0, 0.0
        m0, m1, m2 = normals[0, i], normals[1, i], normals[2, i]
        own = a - b if m0 != 0.0 or m1 != 0.0 or m2 != 0.0 else a  # B
        inverse_own = 1.0 / own
        # Weights relative to the bin's, if that is the larger one, cannot overflow.
        base = max(background[i], 0.0)
        mass_i, own_sum, cross_x, cross_y, cross_z = 0.0, 0.0, 0.0, 0.0, 0.0
        xx, yy, zz, xy, xz, yz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        sxx, syy, szz, sxy, sxz, syz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        fx, fy, fz, trace_squares = 0.0, 0.0, 0.0, 0.0
        for k in range(full):
            d0, d1, d2 = along_x[k], along_y[k], along_z[k]
            n0, n1, n2 = normal_x[k], normal_y[k], normal_z[k]
            across_n, across_m = n0 * d0 + n1 * d1 + n2 * d2, m0 * d0 + m1 * d1 + m2 * d2
            bc = b * (n0 * m0 + n1 * m1 + n2 * m2)
            other = a - b if n0 * n0 + n1 * n1 + n2 * n2 > 0.5 else a  # A
            # Δ. Without one of the normals c is 0; with both A is B, and this form loses fewer digits.
            inverse = 1.0 / ((own - bc) * (own + bc) * (other * inverse_own))
            scale = b * inverse
            factor_n, factor_m, cross = scale * own, scale * other, scale * bc
            # C⁻¹d = (d + u n + v m)/a.
            u, v = factor_n * across_n + cross * across_m, cross * across_n + factor_m * across_m
            half = 0.5 * inverse_a * (d0 * d0 + d1 * d1 + d2 * d2 + u * across_n + v * across_m)
            w = exp_of(-half - base) * math.sqrt(inverse) * root
            w = w if half <= cutoff else 0.0
            weight[k] = w
            mass_i += w
            own_sum += w * factor_m
            cross_x += w * cross * n0
            cross_y += w * cross * n1
            cross_z += w * cross * n2
            g0, g1, g2 = w * factor_n * n0, w * factor_n * n1, w * factor_n * n2
            xx += g0 * n0
            yy += g1 * n1
            zz += g2 * n2
            xy += g0 * n1
            xz += g0 * n2
            yz += g1 * n2
            p0, p1, p2 = d0 + u * n0 + v * m0, d1 + u * n1 + v * m1, d2 + u * n2 + v * m2
            f0, f1, f2 = w * p0, w * p1, w * p2
            fx += f0
            fy += f1
            fz += f2
            sxx += f0 * p0
            syy += f1 * p1
            szz += f2 * p2
            sxy += f0 * p1
            sxz += f0 * p2
            syz += f1 * p2
            trace = (other + own) * inverse
            trace_squares += w * (trace * trace - 2 * inverse)
        largest, winner = 0.0, UNMATCHED
        for k in range(found):
            if weight[k] > largest:
                largest, winner = weight[k], grid.order[index[k]]
            elif weight[k] == largest and largest > 0.0:
                winner = min(winner, grid.order[index[k]])
        total = math.exp(max(background[i] - base, -700.0)) + mass_i
        inverse_total = 1.0 / total
        mass[i], evidence[i] = mass_i * inverse_total, math.log(total) + base
        best[i], peak[i] = winner, largest * inverse_total
        share = inverse_a * inverse_total
        precision[0, i] = (mass_i + xx + own_sum * m0 * m0 + 2 * cross_x * m0) * share
        precision[1, i] = (mass_i + yy + own_sum * m1 * m1 + 2 * cross_y * m1) * share
        precision[2, i] = (mass_i + zz + own_sum * m2 * m2 + 2 * cross_z * m2) * share
        precision[3, i] = (xy + own_sum * m0 * m1 + cross_x * m1 + cross_y * m0) * share
        precision[4, i] = (xz + own_sum * m0 * m2 + cross_x * m2 + cross_z * m0) * share
        precision[5, i] = (yz + own_sum * m1 * m2 + cross_y * m2 + cross_z * m1) * share
        force[0, i], force[1, i], force[2, i] = fx * share, fy * share, fz * share
        trace_square[i] = ((dimension - 2) * mass_i * inverse_a * inverse_a + trace_squares) * inverse_total
        share *= inverse_a
        spread[0, i], spread[1, i], spread[2, i] = sxx * share, syy * share, szz * share
        spread[3, i], spread[4, i], spread[5, i] = sxy * share, sxz * share, syz * share
        pairs -= seen + PAIR * found + ROW_PAIRS
        if pairs <= 0:
            return i + 1
    return int(count)
