"""Detects a device that no longer computes: after some faults, a process cannot use the GPU until it ends."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..errors import DeviceLost, LatentserveError

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


class DeviceGuard:
    """Detects that the device does not compute any more.

    Args:
        computes: whether the device computes; called on the worker's thread after an error.
        lost: called there with the first error after which it does not.
    """

    def __init__(
        self, computes: Callable[[], bool] = lambda: True, lost: Callable[[Exception], object] = lambda _: None
    ) -> None:
        self._computes = computes
        self._lost = lost
        self.is_lost = False
        """Whether the device is lost. Only another process can use it again."""

    def guarded(
        self, worker: Callable[[list[JobT]], Sequence[ResultT | Exception]]
    ) -> Callable[[list[JobT]], Sequence[ResultT | Exception]]:
        """`worker`, which raises DeviceLost once the device is lost, for all later jobs too."""

        @functools.wraps(worker, updated=())
        def run(jobs: list[JobT]) -> Sequence[ResultT | Exception]:
            if self.is_lost:
                raise _error()
            try:
                return worker(jobs)
            except LatentserveError:
                raise
            except Exception as error:
                # A fault of the job alone leaves a device that computes.
                if not self.is_lost:
                    if self._computes():
                        raise
                    self.is_lost = True
                    self._lost(error)
                raise _error() from error

        return run


def _error() -> DeviceLost:
    return DeviceLost("the device of this process has failed, and the process is replaced; try again", retry_after=5)
