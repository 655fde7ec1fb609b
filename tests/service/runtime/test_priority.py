"""Priorities of threads."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from service.runtime.priority import lower


@pytest.mark.skipif(sys.platform != "linux", reason="only there have threads a priority of their own")
def test_a_priority_that_an_operator_has_lowered_is_lowered_further_up_to_the_end() -> None:
    found: list[int] = []

    def story() -> None:
        for steps in (3, 0, 3, 19, 5):
            lower(steps)
            found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    own = os.getpriority(os.PRIO_PROCESS, 0)
    thread = threading.Thread(target=story)
    thread.start()
    thread.join()
    assert found == [min(19, own + steps) for steps in (3, 3, 6, 25, 30)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
