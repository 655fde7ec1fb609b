"""Reading of multipart/form-data, in memory. An incomplete or damaged form raises MalformedBody."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ..errors import MalformedBody
from .media import refuse_encoding
from .routing import within_deadline
from .threads import off_loop

MAX_PARTS = 64
# Bytes of a text in another charset than UTF-8. One call converts it, and some of Python's codecs are slow.
MAX_CONVERTED = 1 << 16
_PIECE_BYTES = 1 << 20


class Part(NamedTuple):
    """One part of a form; `filename` is None for a text part."""

    name: str
    content: bytes
    filename: str | None


class _Contents:
    """The bytes of a part, in pieces of at least _PIECE_BYTES, but for the last one.

    One buffer for all would be copied as it grows. The event loop would stand still for tens of milliseconds.
    """

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []
        self._last = io.BytesIO()

    def write(self, data: bytes) -> None:
        """Append `data`, which may be a single byte: the parser cuts at each carriage return."""
        self.size += len(data)
        self._last.write(data)
        if self._last.tell() >= _PIECE_BYTES:
            self._pieces.append(self._last.getvalue())
            self._last = io.BytesIO()

    def take(self) -> bytes:
        """All bytes, whose pieces are released. bytes.join gives up the interpreter's lock where it copies much."""
        whole = b"".join([*self._pieces, self._last.getvalue()])
        self._pieces.clear()
        self._last = io.BytesIO()
        return whole


class _Found(NamedTuple):
    """A part of which the content is still in pieces."""

    name: str
    contents: _Contents
    filename: str | None


class _Parser(MultiPartParser):
    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes, None], max_parts: int) -> None:
        # The edge limits the body as a whole, so parts have no limits of their own.
        super().__init__(headers, self._whole(stream), max_files=max_parts, max_fields=max_parts)
        self._complete = False
        self._contents = _Contents()
        self.found: list[_Found] = []

    @property
    def charset(self) -> str:
        """The charset that the form's media type declares for its texts."""
        return self._charset

    async def _whole(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not self._complete:  # the parser accepts a truncated form and drops its last part
            raise MultiPartException("it ends before its closing boundary.")

    def on_part_begin(self) -> None:
        super().on_part_begin()
        self._contents = _Contents()

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if self._current_part.file is not None:
            self._current_part.file.file.close()  # a temporary file, which would be written to the disk

    # Starlette would write files above 1 MB to the disk, which may be read-only. It would decode texts on the event
    # loop.
    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._contents.write(data[start:end])

    def on_part_end(self) -> None:
        file = self._current_part.file
        filename = None if file is None else file.filename or ""
        self.found.append(_Found(self._current_part.field_name, self._contents, filename))

    def on_end(self) -> None:
        self._complete = True


async def read_parts(request: Request, max_parts: int = MAX_PARTS) -> list[Part]:
    """The parts of a multipart/form-data body, in order; at most `max_parts` files and `max_parts` texts.

    Raises:
        MalformedBody: the form is invalid, ends early, has too many parts, or a long text in another charset than
            UTF-8.
        UnsupportedMediaType: the body is compressed.
        DeadlineExceeded: the body does not arrive before the request's deadline.
    """
    refuse_encoding(request)
    parser = _Parser(request.headers, request.stream(), max_parts)
    try:
        await within_deadline(request, parser.parse)
        size = sum(part.contents.size for part in parser.found)
        return await off_loop(size, _joined, parser.found, parser.charset)
    except MultiPartException as error:
        raise MalformedBody(f"the form cannot be read: {error.message}", allowed="multipart/form-data") from None
    except UnicodeError:  # the charset parameter names a codec that cannot decode the text
        raise MalformedBody(
            "the form's text is not in the charset that its media type declares", allowed="multipart/form-data in UTF-8"
        ) from None


def _joined(found: list[_Found], charset: str) -> list[Part]:
    return [
        # Some charsets decode to surrogates, which an answer in UTF-8 cannot contain.
        Part(
            part.name.encode(errors="replace").decode(),
            part.contents.take() if part.filename is not None else _text(part.contents, charset),
            part.filename,
        )
        for part in found
    ]


def _text(contents: _Contents, charset: str) -> bytes:
    """A text in UTF-8. As Starlette does, it is read as Latin-1 if its charset is not that of a text."""
    if charset == "utf-8":  # what reads the text decodes it
        return contents.take()
    if contents.size > MAX_CONVERTED:
        raise MalformedBody(
            f"the form has a text of {contents.size} bytes in the charset {charset}",
            allowed=f"UTF-8, or at most {MAX_CONVERTED} bytes",
        )
    text = contents.take()
    try:
        decoded = text.decode(charset)
    except (UnicodeDecodeError, LookupError):
        decoded = text.decode("latin-1")
    return decoded.encode(errors="replace")
