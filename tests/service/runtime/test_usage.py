"""What the process uses: when it is read, and on which thread."""

from __future__ import annotations

import asyncio
import errno
import sys
import time

import pytest
from starlette.testclient import TestClient

from service.runtime import usage
from service.runtime.usage import READING_SECONDS, Usage

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each reading of the memory, whether an event loop waited for it."""
    found: list[bool] = []

    def read(*_: object) -> int:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            found.append(False)
        else:
            found.append(True)
        return 1000

    monkeypatch.setattr(usage, "proportional_bytes", read)
    return found


def test_memory_is_read_once_in_a_while(readings: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    of_process = Usage()
    for _ in range(3):
        of_process.measure()
    assert len(readings) == 1
    now += READING_SECONDS
    of_process.measure()
    assert len(readings) == 2


def test_a_reading_that_fails_costs_its_value_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, "as expected")

    monkeypatch.setattr(usage, "open_files", fail)
    of_process = Usage()
    of_process.measure()
    of_process.refresh()


def test_metrics_are_answered_while_no_event_loop_waits_for_the_memory(
    client: TestClient, readings: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "READING_SECONDS", 0.0)
    answer = client.get("/metrics")
    assert readings == [False]
    assert "\nprocess_resident_memory_bytes 1000.0\n" in answer.text
