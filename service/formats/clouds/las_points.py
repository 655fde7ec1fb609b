"""The points of a LAZ file as laspy decodes them; run as a script, in a process of its own.

The decompressor of LAZ, lazrs, aborts its process when a damaged file declares more memory than there is. `las.py`
therefore runs this file as a script for LAZ: the file comes on standard input, and the integers go to standard output.
The script imports nothing of the service, so that it starts fast.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import laspy
import numpy as np
from numpy.typing import NDArray

# Points that are decoded at a time, which bounds memory beside the result.
CHUNK = 2**16
# Bytes that a process may use for decompression beside the file and the points.
WORKING_BYTES = 2**28


def decode(data: bytes, count: int) -> Iterator[NDArray[np.int32]]:
    """The integers of the coordinates, parts of (n, 3) that add up to (count, 3).

    Raises:
        ValueError: the file has another number of points.
        Exception: of many classes, for damaged files.
    """
    done = 0
    with laspy.open(io.BytesIO(data), laz_backend=laspy.LazBackend.Lazrs, read_evlrs=False) as reader:
        if reader.header.point_count != count:
            raise ValueError(f"its header declares both {count} and {reader.header.point_count} points")
        for chunk in reader.chunk_iterator(CHUNK):
            done += len(chunk)
            yield np.stack([np.asarray(chunk[axis], np.int32) for axis in "XYZ"], 1)
    if done != count:
        raise ValueError(f"its header declares {count} points, and {done} follow")


def _limit(extra: int, seconds: int) -> None:
    """Limit this process to `extra` bytes more than it has now, and to `seconds` of computation. Linux only."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(count: int, size: int, seconds: int) -> None:
    """Decode standard input to standard output, within limits.

    Args:
        count: the number of points.
        size: bytes of a point.
        seconds: the limit of computation.
    """
    data = sys.stdin.buffer.read()
    _limit(WORKING_BYTES + 4 * len(data) + 4 * CHUNK * size, seconds)
    try:
        for part in decode(data, count):
            sys.stdout.buffer.write(part.tobytes())
    # Panics of the decompressor derive from BaseException.
    except BaseException as error:
        sys.exit(" ".join(str(error).split())[:200] or type(error).__name__)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
