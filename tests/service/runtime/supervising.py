"""A supervisor in a process of its own, because it forks and handles signals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]

# Runs a supervisor of two replicas that call `run`, and prints the status, the reason, the events, and the children.
SCRIPT = """
import json, mmap, os, select, signal, sys, time
from service.runtime import channel, supervisor as supervisor_module
from service.runtime.board import Board
from service.runtime.listening import listen
from service.runtime.supervisor import Rules, Supervisor

rules = Rules(connections=10, drain_seconds=0.0, shutdown_seconds=1.0, stall_seconds=60.0, hang_seconds=60.0)
device = None

def received(pair):
    select.select([pair.messages.socket], [], [])
    return pair.messages.receive()

def until_stopped(pair):
    while not any(kind == channel.STOP for kind, _ in received(pair)):
        pass

{run}

events = []
note = lambda event, **fields: events.append(event)
supervisor = Supervisor(listen("127.0.0.1", 0), Board(2, [], []), run, rules, b"", note, device=device)
status = supervisor.run()
try:
    left = os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    left = None
print(json.dumps([status, supervisor.reason, events, left]))
"""


def supervise(run: str) -> Any:
    """The status, the reason, the events, and the result of waiting for children, with the definition of `run`."""
    script = SCRIPT.replace("{run}", run)
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return json.loads(ended.stdout)
