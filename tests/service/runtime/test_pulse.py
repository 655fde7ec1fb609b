"""When an event loop counts as standing still."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.runtime import pulse
from service.runtime.pulse import MOST_SECONDS, Pulse

PID = 7


class Process:
    """A process in a folder like /proc, with two threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / str(PID)
        for thread in ("7", "8"):
            (self._folder / "task" / thread).mkdir(parents=True)
        self.set()

    def set(self, state: str = "S", waited: tuple[float, float] = (0.0, 0.0)) -> None:
        """Set its state, and the seconds that each thread has waited for a processor."""
        (self._folder / "stat").write_text(f"{PID} (a ) name) {state} 1 1")
        for thread, seconds in zip(("7", "8"), waited, strict=True):
            (self._folder / "task" / thread / "schedstat").write_text(f"5 {int(seconds * 1e9)} 3")


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Process:
    monkeypatch.setattr(pulse, "PROC", tmp_path)
    return Process(tmp_path)


def test_the_seconds_without_a_turn_add_up_until_the_next_turn(process: Process) -> None:
    loop = Pulse()
    assert [loop.look(PID, 5.0, now) for now in (10.0, 11.0, 12.0, 13.5)] == [0.0, 0.0, 1.0, 2.5]
    assert loop.look(PID, 13.7, 14.0) == 0.0


def test_another_process_begins_anew(process: Process) -> None:
    loop = Pulse()
    for now in (10.0, 11.0, 12.0):
        loop.look(PID, 5.0, now)
    assert loop.look(PID + 1, 5.0, 13.0) == 0.0


def test_time_in_which_a_thread_waits_for_a_processor_does_not_count(process: Process) -> None:
    loop = Pulse()
    loop.look(PID, 5.0, 10.0)
    loop.look(PID, 5.0, 11.0)
    process.set(waited=(0.0, 0.75))
    assert loop.look(PID, 5.0, 12.0) == pytest.approx(0.25)


def test_a_process_that_is_stopped_does_not_stand_still(process: Process) -> None:
    loop = Pulse()
    loop.look(PID, 5.0, 10.0)
    loop.look(PID, 5.0, 11.0)
    process.set(state="T")
    assert loop.look(PID, 5.0, 12.0) == 0.0


def test_where_stops_count_a_process_that_is_stopped_stands_still(process: Process) -> None:
    loop = Pulse(counts_stops=True)
    process.set(state="T")
    assert [loop.look(PID, 5.0, now) for now in (10.0, 11.0, 12.0)] == [0.0, 0.0, 1.0]


def test_a_long_pause_of_the_observer_counts_little(process: Process) -> None:
    loop = Pulse()
    loop.look(PID, 5.0, 10.0)
    loop.look(PID, 5.0, 11.0)
    assert loop.look(PID, 5.0, 500.0) == MOST_SECONDS


def test_without_proc_all_time_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "PROC", tmp_path / "absent")
    loop = Pulse()
    assert [loop.look(PID, 5.0, now) for now in (10.0, 11.0, 12.0)] == [0.0, 0.0, 1.0]
