"""The end of a process that serves alone and whose event loop stands still."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from service.runtime import watchdog
from service.runtime.board import Board
from service.runtime.watchdog import Watchdog


def watched(hang_seconds: float) -> tuple[Board, Watchdog, list[float]]:
    """A board with one live replica, its watchdog, and the seconds for which `end` was called."""
    board, ended = Board(1, [], []), list[float]()
    board.seat(0).join()
    return board, Watchdog(board, hang_seconds, ended.append), ended


def test_an_event_loop_that_stands_still_ends_the_process_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LOOK_SECONDS", 0.01)
    _, dog, ended = watched(0.2)
    dog.start()
    until = time.monotonic() + 60
    while not ended and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)
    dog.stop()
    assert len(ended) == 1
    assert ended[0] > 0.2


def test_an_event_loop_that_turns_is_left_alone() -> None:
    board, dog, ended = watched(0.01)
    for _ in range(5):
        board.seat(0).beat(stuck=False)
        assert not dog.look()
        time.sleep(0.02)
    assert not ended


def test_a_service_that_stops_has_its_own_limits() -> None:
    board, dog, ended = watched(0.01)
    board.drain()
    for _ in range(5):
        assert not dog.look()
        time.sleep(0.02)
    assert not ended


def test_a_log_that_hangs_does_not_keep_the_process_alive() -> None:
    """The event loop may stand still in a write to the log."""
    story = """
import time
from service import serving
serving.LAST_WORDS_SECONDS = 0.1
serving.log = type("Log", (), {"critical": lambda *_, **__: time.sleep(3600)})()
serving._end_hanging(30.0)
"""
    assert subprocess.run([sys.executable, "-c", story], timeout=120, check=False).returncode == 1
