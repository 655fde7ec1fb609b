"""The literal model for any transform and any size: prior Π ← R, no annealing, no acceleration.

As in `batched.recursion`, the prior accumulates from Π(0) = 1/M: R(t) = softmax_j(-Σ_{s<=t} w_s ‖A_s p_i + T_s - q_j‖²)
with w_s = 1/(2σ_s²). For affine maps too, the sum of squares is one square about the weighted mean map (Ā, T̄), plus
Σ_s w_s ‖(A_s - Ā) p_i + T_s - T̄‖², which is the same for all j. So one E-step over neighbours, at the mean map and the
total weight, gives R(t), whatever N and M are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..coordinates import Frame
from ..kernel.cells import Cells, cells
from ..kernel.expectation import expect
from ..kernel.fitting import Sums, fit, mean_square_step, move, residual_after, sums_of_rows
from ..kernel.truncated import EStep, empty_e_step
from ..loop import Ending, iterate
from ..model import EXACT, NONE, Parameters, log_root

Float64 = NDArray[np.float64]


class LiteralEnd(NamedTuple):
    """The end of the recursion."""

    parameters: Parameters
    found: EStep  # of the last E-step
    moved: Float64  # (P, N) the source under the mean map, which gives R
    weight: float  # Σ_s w_s
    after: Float64  # (P, N) `moved` of one more E-step, at the returned parameters
    after_weight: float  # and its `weight`
    log_likelihood: float  # observed-data, at the returned Π, T, σ
    iterations: int
    converged: bool


class _Average(NamedTuple):
    """Weighted mean of the maps (D, D + 1), the total weight, and the scatter (D + 1, D + 1) about the mean."""

    mean: Float64
    weight: float
    scatter: Float64

    def include(self, transform: Float64, weight: float) -> _Average:
        """The average with one more map, `transform` (D, D + 1), by Welford's update."""
        total = self.weight + weight
        step = transform - self.mean
        share = weight / total
        scatter = self.scatter + self.weight * share * (step.T @ step)
        return _Average(self.mean + share * step, total, scatter)


class _State(NamedTuple):
    """The state of the recursion after an M-step."""

    before: Parameters  # of the E-step that it was computed from
    after: Parameters
    average: _Average  # of all maps up to `before`
    within: Float64  # (D + 1, D + 1) Σ r p̃ p̃ᵀ
    evidence: float  # S of the E-step
    log_likelihood: float  # at `before`, with Π as it is there; undefined for the first step


class _Recursion:
    """The `loop.Loop` of the recursion."""

    def __init__(
        self, points: Frame, kind: int, start: Parameters, *, estimate_sigma: bool, tolerance: float, floor: float
    ) -> None:
        self._points, self._kind, self._start = points, kind, start
        self._estimate_sigma, self._tolerance, self._floor = estimate_sigma, tolerance, floor
        self._mean_step = _MeanStep(points)

    def init(self) -> _State:
        """The even prior, with an average of no maps."""
        D = self._points.dimension
        none = _Average(self._start.transform, 0.0, np.zeros((D + 1, D + 1)))
        return _State(self._start, self._start, none, none.scatter, 0.0, 0.0)

    def step(self, state: _State) -> _State:
        """One E-step, Π ← R, and the M-step."""
        at, D = state.after, self._points.dimension
        average = state.average.include(at.transform, 0.5 / at.sigma**2)
        sums, evidence = self._mean_step(average)
        transform = fit(self._kind, at.transform, sums)
        sigma = at.sigma
        if self._estimate_sigma:
            residual = residual_after(sums, average.mean, transform)
            sigma = max(math.sqrt(residual / (float(sums.within[D, D]) * D)), self._floor)
        likelihood = self._log_likelihood(evidence, state.evidence, at)
        return _State(at, Parameters(transform, sigma), average, sums.within, evidence, likelihood)

    def converged(self, state: _State) -> bool:
        """Whether the points, root mean square, and σ moved by less than the tolerance times σ."""
        before, after = state.before, state.after
        step = math.sqrt(mean_square_step(state.within, before.transform, after.transform))
        bound = self._tolerance * after.sigma
        return step < bound and abs(after.sigma - before.sigma) < bound

    def outcome(self, state: _State, ending: Ending) -> LiteralEnd:
        """The last responsibilities, and the log-likelihood by one more E-step."""
        at, mean_step = state.after, self._mean_step
        found, moved = mean_step.kept()
        following = state.average.include(at.transform, 0.5 / at.sigma**2)
        _, evidence = mean_step(following)
        return LiteralEnd(
            at,
            found,
            moved,
            state.average.weight,
            mean_step.moved,
            following.weight,
            self._log_likelihood(evidence, state.evidence, at),
            ending.iterations,
            ending.converged,
        )

    def _log_likelihood(self, evidence: float, before: float, at: Parameters) -> float:
        """ℓ at Π = R(t), from S of the E-step at `at` and of the one before."""
        n = int(self._points.source.shape[1])
        return evidence - before - n * self._points.dimension * log_root(at.sigma)


def recur(
    points: Frame,
    kind: int,
    start: Parameters,
    *,
    estimate_sigma: bool,
    tolerance: float,
    max_iterations: int,
    floor: float,
    accept: Callable[[Parameters, float], bool],
) -> LiteralEnd:
    """Run the recursion from `start` until a step moves the points and σ by less than `tolerance` times σ.

    `accept` receives the parameters of every E-step, and the log-likelihood there with the present Π. For the first
    step, whose Π is uniform, that number is undefined. `accept` ends the iteration by returning False.
    Log-likelihoods are normalised with σ^-D.
    """
    loop = _Recursion(points, kind, start, estimate_sigma=estimate_sigma, tolerance=tolerance, floor=floor)
    return iterate(loop, max_iterations=max_iterations, accept=lambda state: accept(state.before, state.log_likelihood))


class _MeanStep:
    """E-steps at mean maps: the sums, and S = Σ_i log Σ_j exp(-Σ_s w_s ‖A_s p_i + T_s - q_j‖²)."""

    def __init__(self, points: Frame) -> None:
        self._points = points
        self.moved = np.zeros_like(points.source)
        self._found = empty_e_step(len(points.source), points.source.shape[1])
        homogeneous = np.vstack([points.source[: points.dimension], np.ones(points.source.shape[1])])
        self._gram = homogeneous @ homogeneous.T
        self._grid: Cells | None = None
        self._side = 0.0

    def __call__(self, average: _Average) -> tuple[Sums, float]:
        wanted = math.sqrt(EXACT / average.weight)
        if self._grid is None or not 0.5 < wanted / self._side < 2:
            self._grid, self._side = cells(self._points.target, wanted), wanted
        grid, source = self._grid, self._points.source
        move(average.mean, source, self.moved)
        expect(self.moved, grid, NONE, grid.points, average.weight, 0.0, EXACT, self._found, NONE)
        sums = sums_of_rows(source, self._points.dimension, self._found)
        return sums, float(sums.evidence) - float((average.scatter * self._gram).sum())

    def kept(self) -> tuple[EStep, Float64]:
        """Copies of the last E-step and its moved points (P, N), which the next E-step does not overwrite."""
        mass, weighted_target, residual, evidence, best, peak = self._found
        rows_ = EStep(mass.copy(), weighted_target.copy(), residual.copy(), evidence.copy(), best.copy(), peak.copy())
        return rows_, self.moved.copy()
