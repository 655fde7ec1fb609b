"""The access log: which requests have a line, and when it is written."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime
from typing import Any

import pytest

from service.runtime import line_buffer
from service.runtime.line_buffer import LineBuffer
from service.settings import Settings
from service.web.access_log import AccessLog

ID = "recorded-here"


@pytest.fixture(autouse=True)
def lines_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_buffer, "MOST_LINES", 512)


@pytest.fixture
def lines(capfd: pytest.CaptureFixture[str]) -> Any:
    """A function that returns the lines of `record` written so far. Other applications may write lines of their own."""

    def read() -> list[dict[str, Any]]:
        written = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
        return [line for line in written if line.get("request_id") == ID]

    return read


def record(log: AccessLog, times: int = 1, status: int = 200, seconds: float = 0.01) -> None:
    for _ in range(times):
        log.record(ID, "GET", '/a"b', status, seconds, 7)


def test_a_line_has_the_fields_of_its_request(lines: Any) -> None:
    before = datetime.now(UTC)
    record(AccessLog(Settings(), LineBuffer()), seconds=0.0123456)
    (line,) = lines()
    time = datetime.fromisoformat(line.pop("timestamp"))
    assert (time - before).total_seconds() == pytest.approx(0, abs=5)
    assert line == {
        "event": "request", "level": "info", "request_id": ID, "method": "GET", "path": '/a"b', "status": 200,
        "milliseconds": 12.346, "body_bytes": 7,
    }  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.25, 0.3, 1.0])
def test_a_share_of_the_successful_requests_has_a_line(lines: Any, share: float) -> None:
    record(AccessLog(Settings(access_log_share=share), LineBuffer()), times=1000)
    assert len(lines()) == pytest.approx(1000 * share, abs=1)


def test_failed_and_slow_requests_always_have_a_line(lines: Any) -> None:
    log = AccessLog(Settings(access_log_share=0, slow_seconds=2), LineBuffer())
    record(log, status=404)
    record(log, status=503)
    record(log, seconds=2)
    record(log, seconds=1.9)
    assert [line["status"] for line in lines()] == [404, 503, 200]


def test_a_higher_level_hides_the_requests(lines: Any) -> None:
    record(AccessLog(Settings(log_level="warning"), LineBuffer()), status=500)
    assert lines() == []


def test_lines_wait_for_one_another_on_an_event_loop(lines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_buffer, "FLUSH_SECONDS", 0.01)

    async def run() -> None:
        log = AccessLog(Settings(), LineBuffer())
        record(log, times=3)
        assert lines() == []
        await asyncio.sleep(0.1)
        assert len(lines()) == 3

    asyncio.run(run())


def test_an_urgent_line_is_written_at_once_after_those_that_wait(lines: Any) -> None:
    async def run() -> None:
        log = AccessLog(Settings(), LineBuffer())
        record(log, times=2)
        record(log, status=500)
        assert [line["status"] for line in lines()] == [200, 200, 500]

    asyncio.run(run())


def test_the_number_of_lines_that_wait_is_bounded(lines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_buffer, "MOST_LINES", 10)

    async def run() -> None:
        record(AccessLog(Settings(), LineBuffer()), times=25)
        assert len(lines()) == 20

    asyncio.run(run())


def test_lines_are_written_in_pieces_that_a_pipe_takes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes share one stderr; a larger piece could be mixed with a line of another process."""
    pieces: list[bytes] = []

    def write(_: int, piece: bytes) -> int:
        pieces.append(piece)
        return len(piece)

    monkeypatch.setattr(os, "write", write)
    buffer = LineBuffer()

    async def fill() -> None:
        for number in range(300):
            buffer.write(f"{number:100d}é", urgent=False)
        buffer.flush()

    asyncio.run(fill())
    assert max(map(len, pieces)) <= line_buffer.ATOMIC_BYTES
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert [int(line[:-1]) for line in b"".join(pieces).decode().splitlines()] == list(range(300))
