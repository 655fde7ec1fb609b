"""Coarse to fine: from a rough pose, a wide kernel and few points to a pose worth climbing from.

Each level takes a few robust E- and M-steps at one width, and the width falls geometrically. Robust means that an
outlier bin takes over beyond D + 4√(2D) squared widths, four standard deviations of a chi-square above its mean. A
level uses only as many targets as its width can distinguish, because a wide kernel blurs the others.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..cancellation import Poll
from ..climbing.climb import Anderson
from ..kernel.expectation import expect
from ..kernel.fitting import (
    Sums,
    fit,
    mean_square_step,
    move,
    residual_after,
    sums_of_rows,
)
from ..kernel.truncated import EStep, empty_e_step
from ..kinds import MAPS, RIGID
from ..loop import Ending, iterate
from ..model import NONE, Model, Parameters, log_root
from .pyramid import Pyramid
from .tuning import ANNEALING

Float64 = NDArray[np.float64]


class Annealed(NamedTuple):
    """The level with the highest score."""

    transform: Float64  # (D, D + 1) given by its M-step
    sigma: float  # its width
    score: float  # see `_score`
    inliers: float  # share of the source with a partner within reach of that width
    path: list[Float64]  # the transforms (D, D + 1) of all steps


def robust_bin(dimension: int) -> float:
    """exp(-c/2) at the squared distance c, in widths, beyond which a point counts as an outlier."""
    return math.exp(-(dimension + 4 * math.sqrt(2 * dimension)) / 2)


def anneal(
    pyramid: Pyramid,
    kind: int,
    transform: Float64,
    first: float,
    last: float,
    source_points: int = ANNEALING.source_points,
    *,
    poll: Poll,
) -> Annealed:
    """Robust EM from `transform` (D, D + 1), the width falling from `first` until it is no wider than the residuals.

    `last` is the least width. Coordinates and widths are the frame's. The score is -inf if no level has one. `poll` is
    called after each level, and may raise.
    """

    def going_on(state: _Level) -> bool:
        poll()
        return not state.starved

    loop = _Annealing(pyramid, kind, transform, max(first, last), last, source_points)
    return iterate(loop, max_iterations=ANNEALING.most_levels, accept=going_on)


class _Level(NamedTuple):
    """The state of the annealing after a level."""

    transform: Float64  # (D, D + 1)
    width: float
    next_width: float
    best: Annealed
    starved: bool = False  # too few points have a partner


class _Annealing:
    """The `loop.Loop` over the levels."""

    def __init__(
        self, pyramid: Pyramid, kind: int, transform: Float64, first: float, last: float, source_points: int
    ) -> None:
        self._pyramid, self._kind, self._transform, self._first, self._last = pyramid, kind, transform, first, last
        source = pyramid.source(source_points)
        self._arrays = _Arrays(source, np.zeros_like(source), empty_e_step(len(source), source.shape[1]))
        self._path = [transform]

    def init(self) -> _Level:
        """Before the first level."""
        best = Annealed(self._transform, self._first, -math.inf, 0.0, [])
        return _Level(self._transform, self._first, self._first, best)

    def step(self, state: _Level) -> _Level:
        """One level, scored if its width is narrow enough."""
        pyramid, last, width, D = self._pyramid, self._last, state.next_width, self._pyramid.dimension
        scored = width <= ANNEALING.scored_spacings * pyramid.grain
        visits = _Visits(pyramid, self._kind, state.transform, width, self._arrays, self._path, scaled=scored)
        end = iterate(visits, max_iterations=ANNEALING.most_steps, accept=lambda visit: not visit.starved)
        if end.starved:
            return state._replace(starved=True)
        best = state.best
        if scored or width <= last:
            # A cloud that is squeezed flat is so dense that no match is evidence.
            log_volume = float(np.linalg.slogdet(end.at[:, :D])[1])
            source, moved, found = self._arrays
            score = _score(found, width, visits.targets, pyramid.log_chance(moved, log_volume), D)
            if score > best.score:
                best = Annealed(end.after, width, score, end.total / source.shape[1], self._path)
        narrower = ANNEALING.width_ratio * width
        if self._sharp(width):
            narrower = min(narrower, 1.05 * end.estimate)
        return _Level(end.after, width, max(narrower, last), best)

    def converged(self, state: _Level) -> bool:
        """Whether the width is the least, or far below that of the best score.

        Below the blur the residuals measure the noise, but a few chance neighbours may still widen them. The width
        therefore falls on for a while.
        """
        width = state.width
        return width <= self._last or (self._sharp(width) and width < ANNEALING.past_best * state.best.sigma)

    def outcome(self, state: _Level, _ending: Ending) -> Annealed:
        """The best level."""
        return state.best

    def _sharp(self, width: float) -> bool:
        return width < ANNEALING.blurred_spacings * self._pyramid.spacing


class _Arrays(NamedTuple):
    """The arrays of all E-steps of an annealing, each of which overwrites the last."""

    source: Float64  # (P, n)
    moved: Float64  # (P, n)
    found: EStep


class _Visit(NamedTuple):
    """The state of a level after an M-step."""

    at: Float64  # (D, D + 1) of the E-step
    after: Float64  # (D, D + 1)
    total: float = 0.0  # Σ r; 0 before the first step
    square: float = 0.0  # mean square step
    estimate: float = 0.0  # σ of the residuals
    starved: bool = False


class _Visits:
    """The `loop.Loop` of robust EM at one width, accelerated."""

    def __init__(
        self,
        pyramid: Pyramid,
        kind: int,
        transform: Float64,
        width: float,
        arrays: _Arrays,
        path: list[Float64],
        *,
        scaled: bool,
    ) -> None:
        self._kind, self._transform, self._width, self._arrays, self._path = kind, transform, width, arrays, path
        self._scaled, self._dimension = scaled, pyramid.dimension
        self._bin_weight = robust_bin(pyramid.dimension)
        self._anderson = Anderson(Model(kind, estimate_sigma=False))
        self._grid = pyramid.grid(width)

    @property
    def targets(self) -> int:
        """The number of targets at this level."""
        return int(self._grid.points.shape[1])

    def init(self) -> _Visit:
        """At the end of the level before."""
        return _Visit(self._transform, self._transform)

    def step(self, state: _Visit) -> _Visit:
        """An E-step at the proposal, and its M-step."""
        D, width, grid, (source, moved, found) = self._dimension, self._width, self._grid, self._arrays
        at = state.after
        if state.total > 0:
            proposal = self._anderson.propose(Parameters(state.at, width), Parameters(at, width))
            at = at if proposal is None else proposal.transform
        move(at, source, moved)
        expect(moved, grid, NONE, grid.points, 0.5 / width**2, self._bin_weight, ANNEALING.cutoff, found, NONE)
        sums = sums_of_rows(source, D, found)
        total = float(sums.within[D, D])
        if total <= min(D + 1, 0.5 * len(found.mass)):
            return state._replace(starved=True)
        after = _fit(self._kind, at, sums, scaled=self._scaled)
        self._path.append(after)
        estimate = math.sqrt(residual_after(sums, at, after) / (total * D))
        return _Visit(at, after, total, mean_square_step(sums.within, at, after), estimate)

    def converged(self, state: _Visit) -> bool:
        """Whether the step was short relative to the width."""
        return state.square < (ANNEALING.settled_step * self._width) ** 2

    def outcome(self, state: _Visit, _ending: Ending) -> _Visit:
        """The last step."""
        return state


def _fit(kind: int, transform: Float64, sums: Sums, *, scaled: bool) -> Float64:
    """The M-step (D, D + 1); a similarity keeps its scale unless `scaled`.

    Under a wide kernel each point moves to the mean of many targets, and the cloud would shrink to a point.
    """
    if scaled or not (MAPS[kind].rotates and MAPS[kind].scales):
        return fit(kind, transform, sums)
    D = len(transform)
    scale = abs(float(np.linalg.det(transform[:, :D]))) ** (1 / D)
    out = fit(RIGID, transform, sums)
    out[:, :D] *= scale
    out[:, D] = (sums.across[D] - out[:, :D] @ sums.within[D, :D]) / sums.within[D, D]
    return out


def _score(found: EStep, width: float, targets: int, log_chance: Float64, dimension: int) -> float:
    """The mean log-likelihood ratio of a source point, matched against chance, in nats.

    max_w mean_i log((1 - w) g_i / f_i + w), g_i = (1/M) Σ_j N(x_i; y_j, σ²), with the smooth density f of `log_chance`:
    points without a partner cost log w, and two clouds that agree in outline alone score 0. With one density for all
    outliers, agreeing outlines would count as matches if the clouds overlap in part. The bin of `found` is not used.
    """
    with np.errstate(divide="ignore"):  # a point without any target in reach has a mass of 0, and a ratio of 0
        log_gauss = np.log(found.mass) + found.evidence - dimension * log_root(width) - math.log(targets)
    # In hundreds of dimensions the ratio of a match may exceed what a float holds.
    ratio = np.exp(np.minimum(log_gauss - log_chance, 700))
    return max(float(np.log((1 - w) * ratio + w).mean()) for w in ANNEALING.outlier_shares)
