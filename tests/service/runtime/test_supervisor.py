"""The supervisor with replicas that fail, in a process of its own, because it forks and handles signals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from service.runtime.backoff import MOST_FAILED_STARTS

ROOT = Path(__file__).resolve().parents[3]

# Runs a supervisor of two replicas that call `run`, and prints the status, the reason, the events, and the children.
SCRIPT = """
import json, os, sys, time
from service.runtime import channel
from service.runtime.board import Board
from service.runtime.listening import listen
from service.runtime.supervisor import Rules, Supervisor

{run}

events = []
note = lambda event, **fields: events.append(event)
rules = Rules(max_connections=10, drain_seconds=0.0, shutdown_seconds=1.0, stall_seconds=60.0)
supervisor = Supervisor(listen("127.0.0.1", 0), Board(2, [], []), run, rules, b"", note)
status = supervisor.run()
try:
    left = os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    left = None
print(json.dumps([status, supervisor.reason, events, left]))
"""


def supervise(run: str) -> Any:
    script = SCRIPT.replace("{run}", run)
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return json.loads(ended.stdout)


def test_if_replicas_keep_dying_at_the_start_the_service_gives_up_with_status_1() -> None:
    status, reason, events, left = supervise("def run(seat, pair): return 3")
    assert (status, reason, left) == (1, "", None)
    assert MOST_FAILED_STARTS <= events.count("replica died") <= 2 * MOST_FAILED_STARTS
    assert events[-1] == "replicas keep dying at the start; the service ends"


def test_a_replica_that_cannot_start_ends_the_service_with_its_reason_and_status_2() -> None:
    run = """
def run(seat, pair):
    pair.messages.send(channel.REFUSED, b"no such device")
    return 2
"""
    status, reason, events, left = supervise(run)
    assert (status, reason, left) == (2, "no such device", None)
    assert "replicas keep dying at the start; the service ends" not in events


def test_a_replica_that_does_not_stop_is_killed() -> None:
    # The first replica asks for the end of the service, and the other one never reads its orders.
    run = """
def run(seat, pair):
    if seat.replica == 0:
        pair.messages.send(channel.REFUSED, b"the end")
        return 2
    time.sleep(3600)
"""
    status, reason, _, left = supervise(run)
    assert (status, reason, left) == (2, "the end", None)
