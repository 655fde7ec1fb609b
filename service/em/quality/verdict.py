"""The verdict from the measures, with its reasons in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..ambiguity import CLEAR_GAP, TIE
from ..outcome import Freedom, Verdict
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


def judge(
    points: Points | None,
    odds: float | None,
    surfaces: Surfaces | None,
    free: Sequence[Freedom],
    at: Circumstances,
) -> Judgement:
    """The verdict.

    Args:
        points: the comparison by points, if it is clear.
        odds: its log-odds against chance, clear or not. None for clouds that are compared as surfaces only.
        surfaces: None for clouds that are compared by points only.
        free: the motions that are undetermined.
        at: what the engine knows.
    """
    by_points = points is not None
    by_surfaces = surfaces is not None and _agree(surfaces)
    doubts: list[str] = []
    if not by_points and not by_surfaces:
        if _by_chance(odds, surfaces):
            return Judgement("failed", ("the clouds agree no more than unrelated clouds of these shapes would",))
        doubts.append(
            f"{at.points} points are too few to tell agreement from chance"
            if at.points < VERDICT.few
            else "the clouds agree little more than unrelated clouds of these shapes would"
        )
    if surfaces is not None and _hovers(surfaces):
        doubts.append("many points lie in front of surfaces of the other cloud or behind them")
    if free:
        doubts.append(_free(free))
    if points is not None and _pulled(points, at.points):
        doubts.append(
            "points without a partner pull the answer away from the others; outlier_weight auto or a given weight "
            "leaves them out"
        )
    matched = (points.matched if points else surfaces.matched if surfaces else 0.0) * at.points
    if (by_points or by_surfaces) and matched < at.numbers / at.dimension + VERDICT.pairs:
        doubts.append(f"only about {matched:.0f} points have a partner, hardly more than determine the transform")
    if at.at_cap:
        doubts.append("the share of points without a partner is at its upper bound: few matches may be coincidence")
    if at.gap is not None and at.gap < CLEAR_GAP:
        doubts.append(TIE)
    if not at.converged:
        doubts.append("the iteration had not converged when max_iterations ended it")
    return Judgement("doubtful" if doubts else "good", tuple(doubts))


def _agree(found: Surfaces) -> bool:
    return (
        found.agreement >= VERDICT.agreement
        and found.near_evidence >= VERDICT.evidence
        and found.errors >= VERDICT.errors
    )


def _by_chance(odds: float | None, surfaces: Surfaces | None) -> bool:
    """Whether neither comparison finds more than chance."""
    if odds is not None and odds >= VERDICT.chance:
        return False
    return (
        surfaces is None or surfaces.agreement < VERDICT.agreement / 2 or surfaces.near_evidence < VERDICT.evidence / 2
    )


def _hovers(found: Surfaces) -> bool:
    return found.hovering > max(VERDICT.hovering, VERDICT.hovering_least / max(found.matched, 1e-9))


def _pulled(found: Points, count: int) -> bool:
    matched = max(found.matched * count, 1.0)
    far = found.pull > VERDICT.pull * found.residual
    return far and found.pull > VERDICT.pull_errors * found.residual / matched**0.5


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
