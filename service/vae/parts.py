"""Large work in parts, between which other jobs of the lane may have their turn. Results do not depend on the parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from ..runtime.turns import give_way
from .gaussian_kl import GaussianPair
from .reparameterization import ReparameterizationJob

JobT = TypeVar("JobT", bound=tuple[Any, ...])
OutcomeT = TypeVar("OutcomeT")

# Elements of one part, which takes about 10 ms.
PART_ELEMENTS = 1 << 17
# Rows of a part are a multiple of this, so that each row has the same alignment as in the whole.
ROW_MULTIPLE = 8
# The jobs of which each row has a result of its own.
BY_ROWS = ReparameterizationJob, GaussianPair


def in_parts(
    compute: Callable[[Sequence[JobT]], Sequence[OutcomeT]], jobs: Sequence[JobT], cost: Callable[[JobT], float]
) -> list[OutcomeT]:
    """`compute(jobs)`, of at most PART_ELEMENTS of `cost` at a time, as far as jobs and rows can be divided."""
    outcomes: list[OutcomeT] = []
    for group in _groups(jobs, cost):
        give_way()
        outcomes += _divided(compute, group[0], cost(group[0])) if len(group) == 1 else compute(group)
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


def _divided(compute: Callable[[Sequence[JobT]], Sequence[OutcomeT]], job: JobT, elements: float) -> Sequence[OutcomeT]:
    """The outcome of one job, computed by parts of its rows if it is large."""
    rows = _rows(job)
    step = int(rows * PART_ELEMENTS / max(1.0, elements)) // ROW_MULTIPLE * ROW_MULTIPLE or ROW_MULTIPLE
    if step >= rows:
        return compute([job])
    found: list[Any] = []
    kind: Any = type(job)
    for begin in range(0, rows, step):
        found += compute([kind(*(_some(field, begin, begin + step) for field in job))])
        if isinstance(found[-1], Exception):
            return compute([job])  # its error names the place in the whole
        give_way()
    whole: Any = type(found[0])(
        *(None if column[0] is None else np.concatenate(column) for column in zip(*found, strict=True))
    )
    return [whole]


def _rows(job: Any) -> int:
    """The number of rows that can be computed separately; 0 if they cannot."""
    arrays = [field for field in job if isinstance(field, np.ndarray)]
    if not isinstance(job, BY_ROWS) or not arrays or arrays[0].ndim < 2:
        return 0
    rows = len(arrays[0])
    return rows if all(array.ndim >= 2 and len(array) == rows for array in arrays) else 0


def _some(field: object, begin: int, end: int) -> object:
    return field[begin:end] if isinstance(field, np.ndarray) else field
