"""The name of a thread, as the system's tools show it."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from pathlib import Path

# The system keeps this many bytes of a name.
LENGTH = 15


def show_name(name: str) -> None:
    """Give this thread the name, in ASCII, that `top -H` and `perf` show, on Linux. Longer names are cut.

    A system that forbids it keeps the name of the process.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name[:LENGTH], "ascii")
