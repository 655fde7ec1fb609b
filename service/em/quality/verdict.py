"""The verdict from the measures, with its reasons in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ..ambiguity import CLEAR_GAP, TIE
from ..outcome import Freedom, Verdict
from .peaks import Peak
from .points import Points
from .surfaces import Surfaces
from .tuning import VERDICT


class Circumstances(NamedTuple):
    """What the engine knows of its answer."""

    points: int  # N
    dimension: int  # D
    numbers: int  # of the transform
    converged: bool
    gap: float | None  # nats by which the runner-up is less likely; None without one
    at_cap: bool  # whether the estimated share of outliers is the largest that is allowed


class Judgement(NamedTuple):
    """The verdict and its reasons."""

    verdict: Verdict
    reasons: tuple[str, ...]


class Found(NamedTuple):
    """What the comparisons have found; None where they do not apply."""

    points: Points | None  # if they are clear
    odds: float | None  # the log-odds of the points against chance, clear or not
    surfaces: Surfaces | None
    free: Sequence[Freedom]  # the motions that are undetermined
    peak: Peak | None


def judge(found: Found, at: Circumstances) -> Judgement:
    """The verdict."""
    points, odds, surfaces, free, peak = found
    by_points = points is not None
    by_surfaces = agree(surfaces, at.points)
    by_peak = peak is not None and peak.height >= VERDICT.peak
    doubts: list[str] = []
    if not by_points and not by_surfaces and not by_peak:
        if _by_chance(odds, surfaces):
            return Judgement("failed", ("the clouds agree no more than unrelated clouds of these shapes would",))
        doubts.append(
            f"{at.points} points are too few to tell agreement from chance"
            if at.points < VERDICT.few
            else "the clouds agree little more than unrelated clouds of these shapes would"
        )
    if surfaces is not None and at.points > VERDICT.scan and surfaces.hovering > VERDICT.hovering:
        doubts.append("many points lie in front of surfaces of the other cloud or behind them")
    if free:
        doubts.append(_free(free))
    if points is not None and _pulled(points, at):
        doubts.append(
            "points without a partner pull the answer away from the others; outlier_weight auto or a given weight "
            "leaves them out"
        )
    matched = (points.matched if points else surfaces.matched if surfaces else 0.0) * at.points
    if (by_points or by_surfaces) and matched < at.numbers / at.dimension + VERDICT.pairs:
        doubts.append(f"only about {matched:.0f} points have a partner, hardly more than determine the transform")
    if at.at_cap and not by_points:
        doubts.append("the share of points without a partner is at its upper bound: few matches may be coincidence")
    if at.gap is not None and at.gap < CLEAR_GAP:
        doubts.append(TIE)
    if not at.converged:
        doubts.append("the iteration had not converged when max_iterations ended it")
    return Judgement("doubtful" if doubts else "good", tuple(doubts))


def agree(found: Surfaces | None, count: int) -> bool:
    """Whether the surfaces of `count` source points agree more than by chance."""
    if found is None:
        return False
    few = count <= VERDICT.scan
    return (
        found.agreement >= (VERDICT.agreement_of_few if few else VERDICT.agreement)
        and found.near_evidence >= VERDICT.evidence
        and found.errors >= (VERDICT.errors_of_few if few else VERDICT.errors)
    )


def _by_chance(odds: float | None, surfaces: Surfaces | None) -> bool:
    """Whether neither comparison finds more than chance."""
    if odds is not None and odds >= VERDICT.chance:
        return False
    return (
        surfaces is None or surfaces.agreement < VERDICT.agreement / 2 or surfaces.near_evidence < VERDICT.evidence / 2
    )


def _pulled(found: Points, at: Circumstances) -> bool:
    error = found.residual / math.sqrt(max(found.matched * at.points, 1.0))
    extent = found.extent * math.sqrt(at.dimension)
    return found.pull > max(VERDICT.pull * extent, VERDICT.pull_errors * error)


def _free(free: Sequence[Freedom]) -> str:
    """The undetermined motions in words."""
    steps = sum(one.kind == "translation" for one in free)
    turns = len(free) - steps
    parts = []
    if steps:
        parts.append("the position along " + ("an axis" if steps == 1 else f"{steps} axes"))
    if turns:
        parts.append("the angle about " + ("an axis" if turns == 1 else f"{turns} axes"))
    return f"the clouds hardly determine {' and '.join(parts)}; see degenerate"
