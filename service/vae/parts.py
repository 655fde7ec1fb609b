"""Large work in parts, between which other jobs of the lane may have their turn. Results do not depend on the parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from ..runtime.turns import give_way
from .gaussian_kl import GaussianPair
from .inputs import all_finite, as_array
from .logistic import LabelledPoint, LogisticDivergence
from .reparameterization import ReparameterizationJob

JobT = TypeVar("JobT", bound=tuple[Any, ...])
OutcomeT = TypeVar("OutcomeT")

# Elements of one part, which takes about 10 ms.
PART_ELEMENTS = 1 << 17
# Rows of a part are a multiple of this, so that each row has the same alignment as in the whole.
ROW_MULTIPLE = 8
# The jobs of which each row has a result of its own.
BY_ROWS = ReparameterizationJob, GaussianPair, LabelledPoint


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
    by_rows: Any = _with_own_weights(job)
    rows = _rows(by_rows)
    step = int(rows * PART_ELEMENTS / max(1.0, elements)) // ROW_MULTIPLE * ROW_MULTIPLE or ROW_MULTIPLE
    if step >= rows:
        return compute([job])
    found: list[Any] = []
    kind: Any = type(job)
    for begin in range(0, rows, step):
        found += compute([kind(*(_some(field, begin, begin + step) for field in by_rows))])
        if isinstance(found[-1], Exception):
            return compute([job])  # its error names the place in the whole
        give_way()
    whole: Any = type(found[0])(
        *(None if column[0] is None else np.concatenate(column) for column in zip(*found, strict=True))
    )
    if by_rows is not job:
        whole = _with_shared_weights(whole, step)
        if not all_finite(whole.grad_w):
            return compute([job])
    return [whole]


def _with_own_weights(job: Any) -> Any:
    """The job, with a copy of its weights for each row where all rows share them."""
    if not isinstance(job, LabelledPoint):
        return job
    x, w, y = map(as_array, job)
    if x.ndim != 2 or w.shape != x.shape[1:]:
        return job
    return LabelledPoint(x, np.broadcast_to(w, x.shape), y)


def _with_shared_weights(divergence: LogisticDivergence, step: int) -> LogisticDivergence:
    """The divergence, whose gradient in the weights is the sum over rows, as `logistic_divergence_batch` adds them."""
    rows = divergence.grad_w
    # Several columns are added row by row, which can be divided. NumPy adds a single one in pairs, at once and fast.
    step = step if rows.shape[1] > 1 else len(rows)
    total = rows[:1]
    with np.errstate(all="ignore"):
        for begin in range(1, len(rows), step):
            total = np.add.reduce(np.concatenate([total, rows[begin : begin + step]]), axis=0, keepdims=True)
            give_way()
    return divergence._replace(grad_w=total[0])


def _rows(job: Any) -> int:
    """The number of rows that can be computed separately; 0 if they cannot."""
    arrays = [field for field in job if isinstance(field, np.ndarray)]
    if not isinstance(job, BY_ROWS) or not arrays or arrays[0].ndim < 2:
        return 0
    rows = len(arrays[0])
    least = [2, 2, 1] if isinstance(job, LabelledPoint) else [2] * len(arrays)
    even = all(array.ndim >= ndim and len(array) == rows for array, ndim in zip(arrays, least, strict=False))
    return rows if even and len(arrays) >= len(least) else 0


def _some(field: object, begin: int, end: int) -> object:
    return field[begin:end] if isinstance(field, np.ndarray) else field
