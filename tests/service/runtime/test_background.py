"""Work in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own, because work may be started in a process with one thread alone.
STORY = """
import asyncio, os, signal
from service.runtime import background

def well(): pass
def badly(): raise ValueError("as expected")
def killed(): os.kill(os.getpid(), signal.SIGKILL)

print(asyncio.run(background.start({work}, lambda: None).ended()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize(("work", "is_well"), [("well", True), ("badly", False), ("killed", False)])
def test_work_that_fails_or_is_killed_has_ended_badly(work: str, is_well: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STORY.replace("{work}", work)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [str(is_well)]
