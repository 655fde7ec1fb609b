"""The standard streams of a service: all are open, and writing to stderr does not wait for its reader."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress

from . import log_file

STDIN, STDOUT, STDERR = range(3)


def prepare() -> None:
    """Open the standard streams that are closed, on the null device, and let writes to stderr fail instead of wait.

    A closed descriptor would become that of the next file or socket. Everything that is written to stderr would go
    there. A pipe or terminal is opened once more. Its other users, such as the shell, share the mode of the inherited
    one. A write to a file always waits, so it gets a pipe and a process of its own.
    """
    for descriptor in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number
            os.set_inheritable(descriptor, True)
    for name, descriptor in (("stdin", STDIN), ("stdout", STDOUT), ("stderr", STDERR)):
        if getattr(sys, name) is None:  # closed when the interpreter started
            setattr(sys, name, os.fdopen(descriptor, "r" if descriptor == STDIN else "w", closefd=False))
    kind = os.fstat(STDERR).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
        # It fails without /proc, for a pipe without a reader, and for a pipe of another user.
        with suppress(OSError):
            own = os.open(f"/proc/self/fd/{STDERR}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            os.dup2(own, STDERR)
            os.close(own)
    elif stat.S_ISREG(kind) and hasattr(os, "fork"):  # not on all systems
        with suppress(OSError):
            log_file.redirect(STDERR)
