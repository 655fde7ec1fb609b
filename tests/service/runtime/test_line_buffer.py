"""The lines of the log reach their reader in order, and a reader that fails or stalls costs lines only."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from service.runtime import line_buffer
from service.runtime.line_buffer import MOST_WAITING, LineBuffer


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe that holds 64 KiB, and whose writes would block."""
    read, write = os.pipe()
    yield read, write
    for end in (read, write):
        with suppress(OSError):  # the test closed it
            os.close(end)


def received(read: int) -> list[str]:
    """The lines that the pipe holds."""
    os.set_blocking(read, False)
    found = b""
    try:
        while part := os.read(read, 1 << 20):
            found += part
    except BlockingIOError:
        pass
    return found.decode().splitlines()


def test_a_reader_that_stalls_never_stops_the_writer_and_is_told_how_many_lines_it_lost(pipe: tuple[int, int]) -> None:
    read, write = pipe
    lines = LineBuffer(write)
    count = 3 * MOST_WAITING
    for number in range(count):
        lines.write(f"{number} {'x' * 100}")
    assert lines.lost > 0
    found = received(read)
    while len(found) < count - lines.lost:
        lines.flush()
        found += received(read)
    assert [int(line.split()[0]) for line in found[: count - lines.lost]] == [*range(count - lines.lost)]
    lines.write("after")
    *_, report, after = [*found, *received(read)]
    assert json.loads(report)["lines"] == lines.lost
    assert after == "after"


def test_a_closed_pipe_costs_lines_only(pipe: tuple[int, int]) -> None:
    read, write = pipe
    os.close(read)
    lines = LineBuffer(write)
    for _ in range(3):
        lines.write("lost")
    assert lines.lost == 3


def test_a_closed_descriptor_costs_lines_only(pipe: tuple[int, int]) -> None:
    _, write = pipe
    os.close(write)
    lines = LineBuffer(write)
    lines.write("lost")
    assert lines.lost == 1


def test_a_full_disk_costs_lines_only_and_what_follows_begins_on_a_line_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "log").open("wb") as file:
        lines, room, write = LineBuffer(file.fileno()), 10, os.write

        def nearly_full(descriptor: int, text: bytes) -> int:
            nonlocal room
            if not room:
                raise OSError(errno.ENOSPC, "no space left on device")
            written = write(descriptor, text[:room])
            room -= written
            return written

        monkeypatch.setattr(os, "write", nearly_full)
        lines.write("one")
        lines.write("two-and-more")
        lines.write("three")
        assert lines.lost == 2
        room = 1000
        lines.write("four")
    assert (tmp_path / "log").read_text().splitlines()[:3] == ["one", "two-an", "four"]
    assert json.loads((tmp_path / "log").read_text().splitlines()[3])["lines"] == 2


def test_a_line_longer_than_a_pipe_takes_at_once_arrives_whole(pipe: tuple[int, int]) -> None:
    read, write = pipe
    lines = LineBuffer(write)
    lines.write("y" * 200_000)
    lines.write("next")
    found = ""
    while not found.endswith("next\n"):
        os.set_blocking(read, False)
        found += os.read(read, 1 << 20).decode()
        lines.flush()
    assert found == "y" * 200_000 + "\nnext\n"


def test_a_text_that_is_not_unicode_is_written_with_escapes(pipe: tuple[int, int]) -> None:
    read, write = pipe
    LineBuffer(write).write("file \udcff")
    assert received(read) == ["file \\udcff"]


def test_a_forked_process_neither_writes_nor_counts_its_parents_lines(pipe: tuple[int, int]) -> None:
    read, write = pipe
    lines = LineBuffer(write)
    while not lines.lost:
        lines.write("x" * 10_000)
    lines.forget()
    received(read)
    lines.flush()
    assert (received(read), lines.lost) == ([], 0)


def test_other_threads_write_the_lines_of_an_event_loop_and_leave_its_timer_alone(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer may be cancelled on the thread of its loop alone."""
    read, write = pipe
    lines = LineBuffer(write)
    threads: list[int] = []

    class Timer:
        def cancel(self) -> None:
            threads.append(threading.get_ident())

    monkeypatch.setattr(line_buffer, "MOST_LINES", 512)  # all tests write each line at once

    async def run() -> list[str]:
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda *_: Timer())
        lines.write("first", urgent=False)
        thread = threading.Thread(target=lines.write, args=("second",))
        thread.start()
        thread.join()
        found = received(read)
        lines.write("third")
        return found

    assert asyncio.run(run()) == ["first", "second"]
    assert received(read) == ["third"]
    assert threads == [threading.get_ident()]
