"""The literal model for any transform and any size: prior Π ← R, no annealing, no acceleration.

As in `recursion`, from Π(0) = 1/M the prior accumulates: R(t) = softmax_j(-Σ_{s<=t} w_s ‖A_s p_i + T_s - q_j‖²) with
w_s = 1/(2σ_s²). For affine maps too the sum of squares is one square about the weighted mean map (Ā, T̄), and what is
left, Σ_s w_s ‖(A_s - Ā) p_i + T_s - T̄‖², is the same for all j. So one E-step at the mean map and the total weight
gives R(t), over the neighbours that count, whatever N and M are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..coordinates import Frame
from ..kernel.cells import Cells, cells
from ..kernel.fitting import Sums, fit, mean_square_step, move, residual_after, sums_of_rows
from ..kernel.truncated import EStep, empty_e_step, expect
from ..model import EXACT, NONE, Parameters, log_root

Float64 = NDArray[np.float64]


class Literal(NamedTuple):
    """Where the recursion ended."""

    parameters: Parameters
    found: EStep  # of the last E-step
    moved: Float64  # (P, N) the source under the mean map, which R belongs to
    weight: float  # Σ_s w_s
    after: Float64  # (P, N) and
    after_weight: float  # the same of one more E-step, at the returned parameters
    log_likelihood: float  # observed-data, at the returned Π, T, σ
    iterations: int
    converged: bool


class _Average(NamedTuple):
    """Weighted mean of the maps (D, D + 1), the total weight, and the scatter (D + 1, D + 1) about the mean."""

    mean: Float64
    weight: float
    scatter: Float64

    def include(self, transform: Float64, weight: float) -> _Average:
        """With one more map, by Welford's update."""
        total = self.weight + weight
        step = transform - self.mean
        share = weight / total
        scatter = self.scatter + self.weight * share * (step.T @ step)
        return _Average(self.mean + share * step, total, scatter)


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
) -> Literal:
    """The recursion from `start`.

    `accept` is told where every E-step is taken, and the log-likelihood there with Π as it is; of the first step, whose
    Π is even, only where. It ends the iteration by returning False. Log-likelihoods are normalised with σ^-D.
    """
    D, n = points.dimension, points.source.shape[1]
    look = _Look(points)
    average = _Average(start.transform, 0.0, np.zeros((D + 1, D + 1)))
    here, before, iteration = start, 0.0, 0
    while True:
        iteration += 1
        average = average.include(here.transform, 0.5 / here.sigma**2)
        sums, evidence = look(average)
        value = evidence - before - n * D * log_root(here.sigma)
        before = evidence
        transform = fit(kind, here.transform, sums)
        sigma = here.sigma
        if estimate_sigma:
            residual = residual_after(sums, average.mean, transform)
            sigma = max(math.sqrt(residual / (float(sums.within[D, D]) * D)), floor)
        step = math.sqrt(mean_square_step(sums.within, here.transform, transform))
        still = step < tolerance * sigma and abs(sigma - here.sigma) < tolerance * sigma
        going = accept(here, value)
        here = Parameters(transform, sigma)
        if not going or still or iteration >= max_iterations:
            break
    found, moved = look.kept()
    # ℓ at Π = R(t) takes the evidence of one more E-step.
    following = average.include(here.transform, 0.5 / here.sigma**2)
    _, evidence = look(following)
    likelihood = evidence - before - n * D * log_root(here.sigma)
    return Literal(here, found, moved, average.weight, look.moved, following.weight, likelihood, iteration, still)


class _Look:
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
        """The last E-step's rows and moved points, which the next one leaves alone."""
        mass, weighted_target, residual, evidence, best, peak = self._found
        rows_ = EStep(mass.copy(), weighted_target.copy(), residual.copy(), evidence.copy(), best.copy(), peak.copy())
        return rows_, self.moved.copy()
