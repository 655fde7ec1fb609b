"""Checksums of damaged files, made right again, so that a mutation reaches the code behind the check."""

from __future__ import annotations

import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_LOCAL, _MEMBER, _END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def repaired(data: bytes) -> bytes:
    """`data` with the checksums of its chunks, if it is a PNG, or of its stored members, if it is a zip archive."""
    if data.startswith(_PNG):
        return _png(bytearray(data))
    if data.startswith(_LOCAL):
        return _zip(bytearray(data))
    return data


def _png(data: bytearray) -> bytes:
    at = len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)


def _zip(data: bytearray) -> bytes:
    """The members' sizes follow from the directory; only stored ones are repaired."""
    end = data.rfind(_END)
    at = struct.unpack_from("<L", data, end + 16)[0] if 0 <= end <= len(data) - 22 else len(data)
    while data[at : at + 4] == _MEMBER and at + 46 <= len(data):
        method, size, local = *struct.unpack_from("<10xH8xL", data, at), *struct.unpack_from("<L", data, at + 42)
        if method == 0 and data[local : local + 4] == _LOCAL and local + 30 <= len(data):
            begin = local + 30 + sum(struct.unpack_from("<2H", data, local + 26))
            checksum = zlib.crc32(data[begin : begin + size])
            struct.pack_into("<L", data, at + 16, checksum)
            struct.pack_into("<L", data, local + 14, checksum)
        at += 46 + sum(struct.unpack_from("<3H", data, at + 28))
    return bytes(data)
