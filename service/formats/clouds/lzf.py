"""LZF decompression, which compressed PCD files need.

A stream is a sequence of literal runs (a control byte below 32, then control + 1 bytes) and of references to what
has been written (length in the upper three bits of the control byte and, where they are all ones, one more byte;
distance in the lower five and the byte that follows).
"""

from __future__ import annotations


def decompress(data: bytes, wanted: int) -> bytearray:
    """The first `wanted` bytes of what `data` decompresses to; fewer where the stream has no more.

    Memory follows what the stream yields, which is 88 times its own length at most, and never what it declares.

    Raises:
        ValueError: a run or a reference reaches outside of the stream.
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
        else:  # it overlaps what it writes: the last `distance` bytes, repeated
            out += (out[start:] * (length // distance + 1))[:length]
    del out[wanted:]
    return out
