"""How a job that breaks the worker is found and fails alone, and the error that its caller gets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from ..errors import LatentserveError, OutOfMemory, WorkerFailed
from .batch import JobT, ResultT


def attempt(
    worker: Callable[[list[JobT]], Sequence[ResultT | Exception]], jobs: list[JobT]
) -> list[ResultT | BaseException]:
    """The outcome of each job. If the worker raises, for example out of memory, `jobs` are halved until they work."""
    try:
        results = list(worker(jobs))
        if len(results) != len(jobs):
            raise RuntimeError(f"the worker returned {len(results)} results for {len(jobs)} jobs")
    except BaseException as error:  # no exception may end the worker's thread
        if len(jobs) == 1:
            return [error]
        # Its traceback would keep the failed batch's tensors alive while the halves run.
        error.__traceback__ = None
    else:
        return list(results)
    middle = len(jobs) // 2
    return attempt(worker, jobs[:middle]) + attempt(worker, jobs[middle:])


def explained(
    failed: Callable[[BaseException], object],
    is_out_of_memory: Callable[[BaseException], bool],
    error: BaseException,
) -> Exception:
    """What the client is told of the `error` of its job alone. `failed` is called first, unless it is the client's."""
    if isinstance(error, LatentserveError):
        _release(error)
        return error
    with contextlib.suppress(Exception):  # an observer that fails must not cost the other jobs their results
        failed(error)
    _release(error)
    found = WorkerFailed(f"the computation failed: {type(error).__name__}")
    if is_out_of_memory(error):
        found = OutOfMemory("this request alone needs more memory than the device has; make it smaller")
    found.__cause__ = error
    return found


def _release(error: BaseException) -> None:
    """Forget the frames of `error`. They lead to the outcomes of its batch, and so back to `error`.

    All of that would stay in memory until the garbage collector runs.
    """
    error.__traceback__ = None
