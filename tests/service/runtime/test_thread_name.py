"""Names of threads in the system's tools."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from service.runtime.thread_name import LENGTH, show_name


@pytest.mark.skipif(sys.platform != "linux", reason="the names are read from /proc")
def test_a_thread_shows_the_beginning_of_its_name_and_others_keep_theirs() -> None:
    found: list[str] = []

    def story() -> None:
        show_name("batcher-gan-inversions")
        found.append(Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().strip())

    own = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
    before = own.read_text()
    thread = threading.Thread(target=story)
    thread.start()
    thread.join()
    assert found == ["batcher-gan-inversions"[:LENGTH]]
    assert own.read_text() == before
