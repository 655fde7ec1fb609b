"""Servers as processes: start, readiness, processor time, memory, end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TICKS = os.sysconf("SC_CLK_TCK")


class NotStarted(Exception):
    """A server ended before it was ready, or was not ready in time."""


class Server(NamedTuple):
    """A running server."""

    port: int
    process: subprocess.Popen[bytes]
    start_seconds: float  # from its start to its first right answer

    def processor_seconds(self) -> float:
        """Processor time so far, of the process and its descendants, those included that have ended."""
        total = 0
        for pid in descendants(self.process.pid):
            with suppress(OSError):
                # User and system time, then those of children that ended (proc_pid_stat(5), fields 14 to 17).
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15]))
        return total / TICKS

    def lane_seconds(self) -> float:
        """Processor time so far of Latentserve's lanes, the threads that compute."""
        total = 0
        for pid in descendants(self.process.pid):
            for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
                with suppress(OSError):  # the thread has ended
                    name, _, fields = stat.read_text().partition("(")[2].rpartition(")")
                    # The fields that `processor_seconds` adds, without those of children.
                    total += sum(map(int, fields.split()[11:13])) if name.startswith("batcher-") else 0
        return total / TICKS

    def memory(self) -> list[float]:
        """Proportional set size of each process in MB, the largest first. Shared pages are divided among sharers."""
        sizes = []
        for pid in descendants(self.process.pid):
            with suppress(OSError):
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                sizes += [int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:")]
        return sorted(sizes, reverse=True)


def descendants(pid: int) -> list[int]:
    """The process and all its descendants that are alive."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                parent = Path(f"/proc/{entry.name}/stat").read_text().rpartition(")")[2].split()[1]
                children[int(parent)].append(int(entry.name))
    found = [pid]
    for one in found:
        found += children[one]
    return found


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str],
    port: int,
    probe: bytes,
    environment: Mapping[str, str],
    patience: float,
    stderr: IO[bytes] | int | None = None,
) -> Iterator[Server]:
    """Run a server. The block begins with its first answer of status 200 to the request `probe`, and ends the server.

    What the server prints goes to `stderr`, or to a temporary file.

    Raises:
        NotStarted: the process ended, or gave no such answer within `patience` seconds; the message ends with its log.
    """
    # The log goes to a file, because an unread pipe would fill up and block the server.
    with tempfile.TemporaryFile("w+b") as log:
        start = time.perf_counter()
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environment),
            stdout=log,
            stderr=log if stderr is None else stderr,
            start_new_session=True,
        ) as process:
            try:
                while not answers(port, probe):
                    if process.poll() is not None or time.perf_counter() > start + patience:
                        log.seek(0)
                        raise NotStarted(log.read().decode(errors="replace")[-2000:])
                    time.sleep(0.01)
                yield Server(port, process, time.perf_counter() - start)
            finally:
                _end(process)


def answers(port: int, probe: bytes) -> bool:
    """Whether the server at `port` answers the request `probe` with status 200."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(probe)
        return connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all its descendants."""
    others = descendants(process.pid)[1:]
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()
    for pid in others:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
