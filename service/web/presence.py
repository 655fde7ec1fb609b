"""Which running requests are to be watched for a client that has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT")


class Presence(Generic[KeyT]):
    """The requests that run, and one timer for all of them, because one for each would take longer than most requests.

    Args:
        seconds: a request that has run for longer than this, and for at most twice as long, is to be watched.
        watch: begins to watch a request.
    """

    def __init__(self, seconds: float, watch: Callable[[KeyT], object]) -> None:
        self._seconds = seconds
        self._watch = watch
        self._recent: dict[KeyT, None] = {}  # since the last tick
        self._older: dict[KeyT, None] = {}  # since the tick before
        self._is_ticking = False

    def enter(self, request: KeyT) -> None:
        """Note that a request begins."""
        self._recent[request] = None
        if not self._is_ticking:
            self._is_ticking = True
            asyncio.get_running_loop().call_later(self._seconds, self._tick)

    def leave(self, request: KeyT) -> None:
        """Note that a request has ended."""
        if request in self._recent:
            del self._recent[request]
        else:
            self._older.pop(request, None)

    def _tick(self) -> None:
        late, self._older, self._recent = self._older, self._recent, {}
        for request in late:
            self._watch(request)
        self._is_ticking = bool(self._older)
        if self._is_ticking:
            asyncio.get_running_loop().call_later(self._seconds, self._tick)
