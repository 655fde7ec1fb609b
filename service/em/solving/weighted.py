"""One problem with any weights: the fit of the points that have one, and the answer for all points."""

from __future__ import annotations

from ...errors import InvalidInput
from ..cancellation import Cancelled, unfinished
from ..climbing.record import Record
from ..outcome import Outcome
from ..problem import Problem
from ..slices import sliced
from ..weights import positive
from .left_out import with_left_out
from .poses import register_pose


def register_weighted(problem: Problem) -> Outcome:
    """Register one problem that `checks.check` has returned. Raises InvalidInput where `register_pose` does."""
    kept = positive(problem)
    if kept is None:
        return register_pose(problem)
    try:
        found = register_pose(kept.problem)
    except InvalidInput as error:
        raise kept.error(error) from None
    if found.stop_reason == "cancelled":
        return unfinished(problem)
    poll = Record(problem).poll
    try:
        with sliced(poll):
            return with_left_out(problem, kept, found, poll)
    except Cancelled:
        return unfinished(problem)
