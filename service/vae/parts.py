"""Large work in parts, between which other jobs of the lane may have their turn. Results do not depend on the parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from ..runtime import turns

JobT = TypeVar("JobT")
OutcomeT = TypeVar("OutcomeT")

# Elements of one part, which takes about 10 ms.
PART_ELEMENTS = 1 << 17


def spans(count: int, size: int = 1) -> Iterator[slice]:
    """Slices that cover range(`count`), each of about PART_ELEMENTS if one item has `size` elements."""
    step = max(1, PART_ELEMENTS // size)
    for begin in range(0, count, step):
        if begin:
            turns.give_way()
        yield slice(begin, min(begin + step, count))


def in_parts(
    compute: Callable[[Sequence[JobT]], Sequence[OutcomeT]], jobs: Sequence[JobT], cost: Callable[[JobT], float]
) -> list[OutcomeT]:
    """`compute(jobs)`, of at most PART_ELEMENTS of `cost` at a time, or of one job."""
    outcomes: list[OutcomeT] = []
    for group in _groups(jobs, cost):
        turns.give_way()
        outcomes += compute(group)
    return outcomes


def _groups(jobs: Sequence[JobT], cost: Callable[[JobT], float]) -> Iterator[Sequence[JobT]]:
    begin, elements = 0, 0.0
    for place, job in enumerate(jobs):
        more = cost(job)
        if place > begin and elements + more > PART_ELEMENTS:
            yield jobs[begin:place]
            begin, elements = place, 0.0
        elements += more
    yield jobs[begin:]
