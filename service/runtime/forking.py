"""Forks of a process that has one thread."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable

from .log_file import finish

# Of <linux/prctl.h>: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1
# The parent's signals, which a child ignores. A terminal sends SIGINT to all processes, and an orchestrator may do so
# with SIGTERM. The parent then tells each child what to do.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def fork(work: Callable[[], int]) -> int:
    """Fork a process that calls `work`, and ends with the exit status that it returns. Returns its process id.

    This process must have one thread. The child ends with it, at the latest.

    Raises:
        OSError: the system has no process ids or memory for it at present.
    """
    parent = os.getpid()
    # A signal between the fork and the change of its handlers would reach the parent's handlers twice.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _run(work, parent)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    return pid


def _run(work: Callable[[], int], parent: int) -> None:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        end_with(parent)
        status = work()
    except BaseException:
        traceback.print_exc()
    finally:
        # Without the clean-up of the interpreter, which belongs to the parent.
        end_now(status)


def end_now(status: int) -> None:
    """End this process without the interpreter's clean-up, even if its log cannot be written."""
    try:
        sys.stderr.flush()
        finish()
    finally:
        os._exit(status)


def end_with(parent: int) -> None:
    """Let this process be killed when `parent` ends, also if that is killed itself. On Linux; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)
