"""Reading of multipart/form-data, in memory. An incomplete or damaged form raises MalformedBody."""

from __future__ import annotations

import io
import sys
from collections.abc import AsyncGenerator
from typing import NamedTuple

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ..errors import MalformedBody
from .media import refuse_encoding
from .routing import within_deadline

MAX_PARTS = 64


class Part(NamedTuple):
    """One part of a form; `filename` is None for a text part."""

    name: str
    content: bytes
    filename: str | None


class _Memory(io.BytesIO):
    """A file in memory, whose content is taken without a copy.

    To copy a large file, the interpreter's lock would be held for tens of milliseconds.
    """

    _rolled = False  # Starlette writes on a thread to files that are on the disk, or may be


class _Parser(MultiPartParser):
    # The edge limits the body as a whole, so parts stay in memory and have no limits of their own. By default the
    # parser would write files above 1 MB to the disk, which may be read-only, and refuse texts of that size.
    spool_max_size = sys.maxsize

    def __init__(self, headers: Headers, stream: AsyncGenerator[bytes, None], max_parts: int) -> None:
        super().__init__(
            headers, self._whole(stream), max_files=max_parts, max_fields=max_parts, max_part_size=sys.maxsize
        )
        self._complete = False
        self.texts: dict[int, bytes] = {}
        """The texts that need not be decoded, by their places among the parts."""

    async def _whole(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            yield chunk
        if not self._complete:  # the parser accepts a truncated form and drops its last part
            raise MultiPartException("it ends before its closing boundary.")

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        file = self._current_part.file
        if file is not None:
            file.file.close()
            file.file = _Memory()

    def on_part_end(self) -> None:
        text = self._current_part
        if text.file is None and self._charset == "utf-8":
            # To decode and encode a large text, the event loop would stand still for half a second.
            self.texts[len(self.items)] = bytes(text.data)
            self.items.append((text.field_name, ""))
        else:
            super().on_part_end()

    def on_end(self) -> None:
        self._complete = True


async def read_parts(request: Request, max_parts: int = MAX_PARTS) -> list[Part]:
    """The parts of a multipart/form-data body, in order; at most `max_parts` files and `max_parts` texts.

    Raises:
        MalformedBody: the form is invalid, ends early, or has too many parts.
        UnsupportedMediaType: the body is compressed.
        DeadlineExceeded: the body does not arrive before the request's deadline.
    """
    refuse_encoding(request)
    parser = _Parser(request.headers, request.stream(), max_parts)
    try:
        form = await within_deadline(request, parser.parse)
    except MultiPartException as error:
        raise MalformedBody(f"the form cannot be read: {error.message}", allowed="multipart/form-data") from None
    except UnicodeError:  # the charset parameter names a codec that cannot decode the text
        raise MalformedBody(
            "the form's text is not in the charset that its media type declares", allowed="multipart/form-data in UTF-8"
        ) from None
    try:
        return [
            # Some charsets decode to surrogates, which an answer in UTF-8 cannot contain.
            Part(name.encode(errors="replace").decode(), _content(value), value.filename or "")
            if isinstance(value, UploadFile)
            else Part(
                name.encode(errors="replace").decode(), parser.texts.get(place, value.encode(errors="replace")), None
            )
            for place, (name, value) in enumerate(form.multi_items())
        ]
    finally:
        await form.close()


def _content(upload: UploadFile) -> bytes:
    if not isinstance(upload.file, _Memory):
        raise TypeError("the parser did not keep the file in memory")
    return upload.file.getvalue()
