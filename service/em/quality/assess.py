"""The quality of one answer, from what every engine has at its end."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernel.truncated import UNMATCHED
from ..kinds import ROTATION_DIMENSIONS
from ..outcome import Freedom, Overlap, Quality, RunnerUp
from ..problem import Problem
from ..slices import pause
from .alternatives import alternative
from .degeneracy import free_motions
from .peaks import peak
from .points import Points, clear, compare, in_cells, log_odds
from .surfaces import Surfaces
from .surfaces import compare as compare_surfaces
from .tuning import POINTS, SURFACE, VERDICT
from .verdict import Circumstances, Found, Judgement, agree, judge

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Numbers of a displacement for each axis, at most; it moves that many parts of a cloud apart from one another.
DISPLACED_PARTS = 20
# Points that a part must have.
PART_POINTS = 4
# Residuals below this share of the extent are rounding.
EXACT = 1e-9


class Assessed(NamedTuple):
    """The quality, and warnings of it."""

    quality: Quality
    warnings: tuple[str, ...]


class End(NamedTuple):
    """How an engine ended."""

    sigma: float  # σ, in the unit of the clouds that are assessed
    unit: float  # that unit, in the caller's
    converged: bool  # whether the iteration stopped by the tolerance
    centroid: Float64 | None  # (D, D) covariance of the source's centroid, moved, in the caller's unit, if it is known
    runner_up: RunnerUp | None = None
    at_cap: bool = False  # whether the estimated share of outliers is the largest that is allowed
    solid: bool = False  # whether the points are evenly spread and have no surfaces


def assess(problem: Problem, x: Float64, y: Float64, match: Int64, end: End) -> Assessed:
    """The quality of an answer.

    Args:
        problem: the problem.
        x: (P, N) the moved source, with rows of zeros up to P = 3.
        y: (P, M) the target, in the same coordinates of magnitude about 1.
        match: (N,) the matched targets, or UNMATCHED.
        end: how the engine ended.
    """
    D, n, m = problem.source.shape[1], x.shape[1], y.shape[1]
    numbers = _numbers(problem, n, D)
    found, odds = _compared(x, y, D, end.sigma, numbers)
    surfaces = _surfaces(x, y, D, end.solid, _sure(found, odds))
    free: tuple[Freedom, ...] = ()
    rotates = D in ROTATION_DIMENSIONS and (problem.kind.rotates or problem.kind.shears)
    if surfaces is not None and surfaces.near_evidence > 0:
        free = free_motions(surfaces.comparison, D, rotates=rotates)
    gap = None if end.runner_up is None else end.runner_up.gap
    at = Circumstances(n, D, numbers, end.converged, gap, end.at_cap)
    by_points = found is not None and odds is not None and clear(found, odds, n)
    top = None
    if not by_points and not agree(surfaces, n):
        top = peak(x, y, D, end.sigma, rotates=rotates)
    judgement = judge(Found(found if by_points else None, odds, surfaces, free, top), at)
    if judgement.verdict != "good" and not by_points:
        judgement = _explained(judgement, alternative(x, y, D, end.sigma, problem.kind))
    measures = _measures(found, odds, surfaces, end.sigma * math.sqrt(D))
    if top is not None and top.height >= VERDICT.peak:
        measures = Measures(top.overlap, end.sigma * math.sqrt(D), top.evidence)
    quality = Quality(
        judgement.verdict,
        judgement.reasons,
        measures.overlap,
        None if measures.rmse is None else measures.rmse * end.unit,
        measures.evidence,
        None if end.centroid is None else math.sqrt(max(float(end.centroid.trace()), 0.0)),
        free,
    )
    return Assessed(quality, _warnings(judgement, match, m))


def _compared(x: Float64, y: Float64, dimension: int, sigma: float, numbers: int) -> tuple[Points | None, float | None]:
    """The comparison point by point, and its log-odds against chance. None for large clouds.

    If the evidence of a few points is clear, no others are compared.
    """
    n, m = x.shape[1], y.shape[1]
    if max(n, m) > POINTS.most:
        return None, None
    source, target = in_cells(x), in_cells(y)
    found = compare(x, y, source, target, dimension, sigma, POINTS.first)
    odds = log_odds(found, n, numbers)
    if n > POINTS.first and not (_sure(found, odds) and clear(found, odds, n)):
        pause()
        found = compare(x, y, source, target, dimension, sigma, POINTS.sample)
        odds = log_odds(found, n, numbers)
    return found, odds


def _sure(found: Points | None, odds: float | None) -> bool:
    """Whether the points alone decide: nearly all of them match, and clearly so."""
    return found is not None and odds is not None and odds >= VERDICT.clear and found.unmatched <= VERDICT.unmatched


def _surfaces(x: Float64, y: Float64, dimension: int, solid: bool, sure: bool) -> Surfaces | None:
    """The comparison by surfaces, of large clouds that may have some, and of those whose points do not decide."""
    sizes = x.shape[1], y.shape[1]
    if dimension not in ROTATION_DIMENSIONS or min(sizes) < SURFACE.least:
        return None
    if sure and (solid or max(sizes) <= VERDICT.scan):
        return None
    return compare_surfaces(x, y, dimension)


class Measures(NamedTuple):
    """The numbers that the better comparison gives, in the frame's target unit."""

    overlap: Overlap
    rmse: float | None
    evidence: float


def _measures(points: Points | None, odds: float | None, surfaces: Surfaces | None, noise: float) -> Measures:
    more = odds is not None and odds >= VERDICT.chance
    if points is not None and (more or surfaces is None) and not (surfaces and surfaces.evidence > points.evidence):
        return _of_points(points)
    if surfaces is None:
        return Measures(Overlap(0.0, 0.0), noise, 0.0)
    agrees = surfaces.evidence > 0
    return Measures(
        Overlap(surfaces.matched, surfaces.target), surfaces.residual if agrees else None, surfaces.evidence
    )


def _of_points(points: Points) -> Measures:
    """The measures of a comparison by points."""
    exact = points.residual < EXACT * points.extent
    rmse = None if points.evidence <= 0 else 0.0 if exact else points.residual
    return Measures(Overlap(points.matched, points.target), rmse, points.evidence)


def _explained(judgement: Judgement, other: str | None) -> Judgement:
    """The judgement, with what a transform of another kind would explain."""
    if other is None:
        return judgement
    return judgement._replace(reasons=(*judgement.reasons, f"{other} of the source explains far more"))


def _warnings(judgement: Judgement, match: Int64, targets: int) -> tuple[str, ...]:
    """The reasons, and a warning of targets that many source points share."""
    if judgement.verdict == "good":
        return ()
    matched = match[match != UNMATCHED]
    distinct = int(np.count_nonzero(np.bincount(matched, minlength=1)))
    if distinct >= VERDICT.distinct * min(len(matched), targets):
        return judgement.reasons
    return (
        *judgement.reasons,
        f"{len(matched)} source points share {distinct} targets; matching one_to_one or normalize columns uses each "
        "target once",
    )


def _numbers(problem: Problem, n: int, dimension: int) -> int:
    numbers = problem.kind.numbers(dimension)
    if problem.kind.deforms:
        numbers += dimension * min(n // PART_POINTS, DISPLACED_PARTS)
    return numbers
