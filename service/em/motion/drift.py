"""Coherent point drift: EM for a smooth motion of a cloud, under a given prior of the motion.

Each target point q_j is drawn from one of the moved source points x_i = p_i + v(p_i), or is an outlier (Myronenko and
Song 2010, eq. 1):

    p(q_j) = (1 - w) (1/N) Σ_i N(q_j; x_i, σ² I) + w / V

and v has the prior of `coherence`: v = Φ u, u ~ N(0, I/λ). EM climbs the penalised log-likelihood

    L(u, σ, w) = Σ_j log p(q_j) - λ/2 tr(uᵀu)

The E-step gives r_ij, the probability that q_j was drawn from x_i. With m_i = Σ_j r_ij and s_i = Σ_j r_ij q_j the
M-step is, in the order in which it is taken,

    (Φᵀ diag(m) Φ + λσ² I) u = Φᵀ (s - diag(m) p)
    σ² = Σ_ij r_ij ‖x_i - q_j‖² / (D Σ_i m_i)
    w  = 1 - Σ_i m_i / M

the first being (diag(m) G + λσ² I) W = s - diag(m) p of their figure 4 in terms of u = ΦᵀW. Each line maximises Q in
its own unknown given the others, so that L never decreases (expectation conditional maximisation, Meng and Rubin 1993).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.cells import Cells, cells
from ..kernel.truncated import UNMATCHED, EStep, empty_e_step, weigh
from ..loop import Ending, iterate
from ..model import LEAST_OUTLIERS, MOST_OUTLIERS, NONE, log_of_volume, log_root
from ..slices import in_slices
from .coherence import determined, motion, normal_equations, solved

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Accept = Callable[[float, float], bool]


class DriftClouds(NamedTuple):
    """The data and limits of one problem, in one unit of length."""

    source: Float64  # (P, N) p_i, after the global transform
    target: Float64  # (P, M) q_j
    dimension: int  # D <= P; the other coordinates are zero
    volume: float  # V
    floor: float  # the least σ
    cutoff: float  # of the kernel; see `truncated`


class Prior(NamedTuple):
    """The prior of the motion."""

    features: Float64  # (K, N) Φᵀ
    stiffness: float  # λ, one over the variance of a point's displacement in each coordinate


class DriftState(NamedTuple):
    """The estimates."""

    moved: Float64  # (P, N) x_i
    sigma: float
    outliers: float  # w


class DriftEStep(NamedTuple):
    """An E-step: the probabilities that each target point was drawn from each source point."""

    of_targets: EStep  # of the target's points: `best` is the source point it was most probably drawn from
    mass: Float64  # (N,) m_i = Σ_j r_ij
    weighted_target: Float64  # (P, N) s_i = Σ_j r_ij q_j
    best: Int64  # (N,) argmax_j r_ij, the first among equals; UNMATCHED if none is in reach
    peak: Float64  # (N,) max_j r_ij


class Drift(NamedTuple):
    """The end of the iteration."""

    state: DriftState
    coefficients: Float64  # (K, P) u
    e_step: DriftEStep  # the E-step at that state
    log_likelihood: float  # Σ_j log p(q_j) there
    penalty: float  # λ/2 tr(uᵀu) there
    evidence: float  # see `climb`
    free: float  # number of the K·D coefficients that the data determine, γ (MacKay 1992)
    iterations: int
    converged: bool
    stopped: bool  # by `accept`
    history: list[tuple[float, float]]  # penalised log-likelihood and σ at each E-step


class Progress(NamedTuple):
    """The state of the iteration: after an M-step, at its E-step."""

    before: DriftState  # the state of the E-step that the M-step was computed from
    at: DriftState
    e_step: DriftEStep  # at `at`
    residual: float  # Σ_ij r_ij ‖x_i - q_j‖² there
    log_likelihood: float  # there
    coefficients: Float64 = NONE  # (K, P) u; empty before the first M-step
    penalty: float = 0.0  # λ/2 tr(uᵀu)
    factor: Float64 = NONE  # (K, K) the Cholesky factor of the equations for u
    ridge: float = 0.0  # λσ²


class _Drifting:
    """The `loop.Loop` of coherent point drift."""

    def __init__(
        self,
        scene: DriftClouds,
        prior: Prior,
        start: DriftState,
        *,
        tolerance: float,
        estimate_sigma: bool,
        estimate_outliers: bool,
    ) -> None:
        self._scene, self._prior, self._start, self._tolerance = scene, prior, start, tolerance
        self._estimate_sigma, self._estimate_outliers = estimate_sigma, estimate_outliers
        self._history: list[tuple[float, float]] = []

    def init(self) -> Progress:
        """The E-step at the start."""
        return Progress(self._start, self._start, *_expect(self._scene, self._start))

    def step(self, state: Progress) -> Progress:
        """An M-step and the E-step after it."""
        scene, prior, at = self._scene, self._prior, state.at
        moved, coefficients, factor, ridge = _move(scene, prior, state.e_step, at.sigma)
        after = _noise(scene, at, state.e_step, state.residual, moved, self._estimate_sigma, self._estimate_outliers)
        e_step, residual, likelihood = _expect(scene, after)
        penalty = 0.5 * prior.stiffness * float((coefficients**2).sum())
        self._history.append((likelihood - penalty, after.sigma))
        return Progress(at, after, e_step, residual, likelihood, coefficients, penalty, factor, ridge)

    def converged(self, state: Progress) -> bool:
        """Whether the points, root mean square, and σ moved by less than the tolerance times σ."""
        before, at = state.before, state.at
        step = math.sqrt(float(((at.moved - before.moved) ** 2).sum(0).mean()))
        return max(step, abs(at.sigma - before.sigma)) < self._tolerance * at.sigma

    def outcome(self, state: Progress, ending: Ending) -> Drift:
        """The motion and its evidence."""
        log_det, free = determined(state.factor, state.ridge)
        evidence = state.log_likelihood - state.penalty - 0.5 * self._scene.dimension * log_det
        return Drift(
            state.at,
            state.coefficients,
            state.e_step,
            state.log_likelihood,
            state.penalty,
            evidence,
            free * self._scene.dimension,
            ending.iterations,
            ending.converged,
            ending.stopped,
            self._history,
        )


def climb(
    scene: DriftClouds,
    prior: Prior,
    start: DriftState,
    *,
    tolerance: float,
    max_iterations: int,
    estimate_sigma: bool = True,
    estimate_outliers: bool = True,
    accept: Accept = lambda _log_likelihood, _sigma: True,
) -> Drift:
    """Iterate from `start` until a step moves the points, root mean square, and σ by less than `tolerance` times σ.

    The points of `start` may be anywhere: the first M-step moves them to a smooth motion. `accept` receives the
    log-likelihood and σ of each E-step but the first, and ends the iteration by returning False. It may raise.

    `evidence` is the log-likelihood with u integrated out, in Laplace's approximation with the curvature of Q:
    L - D/2 log det(I + Φᵀ diag(m) Φ / λσ²). Unlike L it can be compared between priors (MacKay 1992).
    """
    loop = _Drifting(
        scene,
        prior,
        start,
        tolerance=tolerance,
        estimate_sigma=estimate_sigma,
        estimate_outliers=estimate_outliers,
    )
    return iterate(
        loop, max_iterations=max_iterations, accept=lambda state: accept(state.log_likelihood, state.at.sigma)
    )


def _expect(scene: DriftClouds, state: DriftState) -> tuple[DriftEStep, float, float]:
    """The E-step, Σ_ij r_ij ‖x_i - q_j‖², and the log-likelihood."""
    P, n = scene.source.shape
    m, D, w, cutoff = scene.target.shape[1], scene.dimension, state.outliers, scene.cutoff
    gauss = D * log_root(state.sigma)
    bin_weight = n * w / (1 - w) * math.exp(min(gauss - log_of_volume(scene.volume), 700.0))
    grid = cells(np.ascontiguousarray(state.moved), state.sigma * math.sqrt(2 * cutoff))
    e_step = DriftEStep(empty_e_step(P, m), np.zeros(n), np.zeros((P, n)), np.full(n, UNMATCHED), np.zeros(n))
    arguments = scene.target, grid, 0.5 / state.sigma**2, bin_weight, cutoff, *e_step
    in_slices(m, lambda first, pairs: _gather(*arguments, first, pairs))
    likelihood = float(e_step.of_targets.evidence.sum()) + m * (math.log((1 - w) / n) - gauss)
    return e_step, float(e_step.of_targets.residual.sum()), likelihood


def _move(
    scene: DriftClouds, prior: Prior, e_step: DriftEStep, sigma: float
) -> tuple[Float64, Float64, Float64, float]:
    """The moved points, u (K, P), the Cholesky factor of the equations for u (K, K), and λσ²."""
    phi, ridge = prior.features, prior.stiffness * sigma**2
    matrix, right = normal_equations(phi, e_step.mass, e_step.weighted_target - e_step.mass * scene.source, ridge)
    coefficients = solved(matrix, right, ridge)
    return motion(phi, coefficients, scene.source), coefficients, matrix, ridge


def _noise(
    scene: DriftClouds,
    before: DriftState,
    e_step: DriftEStep,
    residual: float,
    moved: Float64,
    sigma: bool,
    outliers: bool,
) -> DriftState:
    """The state at `moved`, with σ and w re-estimated if asked."""
    total = float(e_step.mass.sum())
    out = before._replace(moved=moved)
    if sigma and total > 0:
        # The change of the residual is added to the residual before the step: a difference in which little cancels.
        gained = (moved - before.moved) * (e_step.mass * (moved + before.moved) - 2 * e_step.weighted_target)
        square = max(residual + float(gained.sum()), 0.0) / (total * scene.dimension)
        out = out._replace(sigma=max(math.sqrt(square), scene.floor))
    if outliers:
        share = 1 - total / scene.target.shape[1]
        out = out._replace(outliers=min(max(share, LEAST_OUTLIERS), MOST_OUTLIERS))
    return out


@compiled
def _gather(
    target: Float64,
    grid: Cells,
    precision: float,
    bin_weight: float,
    cutoff: float,
    found: EStep,
    mass: Float64,
    sums: Float64,
    best: Int64,
    peak: Float64,
    first: int,
    pairs: int,
) -> int:
    """The E-step of `target` (P, M) against the moved source in `grid`, added up for either cloud's points.

    It begins with the target `first`, and stops once it has visited about `pairs` pairs. Returns the next target.
    """
    size, rank = grid.points.shape[1], target.shape[0]
    index = np.empty(size, np.int32)
    distance, weight = np.empty(size), np.empty(size)
    for j in range(first, target.shape[1]):
        count, evidence, largest, work = weigh(
            target, j, grid, NONE, precision, bin_weight, cutoff, index, distance, weight
        )
        total, residual = 0.0, 0.0
        likeliest = UNMATCHED
        found.weighted_target[:, j] = 0.0
        for k in range(count):
            i, r = grid.order[index[k]], weight[k]
            total += r
            residual += r * distance[k]
            mass[i] += r
            for d in range(rank):
                sums[d, i] += r * target[d, j]
                found.weighted_target[d, j] += r * grid.points[d, index[k]]
            if r > peak[i]:
                peak[i], best[i] = r, j
            if r == largest and (likeliest == UNMATCHED or i < likeliest):
                likeliest = i
        found.mass[j], found.residual[j], found.evidence[j] = total, residual, evidence
        found.best[j], found.peak[j] = likeliest, largest
        pairs -= work + 2 * count
        if pairs <= 0:
            return j + 1
    return int(target.shape[1])
