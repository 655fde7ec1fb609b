"""`python -m service`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The command's implementation is replaced by one that gets a signal while it still loads.
SCRIPT = """
import os, sys, time, types
from service.__main__ import main

def run(command, given):
    os.kill(os.getpid(), {number})
    time.sleep(60)

implementation = types.ModuleType("service.commands")
implementation.run = run
sys.modules["service.commands"] = implementation
sys.modules["service"].commands = implementation
main(["serve"])
"""


@pytest.mark.parametrize("number", [2, 15])
def test_a_signal_during_the_start_ends_the_process_without_a_traceback(number: int) -> None:
    script = SCRIPT.replace("{number}", str(number))
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (128 + number, b"")
