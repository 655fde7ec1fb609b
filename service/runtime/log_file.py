"""The log in a file: a process of its own writes it, so that no other waits for a disk that is full or hangs."""

from __future__ import annotations

import atexit
import os
import select
import signal
import time
from typing import NamedTuple

# Seconds between two attempts to write to a full disk.
RETRY_SECONDS = 0.25
# Seconds that the end of the service waits for the last lines.
END_SECONDS = 1.0
_PID_BYTES = 4


class Writer(NamedTuple):
    """The process that writes the file, and who started it."""

    owner: int
    pid: int
    alive: int
    """A pipe that ends when the writer does."""
    descriptor: int
    """What was the file, and is now the pipe to the writer."""


class _State:
    writer: Writer | None = None


def redirect(descriptor: int) -> None:
    """Replace the file `descriptor` by a pipe whose other end a new process copies to the file.

    Writes to the pipe fail while it is full. Nothing of what it took is lost unless the disk hangs until the end, or is
    full then. The new process is no child of this one, and ends when no process can write to the pipe.

    Raises:
        OSError: the system has no process or descriptor for it. Then nothing has changed.
    """
    reading, writing = os.pipe()
    alive, told = os.pipe()
    middle = os.fork()
    if middle == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _run(reading, descriptor, told, (writing, alive))
        finally:
            os._exit(0)
    for end in (reading, told):
        os.close(end)
    os.waitpid(middle, 0)
    pid = int.from_bytes(os.read(alive, _PID_BYTES), "little")
    if pid:
        os.set_blocking(writing, False)
        os.dup2(writing, descriptor)
        _State.writer = Writer(os.getpid(), pid, alive, descriptor)
        atexit.register(finish)
    os.close(writing)


def _run(reading: int, descriptor: int, told: int, others: tuple[int, ...]) -> None:
    # The service ends this process by closing the pipe. Signals to its group or its terminal are for the service.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for end in others:
        os.close(end)
    file = os.dup(descriptor)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in {0, 1, 2, descriptor}:
        os.dup2(null, standard)
    os.write(told, os.getpid().to_bytes(_PID_BYTES, "little"))
    copy(reading, file)


def copy(reading: int, file: int) -> None:
    """Copy a pipe to a file until the pipe ends. What the file refuses is tried again, until then."""
    poll = select.poll()
    poll.register(reading, 0)  # only its end
    while part := os.read(reading, 1 << 16):
        while part:
            try:
                part = part[os.write(file, part) :]
            except OSError:
                if poll.poll(0):
                    return
                time.sleep(RETRY_SECONDS)


def finish() -> None:
    """Let the writer end, and wait for `END_SECONDS` at most. Only the process that started it does something."""
    writer = _State.writer
    if writer is None or writer.owner != os.getpid():
        return
    _State.writer = None
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, writer.descriptor)
    os.close(null)
    if not select.select([writer.alive], [], [], END_SECONDS)[0]:
        os.kill(writer.pid, signal.SIGKILL)
