"""NumPy's archives of arrays, .npz, without pickle: what `numpy.savez` and `savez_compressed` write.

An archive is read with the sizes that its directory and the headers of its arrays declare. Both are compared with the
limits before memory is allocated, and no more bytes are decompressed than they declare.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput, LatentserveError, MalformedBody
from . import npy
from .arrays import to_npy

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
# The header before a member's content: 26 bytes, the lengths of its name and of its extra field, and these two.
_LOCAL_SIZE, _LOCAL_LENGTHS = 30, struct.Struct("<HH")
_ENCRYPTED = 1
# Decompression copies pieces of this size, so that the interpreter's lock is never held for long.
_PIECE = 2**20


@contextmanager
def opened(data: bytes, pointer: str = "") -> Iterator[zipfile.ZipFile]:
    """The archive in `data`; `pointer` is the JSON pointer of its field, for errors.

    Raises:
        MalformedBody: it is damaged, or has several disks or the zip64 format, or the block raises another error than
            a LatentserveError.
        InvalidInput: it has more than MAX_MEMBERS members.
    """
    try:
        _check_end(data, pointer)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if len(archive.filelist) > MAX_MEMBERS:
                raise _too_many(pointer)
            yield archive
    except LatentserveError:
        raise
    # zipfile raises BadZipFile, zlib.error, RuntimeError, ValueError, IndexError and more for damaged archives.
    except Exception as error:
        raise MalformedBody(f"the .npz archive cannot be read: {error}", pointer=pointer) from error


def _check_end(data: bytes, pointer: str) -> None:
    """Check what the end of an archive declares, before its directory is read."""
    at = data.rfind(b"PK\x05\x06", max(0, len(data) - _END.size - _MAX_COMMENT))
    if at < 0 or len(data) - at < _END.size:
        raise MalformedBody("the .npz archive has no end; it may be truncated", pointer=pointer)
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
            f"{info.filename!r} is encrypted, or compressed by other means than deflate", pointer=pointer
        )


def read_arrays(data: bytes, max_elements: int) -> dict[str, NDArray[np.generic]]:
    """All arrays of an archive by their names: numbers, booleans and unicode texts, of any shape.

    They are writable copies in native byte order and C order, and share no memory with `data`.

    Args:
        data: the archive, its members stored or deflated.
        max_elements: maximum numbers, and characters of texts, in all arrays together.

    Raises:
        MalformedBody: the archive or an array is damaged, encrypted, or contradicts its header.
        InvalidInput: an array has elements of another type, two arrays have one name, or there are too many arrays.
        BodyTooLarge: there are more than `max_elements` elements.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    left = max_elements
    with opened(data) as archive:
        for name, info in members(archive).items():
            pointer = f"/{name.replace('~', '~0').replace('/', '~1')}"
            check_member(info, pointer)
            read = _stored if info.compress_type == zipfile.ZIP_STORED else _deflated
            content, header = read(archive, info, data, pointer, left)
            left -= header.elements
            arrays[name] = header.values(content)
    return arrays


Content = tuple[bytearray | memoryview, npy.Plain]


def _stored(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes, pointer: str, left: int) -> Content:
    """A member that is not compressed, as a view of the archive's bytes."""
    with archive.open(info):  # compares the two headers of the member
        pass
    begin = info.header_offset + _LOCAL_SIZE + sum(_LOCAL_LENGTHS.unpack_from(data, info.header_offset + 26))
    content = memoryview(data)[begin : begin + info.file_size]
    header = npy.plain(content, pointer, left)
    _check_length(len(content), header, pointer)
    if info.compress_size != info.file_size or zlib.crc32(content) != info.CRC:
        raise MalformedBody("the array's checksum differs from that of its content", pointer=pointer)
    return content, header


def _deflated(archive: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes, pointer: str, left: int) -> Content:
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


def write_arrays(arrays: Arrays) -> bytes:
    """The arrays as an archive that `numpy.load` reads, not compressed; the same arrays always give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # A ZipInfo is dated 1980 where a name alone would be dated now.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), to_npy(array))
    return out.getvalue()
