"""LZF decompression, which compressed PCD files need.

A stream is a sequence of literal runs and of references to earlier output. A literal run is a control byte below 32,
then control + 1 bytes. A reference has its length in the upper three bits of the control byte, and in one more byte if
these are all ones. Its distance is in the lower five bits and the byte that follows.
"""

from __future__ import annotations


def decompress(data: bytes, wanted: int) -> bytearray:
    """The first `wanted` bytes of the decompressed data, or fewer if the stream ends earlier.

    Memory is proportional to the output, at most 88 times the length of the stream, whatever size a file declares.

    Raises:
        ValueError: a run or a reference reaches outside the stream.
    """
    out = bytearray()
    at, end = 0, len(data)
    while at < end and len(out) < wanted:
        control = data[at]
        at += 1
        if control < 32:
            stop = at + control + 1
            if stop > end:
                raise ValueError("a literal run reaches past the end")
            out += data[at:stop]
            at = stop
            continue
        length = (control >> 5) + 2
        if at + (length == 9) >= end:
            raise ValueError("a reference is cut off")
        if length == 9:
            length += data[at]
            at += 1
        distance = ((control & 31) << 8 | data[at]) + 1
        at += 1
        start = len(out) - distance
        if start < 0:
            raise ValueError("a reference reaches before the beginning")
        if distance >= length:
            out += out[start : start + length]
        else:  # it overlaps its own output, which repeats the last `distance` bytes
            out += (out[start:] * (length // distance + 1))[:length]
    del out[wanted:]
    return out
