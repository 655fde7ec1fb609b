"""Priorities of threads, which only Linux has."""

from __future__ import annotations

import os
import sys


def lower(steps: int) -> None:
    """Lower the priority of this thread alone by `steps`, as far as there are lower ones, on Linux.

    Steps are relative to the priority of the process. Only privileged ones may raise it, and an operator may have
    lowered it further.
    """
    if steps and sys.platform == "linux":
        os.nice(steps)
