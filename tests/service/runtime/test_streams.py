"""The standard streams of a service, in processes of their own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from service.runtime import log_file

ROOT = Path(__file__).resolve().parents[3]


def test_closed_streams_are_opened_on_the_null_device_before_anything_else_gets_their_numbers(tmp_path: Path) -> None:
    script = f"""
import os, sys
from service.runtime import streams
for descriptor in (0, 2):
    os.close(descriptor)
sys.stderr = None
streams.prepare()
print(*(os.readlink(f"/proc/self/fd/{{descriptor}}") for descriptor in (0, 2)), flush=True)
print("kept nowhere", file=sys.stderr)
assert open({str(tmp_path / "other")!r}, "w").fileno() > 2
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    assert ended.stdout.split() == [os.devnull, os.devnull]


def test_stderr_never_blocks_and_the_mode_of_the_shells_pipe_does_not_change() -> None:
    script = """
import os, sys
from service.runtime import streams
streams.prepare()
try:
    while True:
        os.write(2, b"x" * 4096)
except BlockingIOError:
    print("went on")
"""
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=write, text=True
    ) as process:
        assert process.communicate(timeout=60)[0] == "went on\n"
    assert os.get_blocking(write)
    for end in (read, write):
        os.close(end)


def test_a_file_has_all_lines_once_the_process_has_ended_and_its_writer_ends_too(tmp_path: Path) -> None:
    script = """
import os, sys, time
from service.runtime import log_file, streams
streams.prepare()
for number in range(2000):
    print(number, file=sys.stderr, flush=True)
    if number % 1000 == 0:
        os.fork() or os._exit(0)
print(log_file._State.writer.pid)
"""
    path = tmp_path / "log"
    with path.open("wb") as stderr:
        command = [sys.executable, "-c", script]
        ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, timeout=60, check=True)
    assert path.read_text().split() == [*map(str, range(2000))]
    with suppress(FileNotFoundError):
        while Path(f"/proc/{int(ended.stdout)}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)


def test_what_a_full_disk_refuses_is_written_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "RETRY_SECONDS", 0)
    room, write = iter([3, 0, 0, 5, 0, *[1000] * 100]), os.write

    def nearly_full(descriptor: int, text: bytes) -> int:
        if not (size := next(room)):
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(descriptor, text[:size])

    read, end = os.pipe()
    with (tmp_path / "log").open("wb") as file, ThreadPoolExecutor() as pool:
        write(end, b"one\ntwo\nthree\n" * 1000)
        monkeypatch.setattr(os, "write", nearly_full)
        copying = pool.submit(log_file.copy, read, file.fileno())
        while (tmp_path / "log").stat().st_size < 14_000:
            assert not copying.done()
        os.close(end)
        copying.result(60)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\nthree\n" * 1000
    os.close(read)


def test_the_writer_of_a_disk_that_stays_full_ends_with_the_service(tmp_path: Path) -> None:
    read, end = os.pipe()
    os.write(end, b"lost\n")
    os.close(end)
    with Path("/dev/full").open("wb") as full:
        log_file.copy(read, full.fileno())
    os.close(read)
