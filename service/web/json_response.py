"""Answers in JSON. Large ones are encoded on a thread beside the event loop, and sent in parts."""

from __future__ import annotations

import time

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..formats.arrays import to_json
from ..formats.json_slices import size, slices
from .threads import on_thread

# Answers of up to this many numbers are encoded on the event loop, within two milliseconds.
INLINE = 1 << 15
# Shorter pieces of text are sent together.
PART_BYTES = 1 << 17
# Seconds between two slices in which other threads can take the interpreter's lock. A thread that waits for it would
# otherwise wait for the interpreter's switch interval, which is longer than a slice.
_PAUSE_SECONDS = 1e-4


def json_response(content: object) -> Response:
    """An answer with status 200 and `content` as JSON: dicts, lists, numbers and ndarrays."""
    if size(content) <= INLINE:
        return Response(to_json(content), media_type="application/json")
    return _LargeResponse(content)


class _LargeResponse(Response):
    """An answer that is encoded when it is sent."""

    media_type = "application/json"

    def __init__(self, content: object) -> None:
        super().__init__()
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Encode the content, and send it slice by slice, at the pace of the client."""
        parts = await on_thread(self._encode)
        self.headers["content-length"] = str(sum(map(len, parts)))
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        parts.reverse()
        while parts:
            await send({"type": "http.response.body", "body": parts.pop(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _encode(self) -> list[bytes]:
        # The thread also releases the content: to return large arrays to the system takes milliseconds.
        content, self._content = self._content, None
        return _encoded(content)


def _encoded(content: object) -> list[bytes]:
    """The text in parts of at least PART_BYTES, but for the last one."""
    parts: list[bytes] = []
    waiting: list[bytes] = []
    for piece in slices(content):
        waiting.append(piece)
        if sum(map(len, waiting)) >= PART_BYTES:
            parts.append(b"".join(waiting))
            waiting.clear()
            time.sleep(_PAUSE_SECONDS)
    return [*parts, b"".join(waiting)]
