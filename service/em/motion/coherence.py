"""The prior of coherent motion: displacements v(p) of a cloud's points that vary smoothly over the cloud.

v is a Gaussian process whose kernel is that of motion coherence theory (Yuille and Grzywacz 1989; Myronenko and Song
2010, section 5),

    E v(p) v(p')ᵀ = g(p, p') / λ · I,   g(p, p') = exp(-‖p - p'‖² / 2β²)

The matrix G (N, N) of g has a numerical rank much smaller than N, unless β is much smaller than the cloud: G ≈ ΦΦᵀ with
K columns. They come from the pivoted Cholesky factorisation: the next pivot is the point whose variance is least
explained so far (Fine and Scheinberg 2001; a Nyström approximation whose landmarks are the pivots). It never stores G,
needs N·K numbers and N·K² operations, and gives the unexplained variance of each point. Eigenvectors would need fewer
columns, but their signs, and their bases for close eigenvalues, depend on the library. The prior is then v = Φ u with
u ~ N(0, I/λ), and the penalty of coherent point drift, tr(WᵀGW) with v = G W, is tr(uᵀu).

The loops are compiled here because a linear algebra library chooses its number of threads, and thereby the order of its
sums.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import slices
from ..jit import compiled
from ..kernel.truncated import exp_of
from ..slices import in_slices

Float64 = NDArray[np.float64]

# The share of a point's prior variance that may stay unexplained: a thousandth of the standard deviation.
LEFT_OUT = 1e-6
# The most columns. Finer motions are not represented.
MOST_COLUMNS = 300
# Products of a sum that take as long as a pair of an E-step.
PRODUCTS = 8


def features(points: Float64, width: float, among: int | None = None) -> Float64:
    """Φᵀ (K, N) of `points` (P, N) for a kernel of `width` β, in the unit of the points; 1 <= K <= MOST_COLUMNS.

    The pivots are among the first `among` points, all by default. The columns of these points have a squared norm from
    1 - LEFT_OUT to 1, unless K = MOST_COLUMNS. The other points' columns continue the same functions of position.
    """
    count = points.shape[1]
    among = count if among is None else among
    # K is usually small, so the array grows as the factorisation proceeds.
    most = min(MOST_COLUMNS, among)
    capacity = min(32, most)
    out = np.empty((capacity, count))
    left = np.ones(count)
    done = 0
    while True:
        done, settled = _factorize(points, 0.5 / width**2, LEFT_OUT, among, left, out, done, slices.SLICE_PAIRS)
        if settled or done == most:
            return np.ascontiguousarray(out[:done])
        slices.pause()
        if done < len(out):
            continue
        grown = np.empty((min(2 * len(out), most), count))
        grown[:done] = out
        out = grown


@compiled
def _factorize(
    points: Float64, precision: float, tolerance: float, among: int, left: Float64, out: Float64, done: int, pairs: int
) -> tuple[int, bool]:
    """Append rows to the first `done` rows of `out` until it is full or all of `left` is at most `tolerance`.

    `left` (N,) is the unexplained variance of each point. It also stops once it has done the work of about `pairs`
    pairs. Returns the number of rows, and whether all of `left` is at most `tolerance`.
    """
    rank, count = points.shape
    square = np.empty(count)
    for k in range(done, len(out)):
        pivot = 0
        for i in range(among):
            if left[i] > left[pivot]:
                pivot = i
        if k > 0 and left[pivot] <= tolerance:
            return k, True
        square[:] = 0.0
        for d in range(rank):
            at = points[d, pivot]
            for i in range(count):
                square[i] += (points[d, i] - at) ** 2
        row = out[k]
        for i in range(count):
            row[i] = exp_of(-square[i] * precision)
        for before in range(k):
            factor = out[before, pivot]
            for i in range(count):
                row[i] -= factor * out[before, i]
        root = np.sqrt(left[pivot])
        for i in range(count):
            row[i] /= root
            left[i] -= row[i] * row[i]
        left[pivot] = 0.0
        pairs -= count * (k // PRODUCTS + rank)
        if pairs <= 0:
            return k + 1, False
    return len(out), False


def motion(phi: Float64, coefficients: Float64, points: Float64) -> Float64:
    """p + v(p) (P, N) for `points` (P, N): `phi` is Φᵀ (K, N), `coefficients` u (K, P)."""
    out = points.copy()
    in_slices(points.shape[1], lambda first, pairs: _add_motion(phi, coefficients, out, first, pairs))
    return out


@compiled
def _add_motion(phi: Float64, coefficients: Float64, out: Float64, first: int, pairs: int) -> int:
    """Add v to the points `out` (P, N) from `first` on, as many as take the time of `pairs` pairs.

    Returns the next point.
    """
    last = min(first + max(PRODUCTS * pairs // max(phi.shape[0] * out.shape[0], 1), 1), out.shape[1])
    for d in range(out.shape[0]):
        for k in range(len(phi)):
            factor = coefficients[k, d]
            if factor != 0:
                for i in range(first, last):
                    out[d, i] += factor * phi[k, i]
    return int(last)


def normal_equations(phi: Float64, mass: Float64, pull: Float64, ridge: float) -> tuple[Float64, Float64]:
    """The lower half of Φᵀ diag(m) Φ + ridge I (K, K), and Φᵀ `pull`ᵀ (K, P).

    `phi` is Φᵀ (K, N), `mass` m (N,), and `pull` is (P, N).
    """
    rank, count = phi.shape
    matrix, right = np.zeros((rank, rank)), np.zeros((rank, pull.shape[0]))
    in_slices(count, lambda first, pairs: _add_products(phi, mass, pull, matrix, right, first, pairs))
    matrix[np.diag_indices(rank)] += ridge
    return matrix, right


@compiled
def _add_products(
    phi: Float64, mass: Float64, pull: Float64, matrix: Float64, right: Float64, first: int, pairs: int
) -> int:
    """Add the products of the points from `first` on to the lower half of `matrix` (K, K), and to `right` (K, P).

    It stops after a block of points once it has done the work of about `pairs` pairs. Returns the next point.
    """
    rank, count = phi.shape
    block = 512  # points whose numbers fit the fastest cache
    scaled = np.empty(block)
    for begin in range(first, count, block):
        size = min(block, count - begin)
        for k in range(rank):
            for i in range(size):
                scaled[i] = phi[k, begin + i] * mass[begin + i]
            last = k + 1 - (k + 1) % 4
            for m in range(0, last, 4):
                a, b, c, d = 0.0, 0.0, 0.0, 0.0
                for i in range(size):
                    t = scaled[i]
                    a += t * phi[m, begin + i]
                    b += t * phi[m + 1, begin + i]
                    c += t * phi[m + 2, begin + i]
                    d += t * phi[m + 3, begin + i]
                matrix[k, m] += a
                matrix[k, m + 1] += b
                matrix[k, m + 2] += c
                matrix[k, m + 3] += d
            for m in range(last, k + 1):
                a = 0.0
                for i in range(size):
                    a += scaled[i] * phi[m, begin + i]
                matrix[k, m] += a
            for axis in range(pull.shape[0]):
                a = 0.0
                for i in range(size):
                    a += phi[k, begin + i] * pull[axis, begin + i]
                right[k, axis] += a
        pairs -= size * rank * (rank // 2 + pull.shape[0]) // PRODUCTS
        if pairs <= 0:
            return int(begin + size)
    return int(count)


@compiled
def solved(matrix: Float64, right: Float64, ridge: float) -> Float64:
    """The solution (K, P) for `right` (K, P). The lower half of `matrix` (K, K) becomes its Cholesky factor.

    In exact arithmetic no pivot is below `ridge`. A pivot that is smaller by rounding is raised to it.
    """
    rank = len(matrix)
    for k in range(rank):
        least = max(ridge, 1e-15 * matrix[k, k])
        for m in range(k):
            total = matrix[k, m]
            for i in range(m):
                total -= matrix[k, i] * matrix[m, i]
            matrix[k, m] = total / matrix[m, m]
        total = matrix[k, k]
        for i in range(k):
            total -= matrix[k, i] * matrix[k, i]
        matrix[k, k] = np.sqrt(max(total, least))
    out = right.copy()
    for d in range(right.shape[1]):
        for k in range(rank):
            for i in range(k):
                out[k, d] -= matrix[k, i] * out[i, d]
            out[k, d] /= matrix[k, k]
        for k in range(rank - 1, -1, -1):
            out[k, d] /= matrix[k, k]
            for i in range(k):
                out[i, d] -= matrix[k, i] * out[k, d]
    return out


@compiled
def determined(factor: Float64, ridge: float) -> tuple[float, float]:
    """log det(I + B / ridge) and K - ridge tr((B + ridge I)^-1), for B = Φᵀ diag(m) Φ and the factor of B + ridge I.

    The second is the number of the K coefficients of one coordinate that the data determine.
    """
    rank = len(factor)
    log_det, free = 0.0, float(rank)
    column = np.empty(rank)
    for k in range(rank):
        log_det += 2 * np.log(factor[k, k]) - np.log(ridge)
        for i in range(k, rank):
            total = 1.0 if i == k else 0.0
            for m in range(k, i):
                total -= factor[i, m] * column[m]
            column[i] = total / factor[i, i]
            free -= ridge * column[i] ** 2
    return log_det, max(free, 0.0)
