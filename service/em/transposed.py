"""Clouds that are probably transposed: 3 x N arrays, whose columns are the points."""

from __future__ import annotations

from .outcome import Outcome
from .problem import Problem

# The rows of a cloud with a point in each column, and the fewest columns that are taken for points.
ROWS, COLUMNS = (2, 3), 24


def doubted(problem: Problem, outcome: Outcome) -> Outcome:
    """The outcome, with a warning if both clouds have two or three points of many coordinates."""
    (n, D), m = problem.source.shape, len(problem.target)
    if n != m or n not in ROWS or D < COLUMNS or outcome.quality is None:
        return outcome
    warning = (
        f"the arrays have the shape ({n}, {D}) and are read as {n} points of {D} coordinates; if they hold {D} points "
        f"of {n} coordinates, transpose them"
    )
    return outcome._replace(warnings=(*outcome.warnings, warning))
