"""The observed information of a transform's parameters and log σ: how well the data determine them.

With ℓ_i = log(Σ_j exp(-c_ij) + β) the evidence of one point x, v_j = y_j - x and u_j = ‖v_j‖²/σ² - D, and ⟨·⟩ the sum
weighted by r_ij (Louis 1982):

    ∂ℓ/∂x = ⟨v⟩/σ²        -∂²ℓ/∂x² = ⟨1⟩ I/σ² - (⟨v vᵀ⟩ - ⟨v⟩⟨v⟩ᵀ)/σ⁴
    -∂²ℓ/∂x∂log σ = 2⟨v⟩/σ² - (⟨v u⟩ - ⟨v⟩⟨u⟩)/σ²
    -∂²ℓ/∂(log σ)² = 2⟨‖v‖²⟩/σ² - (⟨u²⟩ - ⟨u⟩²)

The subtracted term is the spread of the matching. A certain matching has the information of known pairs; an ambiguous
one has less, down to none. A transform's parameters θ move x, the moved point, by the generators, B_k x, and by the
translation. A rotation's second derivative adds -∂ℓ/∂x · ½(B_k B_l + B_l B_k) x.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.cells import Cells
from ..kernel.truncated import weigh
from ..kinds import MAPS
from ..model import NO_INDICES, NONE
from ..slices import blocks, in_slices

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Points that are processed together, so that their numbers stay in the cache.
BLOCK = 64


@cache
def generators(kind: int, dimension: int) -> Float64:
    """The matrices B_k (K, D, D) by which a transform of this kind may change: x → x + Σ_k θ_k B_k x.

    A rotation has one for each pair of axes, in three dimensions ordered as the axis-angle vector; a similarity has
    the identity besides, for log s; an affine transform has all D².
    """
    allowed = MAPS[kind]
    if not allowed.fits_linear:
        return _fixed(np.zeros((0, dimension, dimension)))
    if allowed.shears:
        return _fixed(np.eye(dimension * dimension).reshape(-1, dimension, dimension))
    planes = [(1, 2), (2, 0), (0, 1)] if dimension == 3 else [(a, b) for b in range(dimension) for a in range(b)]
    out = np.zeros((len(planes), dimension, dimension))
    for matrix, (a, b) in zip(out, planes, strict=True):
        matrix[a, b], matrix[b, a] = -1, 1
    return _fixed(np.concatenate([out, np.eye(dimension)[None]]) if allowed.scales else out)


def _fixed(matrices: Float64) -> Float64:
    matrices.flags.writeable = False
    return matrices


class Moments(NamedTuple):
    """The moments of the matching of each of N points x, with v = y - x and u = ‖v‖²/σ² - D; see the module."""

    mass: Float64  # (N,) ⟨1⟩
    mean: Float64  # (D, N) ⟨v⟩
    second: Float64  # (D, D, N) ⟨v vᵀ⟩
    once: Float64  # (N,) ⟨u⟩
    square: Float64  # (N,) ⟨u²⟩
    skew: Float64  # (D, N) ⟨v u⟩
    evidence: Float64  # (N,) log z


def moments(dimension: int, count: int) -> Moments:
    """Uninitialised arrays for the moments of `count` points."""
    D = dimension
    return Moments(
        np.empty(count),
        np.empty((D, count)),
        np.empty((D, D, count)),
        np.empty(count),
        np.empty(count),
        np.empty((D, count)),
        np.empty(count),
    )


def measure(
    moved: Float64, grid: Cells, offset: Float64, precision: float, bin_weight: float, cutoff: float, out: Moments
) -> None:
    """The moments of `moved` (P, N) against the targets in `grid`; arguments as in `expectation.expect`."""
    arguments = moved, grid, offset, precision, bin_weight, cutoff, out
    in_slices(moved.shape[1], lambda first, pairs: _measure_rows(*arguments, first, pairs))


@compiled
def _measure_rows(
    moved: Float64,
    grid: Cells,
    offset: Float64,
    precision: float,
    bin_weight: float,
    cutoff: float,
    out: Moments,
    first: int,
    pairs: int,
) -> int:
    """`measure` of the rows from `first` on, until about `pairs` pairs are visited. Returns the next row."""
    size, dimension = grid.points.shape[1], out.mean.shape[0]
    index = np.empty(size, np.int32)
    distance, weight = np.empty(size), np.empty(size)
    for i in range(first, moved.shape[1]):
        found, out.evidence[i], _, work = weigh(
            moved, i, grid, offset, precision, bin_weight, cutoff, index, distance, weight
        )
        mass, once, square = 0.0, 0.0, 0.0
        for k in range(found):
            u = 2 * precision * distance[k] - dimension
            mass += weight[k]
            once += weight[k] * u
            square += weight[k] * u * u
        out.mass[i], out.once[i], out.square[i] = mass, once, square
        for d in range(dimension):
            mean, cubic = 0.0, 0.0
            for k in range(found):
                v = weight[k] * (grid.points[d, index[k]] - moved[d, i])
                mean += v
                cubic += v * (2 * precision * distance[k] - dimension)
            out.mean[d, i], out.skew[d, i] = mean, cubic
            for e in range(d + 1):
                moment = 0.0
                for k in range(found):
                    j = index[k]
                    moment += weight[k] * (grid.points[d, j] - moved[d, i]) * (grid.points[e, j] - moved[e, i])
                out.second[d, e, i] = out.second[e, d, i] = moment
        pairs -= work + found * dimension
        if pairs <= 0:
            return i + 1
    return int(moved.shape[1])


def fill(out: Moments, moved: Float64, target: Float64, responsibilities: Float64, sigma: float) -> None:
    """Fill all moments but the evidence, from R itself (N, M)."""
    dimension = len(out.mean)
    # A row has D² products for each pair.
    for some in blocks(len(responsibilities), dimension**2 * target.shape[1]):
        r = responsibilities[some]
        v = target[:dimension, None, :] - moved[:dimension, some, None]
        u = (v**2).sum(0) / sigma**2 - dimension
        out.mass[some] = r.sum(1)
        out.mean[:, some] = (v * r).sum(-1)
        out.second[:, :, some] = np.einsum("dnm,enm,nm->den", v, v, r)
        out.once[some], out.square[some] = (u * r).sum(1), (u * u * r).sum(1)
        out.skew[:, some] = (v * (u * r)).sum(-1)


def information(kind: int, moved: Float64, found: Moments, sigma: float) -> Float64:
    """The observed information (K + D + 1, K + D + 1) of θ, translation and log σ at the points `moved` (P, N)."""
    basis = generators(kind, len(found.mean))
    return _combined(moved, found, sigma, basis, MAPS[kind].rotates)


@compiled
def _combined(moved: Float64, found: Moments, sigma: float, basis: Float64, curved: bool) -> Float64:
    dimension, extra, count = found.mean.shape[0], basis.shape[0], moved.shape[1]
    total = extra + dimension + 1
    out = np.zeros((total, total))
    precision = 1 / sigma**2
    # A block of points at a time: the innermost loops run over points, and their data stays in the cache.
    motion, pulled = np.zeros((dimension, total - 1, BLOCK)), np.empty((dimension, BLOCK))
    pull, cross = np.empty((dimension, extra, BLOCK)), np.empty((dimension, BLOCK))
    weight = np.empty((dimension, dimension, BLOCK))
    for d in range(dimension):
        motion[d, extra + d] = 1
    for begin in range(0, count, BLOCK):
        size = min(BLOCK, count - begin)
        x, mean = moved[:, begin : begin + size], found.mean[:, begin : begin + size]
        second, skew = found.second[:, :, begin : begin + size], found.skew[:, begin : begin + size]
        mass, once = found.mass[begin : begin + size], found.once[begin : begin + size]
        square = found.square[begin : begin + size]
        for d in range(dimension):
            for i in range(size):
                cross[d, i] = 2 * mean[d, i] - skew[d, i] + mean[d, i] * once[i]
            for e in range(dimension):
                for i in range(size):
                    weight[d, e, i] = (mean[d, i] * mean[e, i] - second[d, e, i]) * precision**2
            for i in range(size):
                weight[d, d, i] += mass[i] * precision
            for k in range(extra):
                motion[d, k], pull[d, k] = 0, 0
                for e in range(dimension):
                    along, back = basis[k, d, e], basis[k, e, d] * precision
                    for i in range(size):
                        motion[d, k, i] += along * x[e, i]
                        pull[d, k, i] += back * mean[e, i]
        for a in range(total - 1):
            gain = 0.0
            for d in range(dimension):
                pulled[d] = 0
                for e in range(dimension):
                    for i in range(size):
                        pulled[d, i] += motion[e, a, i] * weight[e, d, i]
                for i in range(size):
                    gain += motion[d, a, i] * cross[d, i]
            out[total - 1, a] += gain * precision
            for b in range(a + 1):
                gain = 0.0
                for d in range(dimension):
                    for i in range(size):
                        gain += pulled[d, i] * motion[d, b, i]
                if curved and a < extra:
                    for d in range(dimension):
                        for i in range(size):
                            gain -= (pull[d, a, i] * motion[d, b, i] + pull[d, b, i] * motion[d, a, i]) / 2
                out[a, b] += gain
        for i in range(size):
            out[total - 1, total - 1] += 2 * (once[i] + dimension * mass[i]) - square[i] + once[i] ** 2
    for a in range(total):
        for b in range(a):
            out[b, a] = out[a, b]
    return out


class Terms(NamedTuple):
    """What the terms of M data points have beside those of their E-step. Empty arrays change nothing."""

    importance: Float64 = NONE  # (M,) α, a factor
    partner: Int64 = NO_INDICES  # (M,) the known component, by its place in the grid
    rate: Float64 = NONE  # (M,) what r of all components is multiplied by, before
    gain: Float64 = NONE  # (M,) what is added to r of the partner


def information_of_columns(
    target: Float64,
    grid: Cells,
    offset: Float64,
    sigma: float,
    bin_weight: float,
    cutoff: float,
    basis: Float64,
    curved: bool,
    terms: Terms | None = None,
) -> tuple[Float64, float]:
    """The information if each of `target` (P, M) is drawn from the moved sources in `grid`; and Σ_j log z_j.

    With s_ij = J_iᵀ (q_j - x_i)/σ², J_i the motion of x_i, the information is
    Σ_j ⟨J_iᵀ J_i⟩/σ² - (⟨s sᵀ⟩ - ⟨s⟩⟨s⟩ᵀ), and σ's as for rows.
    """
    total = basis.shape[0] + basis.shape[1] + 1
    out, evidence = np.zeros((total, total)), np.zeros(1)
    arguments = target, grid, offset, sigma, bin_weight, cutoff, basis, curved, terms or Terms(), out, evidence
    in_slices(target.shape[1], lambda first, pairs: _add_columns(*arguments, first, pairs))
    above = np.triu_indices(total, 1)
    out[above] = out.T[above]
    return out, float(evidence[0])


@compiled
def _add_columns(
    target: Float64,
    grid: Cells,
    offset: Float64,
    sigma: float,
    bin_weight: float,
    cutoff: float,
    basis: Float64,
    curved: bool,
    terms: Terms,
    out: Float64,
    evidence: Float64,
    first: int,
    pairs: int,
) -> int:
    """Add the terms of the targets from `first` on to the lower half of `out`, and to `evidence` (1,).

    It stops once it has visited about `pairs` pairs. Returns the next target.
    """
    dimension, extra = basis.shape[1], basis.shape[0]
    total = extra + dimension + 1
    size = grid.points.shape[1] + 1  # a known pair is one more
    index = np.empty(size, np.int32)
    distance, weight = np.empty(size), np.empty(size)
    precision = 0.5 / sigma**2
    motion = np.zeros((dimension, total - 1))
    pull = np.empty((extra, dimension))
    slope, mean = np.empty(total), np.empty(total)
    for d in range(dimension):
        motion[d, extra + d] = 1
    for j in range(first, target.shape[1]):
        found, log_z, _, work = weigh(target, j, grid, offset, precision, bin_weight, cutoff, index, distance, weight)
        alpha = terms.importance[j] if len(terms.importance) > 0 else 1.0
        evidence[0] += alpha * log_z
        mean[:] = 0
        if len(terms.partner) > 0:
            square = 0.0
            for d in range(dimension):
                square += (target[d, j] - grid.points[d, terms.partner[j]]) ** 2
            for k in range(found):
                weight[k] *= terms.rate[j]
            index[found], distance[found], weight[found] = terms.partner[j], square, terms.gain[j]
            found += 1
        for k in range(found):
            i = index[k]
            r = weight[k]
            for a in range(extra):
                for d in range(dimension):
                    step, force = 0.0, 0.0
                    for e in range(dimension):
                        step += basis[a, d, e] * grid.points[e, i]
                        force += basis[a, e, d] * (target[e, j] - grid.points[e, i])
                    motion[d, a] = step
                    pull[a, d] = force / sigma**2
            for a in range(total - 1):
                slope[a] = 0.0
                for d in range(dimension):
                    slope[a] += motion[d, a] * (target[d, j] - grid.points[d, i]) / sigma**2
            u = 2 * precision * distance[k] - dimension
            slope[total - 1] = u
            for a in range(total):
                mean[a] += r * slope[a]
            r *= alpha
            for a in range(total):
                for b in range(a + 1):
                    out[a, b] -= r * slope[a] * slope[b]
            for a in range(total - 1):
                out[total - 1, a] += 2 * r * slope[a]
                for b in range(a + 1):
                    gain = 0.0
                    for d in range(dimension):
                        gain += motion[d, a] * motion[d, b] / sigma**2
                    if curved and a < extra:
                        for d in range(dimension):
                            gain -= (pull[a, d] * motion[d, b] + pull[b, d] * motion[d, a]) / 2
                    out[a, b] += r * gain
            out[total - 1, total - 1] += 2 * r * (u + dimension)
        for a in range(total):
            for b in range(a + 1):
                out[a, b] += alpha * mean[a] * mean[b]
        pairs -= work + found * total * total // 3
        if pairs <= 0:
            return j + 1
    return int(target.shape[1])
