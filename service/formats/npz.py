"""NumPy's archives of arrays, .npz, without pickle: what `numpy.savez` and `savez_compressed` write.

An archive is read with the sizes that its directory and the headers of its arrays declare. Both are compared with the
limits before memory is allocated, and no more bytes are decompressed than they declare.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from isal.isal_zlib import crc32  # ten times as fast as that of zlib
from numpy.typing import NDArray

from ..errors import InvalidInput, LatentserveError, MalformedBody
from . import npy
from .npy import Buffer

Arrays = Mapping[str, NDArray[np.generic]]

# Maximum members of an archive. np.savez writes one for each array; listing very many is slow.
MAX_MEMBERS = 64
# The end of an archive: its signature, two numbers of disks, two of members, the size and the place of the directory,
# and the size of a comment.
_END = struct.Struct("<4s4H2LH")
_MAX_COMMENT = 2**16 - 1
# A zip64 archive has a locator of this size and signature before the end, and sizes that the end does not have.
_LOCATOR, _LOCATOR_SIZE = b"PK\x06\x07", 20
# A member of the directory has 46 bytes, and a name.
_MAX_DIRECTORY = MAX_MEMBERS * 1024
# The header before a member's content, and its entry in the directory: a signature, versions, flags, the compression,
# time and date, checksum, two sizes, and the lengths of the name and of further fields.
_LOCAL = struct.Struct("<4s5H3L2H")
_MEMBER = struct.Struct("<4s6H3L5H2L")
_VERSION = 20
_DATE = 1 << 5 | 1  # 1 January 1980, the first day that an archive can name
_ENCRYPTED = 1
# Content is copied in pieces of this size, so that the interpreter's lock is never held for long.
_PIECE = 2**20
# What bodies begin with: an archive with and without members, and what is sent in its place.
_ARCHIVES = b"PK\x03\x04", b"PK\x05\x06"
_PICKLE = b"\x80"
_AS_SAVED = "an archive as numpy.savez writes it"


@contextmanager
def opened(data: bytes | bytearray, pointer: str = "") -> Iterator[zipfile.ZipFile]:
    """The archive in `data`; `pointer` is the JSON pointer of its field, for errors.

    Raises:
        MalformedBody: it is damaged, or has several disks or the zip64 format, or the block raises another error than
            a LatentserveError.
        InvalidInput: it has more than MAX_MEMBERS members.
    """
    try:
        _check_end(data, pointer)
        with zipfile.ZipFile(_Bytes(data)) as archive:
            if len(archive.filelist) > MAX_MEMBERS:
                raise _too_many(pointer)
            yield archive
    except LatentserveError:
        raise
    # zipfile raises BadZipFile, zlib.error, RuntimeError, ValueError, IndexError and more for damaged archives.
    except Exception as error:
        raise MalformedBody(f"the .npz archive cannot be read: {error}", pointer=pointer, allowed=_AS_SAVED) from error


class _Bytes(io.RawIOBase):
    """Bytes as a file, without the copy that BytesIO makes of a bytearray."""

    def __init__(self, data: Buffer) -> None:
        self._data = memoryview(data)
        self._at = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to `offset` from the beginning, from here, or from the end, but not before the beginning."""
        self._at = max(0, (0, self._at, len(self._data))[whence] + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Copy the next bytes into `buffer`."""
        piece = self._data[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def _check_begin(data: bytes | bytearray) -> None:
    """Raise MalformedBody for a body that does not begin as an archive does, and say what it is instead."""
    if data.startswith(_ARCHIVES):
        return
    if not data:
        found = "the body is empty"
    elif data.startswith(npy.MAGIC):
        found = "the body is one array in .npy format; send an archive of named arrays, as numpy.savez writes it"
    elif data.startswith(_PICKLE):
        found = "the body is a pickle, and pickles are never read; send an archive as numpy.savez writes it"
    else:
        found = f"the body is not an .npz archive: it begins with the bytes {bytes(data[:8])!r}"
    raise MalformedBody(found, allowed=_AS_SAVED)


def _check_end(data: bytes | bytearray, pointer: str) -> None:
    """Check what the end of an archive declares, before its directory is read."""
    at = data.rfind(b"PK\x05\x06", max(0, len(data) - _END.size - _MAX_COMMENT))
    if at < 0 or len(data) - at < _END.size:
        raise MalformedBody("the .npz archive has no end; it may be truncated", pointer=pointer, allowed=_AS_SAVED)
    _, disk, first, here, entries, size, _, _ = _END.unpack_from(data, at)
    if disk or first or here != entries:
        raise MalformedBody("the .npz archive spans several disks", pointer=pointer, allowed="one file")
    if data[max(0, at - _LOCATOR_SIZE) :].startswith(_LOCATOR):
        raise MalformedBody("the .npz archive has the zip64 format", pointer=pointer, allowed="at most 4 GiB")
    if entries > MAX_MEMBERS or size > _MAX_DIRECTORY:
        raise _too_many(pointer)


def _too_many(pointer: str) -> InvalidInput:
    return InvalidInput("the archive has too many members", pointer=pointer, allowed=f"at most {MAX_MEMBERS}")


def members(archive: zipfile.ZipFile, pointer: str = "") -> dict[str, zipfile.ZipInfo]:
    """The members of an archive but its folders, by their names without the ending .npy.

    Raises InvalidInput if two have one name.
    """
    files = [info for info in archive.filelist if info.filename[-1:] != "/"]
    named = {info.filename.removesuffix(".npy"): info for info in files}
    if len(named) < len(files):
        raise InvalidInput(
            "the archive has several arrays of one name", pointer=pointer, allowed="a name for each array"
        )
    return named


def check_member(info: zipfile.ZipInfo, pointer: str = "") -> None:
    """Raise MalformedBody if a member is encrypted, or compressed in a way that NumPy does not write."""
    if info.flag_bits & _ENCRYPTED or info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise MalformedBody(
            f"{info.filename!r} is encrypted, or compressed by other means than deflate",
            pointer=pointer,
            allowed=_AS_SAVED,
        )


def read_arrays(
    data: bytes | bytearray, max_elements: int, refused: dict[str, InvalidInput] | None = None
) -> dict[str, NDArray[np.generic]]:
    """All arrays of an archive by their names: numbers, booleans and unicode texts, of any shape.

    They are writable copies in native byte order and C order, and share no memory with `data`.

    Args:
        data: the archive, its members stored or deflated.
        max_elements: maximum numbers, and characters of texts, in all arrays together.
        refused: receives the errors of arrays with elements of another type, by their names. Each of these arrays is
            then a `placeholder` in the result. Without `refused`, the first error is raised.

    Raises:
        MalformedBody: the body is no archive; or the archive or an array is damaged, encrypted, or contradicts its
            header.
        InvalidInput: an array has elements of another type, two arrays have one name, or there are too many arrays.
        BodyTooLarge: there are more than `max_elements` elements.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    left = max_elements
    _check_begin(data)
    with opened(data) as archive:
        for name, info in members(archive).items():
            pointer = f"/{name.replace('~', '~0').replace('/', '~1')}"
            check_member(info, pointer)
            read = _stored if info.compress_type == zipfile.ZIP_STORED else _deflated
            try:
                content, header = read(archive, info, data, pointer, left)
            except InvalidInput as error:
                if refused is None:
                    raise
                refused[name], arrays[name] = error, placeholder()
                continue
            left -= header.elements
            arrays[name] = header.values(content)
    return arrays


def placeholder() -> NDArray[np.bool_]:
    """The array in the place of one that is not read. No field of a request accepts it."""
    return np.empty(0, np.bool_)


Content = tuple[bytearray | memoryview, npy.Plain]


def _stored(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: Buffer, pointer: str, left: int) -> Content:
    """A member that is not compressed, as a view of the archive's bytes."""
    with archive.open(info):  # compares the two headers of the member
        pass
    begin = info.header_offset + _LOCAL.size + sum(_LOCAL.unpack_from(data, info.header_offset)[-2:])
    content = memoryview(data)[begin : begin + info.file_size]
    header = npy.plain(content, pointer, left)
    _check_length(len(content), header, pointer)
    if info.compress_size != info.file_size or crc32(content) != info.CRC:
        raise MalformedBody("the array's checksum differs from that of its content", pointer=pointer, allowed=_AS_SAVED)
    return content, header


def _deflated(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: Buffer, pointer: str, left: int) -> Content:
    """A member that is compressed. Its content is as long as its array declares, and no longer."""
    with archive.open(info) as stream:
        head = stream.read(npy.MAX_HEADER)
        header = npy.plain(head, pointer, left)
        # A stream has no more bytes than `file_size`.
        _check_length(info.file_size, header, pointer)
        content = bytearray(head)
        while piece := stream.read(min(_PIECE, header.end + 1 - len(content))):
            content += piece  # memory grows with the bytes that there are
        _check_length(len(content), header, pointer)
    return content, header


def _check_length(length: int, header: npy.Plain, pointer: str) -> None:
    if length != header.end:
        more = "more" if length > header.end else "less"
        raise MalformedBody(
            f"there is {more} data than the array's shape {header.shape} and {header.dtype.itemsize} bytes an element "
            "need",
            pointer=pointer,
            allowed=f"{header.end} bytes in all",
        )


def write_arrays(arrays: Arrays) -> bytes | memoryview:
    """The arrays as an archive that `numpy.load` reads, not compressed; the same arrays always give the same bytes.

    The names are ASCII, the arrays of plain types, and all of them together smaller than 4 GiB.
    """
    # `numpy.savez` takes ten times as long for small arrays.
    pieces: list[bytes | memoryview] = []
    directory: list[bytes] = []
    at = 0
    for name, array in arrays.items():
        values = np.asarray(array, order="C")
        head, content, file = npy.header(values), values.reshape(-1).view(np.uint8).data, f"{name}.npy".encode("ascii")
        size, checksum = len(head) + len(content), crc32(content, crc32(head))
        common = _VERSION, 0, zipfile.ZIP_STORED, 0, _DATE, checksum, size, size, len(file), 0
        directory += [_MEMBER.pack(b"PK\x01\x02", _VERSION, *common, 0, 0, 0, 0, at), file]
        pieces += [_LOCAL.pack(b"PK\x03\x04", *common), file, head, content]
        at += _LOCAL.size + len(file) + size
    listing = b"".join(directory)
    end = _END.pack(b"PK\x05\x06", 0, 0, len(arrays), len(arrays), len(listing), at, 0)
    return _joined([*pieces, listing, end])


def _joined(pieces: Sequence[bytes | memoryview]) -> bytes | memoryview:
    """All pieces, copied in parts of at most `_PIECE` bytes."""
    size = sum(map(len, pieces))
    if size <= _PIECE:
        return b"".join(pieces)
    out, at = memoryview(np.empty(size, np.uint8)), 0  # type: ignore[arg-type]
    for piece in pieces:
        for begin in range(0, len(piece), _PIECE):
            part = piece[begin : begin + _PIECE]
            out[at : at + len(part)] = part
            at += len(part)
    return out
