"""The connections and messages of a replica, which come from its supervisor."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress

from ..errors import Overloaded
from . import channel
from .board import Seat
from .channel import Pair, receive_connections, unpack
from .sources import Adopt, Stop

# Seconds to wait for the supervisor's answer.
COLLECT_SECONDS = 5.0
# The name of a snapshot that answers no question.
UNASKED = b"\xff\xff\xff\xff"


class Supervised:
    """One replica's end of its channel. The `seat` counts connections that are lost on their way."""

    def __init__(self, pair: Pair, seat: Seat) -> None:
        self._pair = pair
        self._seat = seat
        self.snapshot: Callable[[], bytes] = lambda: b"[]"
        """Returns the metrics of this process."""
        self.measure: Callable[[], None] = lambda: None
        """Reads what takes long, for the snapshot. It is called on a thread."""
        self._snapshots: set[asyncio.Task[None]] = set()
        self._stop: Stop = lambda force: None
        self._adopt: Adopt = lambda connection, _: connection.close()
        self._questions: dict[bytes, asyncio.Future[list[bytes]]] = {}
        self._names = itertools.count()

    def attach(self, stop: Stop) -> None:
        """Obey from now on. Called on the event loop."""
        self._stop = stop
        asyncio.get_running_loop().add_reader(self._pair.messages.socket, self._read)

    def open(self, adopt: Adopt) -> None:
        """Call `adopt` with each connection from now on."""
        self._adopt = adopt
        asyncio.get_running_loop().add_reader(self._pair.connections, self._take)
        self._tell(channel.SERVING)

    def close(self) -> None:
        """Call `adopt` with the connections that wait, and then no more."""
        self._take()
        asyncio.get_running_loop().remove_reader(self._pair.connections)

    async def collect(self) -> list[bytes]:
        """The snapshots of all processes.

        Raises Overloaded if the supervisor does not answer.
        """
        name = next(self._names).to_bytes(4, "big")
        answer = self._questions[name] = asyncio.get_running_loop().create_future()
        self._tell(channel.WANTED, name)
        try:
            return await asyncio.wait_for(answer, COLLECT_SECONDS)
        except TimeoutError:
            raise Overloaded("the supervisor does not answer; try again later", retry_after=1) from None
        finally:
            del self._questions[name]

    def refuse(self, reason: str) -> None:
        """Report why this replica cannot start."""
        self._pair.messages.send(channel.REFUSED, reason.encode())

    def report(self) -> None:
        """Send the last snapshot."""
        self._pair.messages.send(channel.SNAPSHOT, UNASKED + self.snapshot())

    def _take(self) -> None:
        try:
            for connection, is_reserved in receive_connections(self._pair.connections):
                if connection is None:
                    self._seat.close_connection()
                else:
                    self._adopt(connection, is_reserved)
        except EOFError:
            self._orphaned()

    def _read(self) -> None:
        try:
            received = self._pair.messages.receive()
        except EOFError:
            self._orphaned()
            return
        for kind, content in received:
            if kind == channel.SNAPSHOT:
                task = asyncio.get_running_loop().create_task(self._answer(content))
                self._snapshots.add(task)
                task.add_done_callback(self._snapshots.discard)
            elif kind == channel.SNAPSHOTS:
                answer = self._questions.get(content[:4])
                if answer is not None and not answer.done():
                    answer.set_result(unpack(content[4:]))
            elif kind in {channel.STOP, channel.FORCE}:
                self._stop(kind == channel.FORCE)

    async def _answer(self, name: bytes) -> None:
        with suppress(RuntimeError):  # no thread can be started
            await asyncio.to_thread(self.measure)
        self._tell(channel.SNAPSHOT, name + self.snapshot())

    def _orphaned(self) -> None:
        """Stop at once, because the supervisor has ended."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pair.connections)
        loop.remove_reader(self._pair.messages.socket)
        self._stop(True)

    def _tell(self, kind: bytes, content: bytes = b"") -> None:
        self._pair.messages.send(kind, content)
        self._flush()

    def _flush(self) -> None:
        loop, messages = asyncio.get_running_loop(), self._pair.messages
        if messages.flush():
            loop.remove_writer(messages.socket)
        else:
            loop.add_writer(messages.socket, self._flush)
