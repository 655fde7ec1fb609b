"""The outcome of a scenario, and steps that several have in common."""

from __future__ import annotations

import asyncio
import re
import time
from typing import NamedTuple

from benchmarks.faults.judging import Known, learn
from benchmarks.faults.ledger import Ledger
from benchmarks.faults.mixture import requests
from benchmarks.serving.connection import Call, Caller
from benchmarks.serving.processes import descendants

TERM_SECONDS = 15.0  # within which a service ends that need not wait for long requests


class Skipped(Exception):
    """This machine does not have what the scenario needs; the message says what."""


class Outcome(NamedTuple):
    """The account of a scenario, and what else it measured."""

    ledger: Ledger
    lines: list[str]


async def small(port: int, most: int = 60) -> list[Known]:
    """Known requests of every kind but the few that take more than a tenth of a second."""
    found = [(name, request) for name, request in requests(1) if "invert" not in name and "batch" not in name]
    return await learn(port, found[-most:])


async def metric(port: int, name: str) -> float:
    """The sum of a metric over its labels."""
    caller = Caller(port)
    text = (await caller(Call("GET", "/metrics"))).body.decode()
    caller.close()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*?}})? (\S+)$", text, re.MULTILINE))


async def seconds_until(port: int, name: str, value: float, most: float) -> float:
    """Seconds until a metric has this value; `most` if it does not have it by then."""
    start = time.monotonic()
    while (seconds := time.monotonic() - start) < most:
        if await metric(port, name) == value:
            return seconds
        await asyncio.sleep(0.02)
    return most


def replicas(pid: int) -> list[int]:
    """The processes below the supervisor `pid`."""
    return sorted(descendants(pid)[1:])
