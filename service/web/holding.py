"""The body budget: how many bytes of bodies the service, and each caller, may hold at once."""

from __future__ import annotations

from ..errors import Overloaded
from ..runtime.board import Seat

# Smaller bodies are always taken. The number of connections bounds them.
SMALL_BODY_BYTES = 64 * 1024
# The part of the limit that one caller may hold, so that no caller can deny all others theirs.
CALLER_PART = 0.5


class Holding:
    """The bytes of one body that is not small.

    Args:
        seat: counts the bytes, over all processes.
        limit: bytes of all such bodies.
        caller: who sends it.
    """

    def __init__(self, seat: Seat, limit: int, caller: str) -> None:
        self._seat = seat
        self._limit = limit
        self._caller = caller
        self._size = 0

    def grow(self, size: int) -> None:
        """Note that `size` bytes are held now.

        Raises:
            Overloaded: all bodies, or those of its caller, have more bytes than they may have. A single one is taken.
        """
        seat, caller = self._seat, self._caller
        seat.add_body_bytes(size - self._size, caller)
        self._size = size
        held = seat.body_bytes()
        if held > self._limit and held > size:
            raise Overloaded("too many large bodies are being read; try again later", retry_after=1)
        held = seat.caller_bytes(caller)
        if held > CALLER_PART * self._limit and held > size:
            raise Overloaded(
                "too many large bodies of this client are being read; send fewer of them at once", retry_after=1
            )

    def release(self) -> None:
        """Note that the body is no longer held."""
        self._seat.add_body_bytes(-self._size, self._caller)
        self._size = 0
