"""Requests whose right answers are known, and the fate of each answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmarks.faults.ledger import Fate, Ledger
from benchmarks.serving.connection import Answer, Call, Caller, to_bytes
from benchmarks.serving.mixtures import essence

# Seconds after which a request without an answer is lost, unless a scenario says otherwise.
PATIENCE = 60.0
# The statuses of a refusal: too many requests of one caller, overloaded, past the deadline.
REFUSALS = {429, 503, 504}
_MUST_SAY_WHEN = {429, 503}
# What a probe answers while the service drains. Nobody should come again then.
_NOT_READY = b":not-ready"


class Known(NamedTuple):
    """A request and the essence of its right answer."""

    name: str
    request: bytes
    expected: tuple[int, bytes, bytes, bytes]


async def learn(port: int, requests: Iterable[tuple[str, bytes]]) -> list[Known]:
    """The answers to all requests, one after another over one connection, as those to expect from now on.

    Raises ValueError if an answer has a status from 500.
    """
    caller = Caller(port)
    found = []
    for name, request in requests:
        answer = await asyncio.wait_for(caller.raw(request), PATIENCE)
        if answer.status >= 500:
            raise ValueError(f"{name}: {answer.status} {answer.body[:300]!r}")
        found.append(Known(name, request, essence(answer)))
        if answer.header(b"connection") == b"close":
            caller.close()
    caller.close()
    return found


def known_calls(calls: Sequence[Call]) -> list[tuple[str, bytes]]:
    """Names and bytes of requests, as `learn` takes them."""
    return [(f"{call.method} {call.path}", to_bytes(call)) for call in calls]


def fate_of(answer: Answer, expected: tuple[int, bytes, bytes, bytes]) -> Fate:
    """Right, refused, or wrong. A refusal that must say when to come again and does not is wrong."""
    if answer.status == expected[0] and essence(answer) == expected:
        return Fate.ANSWERED
    if answer.status in REFUSALS:
        must_say_when = answer.status in _MUST_SAY_WHEN and _NOT_READY not in answer.body
        says_when = answer.header(b"retry-after").isdigit() or not must_say_when
        return Fate.REFUSED if says_when else Fate.WRONG
    return Fate.WRONG


class Client:
    """One connection that settles each of its requests in a ledger, and is opened anew after its end."""

    def __init__(self, port: int, ledger: Ledger, patience: float = PATIENCE) -> None:
        self._caller = Caller(port)
        self._ledger = ledger
        self._patience = patience
        self.ended = Fate.LOST  # the fate of a request whose connection ends; CUT once its process was killed

    async def ask(self, known: Known, extra: bytes = b"") -> Fate:
        """Send a request, with `extra` lines in its head, and settle it."""
        self._ledger.offer()
        request = known.request.replace(b"\r\n\r\n", b"\r\n" + extra + b"\r\n", 1) if extra else known.request
        try:
            answer = await asyncio.wait_for(self._caller.raw(request), self._patience)
        except TimeoutError:
            self._caller.close()
            return self._settle(Fate.LOST, f"{known.name}: no answer in {self._patience:g} s")
        except OSError as error:  # also if the connection is refused
            return self._settle(self.ended, f"{known.name}: {error}")
        if answer.header(b"connection") == b"close":
            self._caller.close()
        return self._settle(fate_of(answer, known.expected), f"{known.name}: {answer.status} {answer.body[:200]!r}")

    def _settle(self, fate: Fate, what: str) -> Fate:
        self._ledger.settle(fate, what)
        return fate

    def close(self) -> None:
        """Close the connection."""
        self._caller.close()
