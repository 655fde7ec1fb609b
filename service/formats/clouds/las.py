"""LAS and LAZ, the formats of laser scans from the air.

The points of LAS are records of one size, each of which begins with its coordinates. LAZ is decompressed by the
optional package laspy, in a process of its own, because a damaged file can abort it; see `las_points.py`. That process
needs Linux. The header is checked first, against the file's length and the operator's limits: laspy allocates as much
memory as it declares.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import Float64
from .cloud_file import AXES, CloudFile

MAGIC = b"LASF"
# Header sizes of LAS 1.0 to 1.4, by the minor version.
HEADER_SIZES = (227, 227, 227, 235, 375)
# Bytes of a point for each point format, without extra bytes (LAS 1.4 R15, tables 7 to 18).
POINT_SIZES = (20, 28, 26, 34, 57, 63, 30, 36, 38, 59, 67)
VLR_HEADER = 54
# Set in the point format of LAZ files.
COMPRESSED = 0x80
# Bytes of records that are decompressed for each number that a cloud may have, as for PCD files.
BYTES_PER_ELEMENT = 32
# Seconds of computation that a compressed file may take; millions of points take one or two.
SECONDS = 30
SCRIPT = Path(__file__).with_name("las_points.py")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
INSTALL = "pip install 'latentserve[las]'"


class Header(NamedTuple):
    """The parts of a header that the points need."""

    start: int
    """The byte at which the points begin."""
    point_format: int
    compressed: bool
    size: int
    """Bytes of a point."""
    points: int
    scales: tuple[float, float, float]
    offsets: tuple[float, float, float]


def read_las(file: CloudFile) -> Float64:
    """The coordinates, (N, 3), in the file's unit: scale times integer plus offset, in double precision.

    `columns` may select and order x, y and z. All other dimensions, waveforms and extra bytes are ignored.

    Raises:
        MalformedBody: the header contradicts itself or the file's length, or the points cannot be decompressed.
        InvalidInput: the server cannot decompress LAZ, because it has no laspy or does not run on Linux; there are no
            points, or a chosen column does not exist.
        BodyTooLarge: there are more than `max_elements` numbers, or points of too many bytes.
        DeadlineExceeded: the file's deadline passed during the decompression.
    """
    header = _header(file)
    _warn_of_more_points(file, header)
    axes = file.chosen(AXES, "the LAS file", len(AXES)) or [0, 1, 2]
    file.check_shape(header.points, len(axes))
    if header.points * header.size > file.max_elements * BYTES_PER_ELEMENT:
        raise file.too_large(f"{header.points} points of {header.size} bytes each are too many")
    if header.compressed:
        _check_installed(file)
        integers = _decompress(file, header)
    else:
        integers = np.ndarray((header.points, 3), "<i4", file.data, header.start, (header.size, 4))
    points = np.empty((header.points, len(axes)))
    with np.errstate(all="ignore"):  # `points` refuses coordinates that overflow
        for column, axis in enumerate(axes):
            np.multiply(integers[:, axis], header.scales[axis], out=points[:, column])
            points[:, column] += header.offsets[axis]
    return file.points(points)


def _header(file: CloudFile) -> Header:
    """The header, checked against the length of the file."""
    data = file.data
    if len(data) < HEADER_SIZES[0]:
        raise file.malformed(f"the LAS file ends within its header, after {len(data)} bytes")
    major, minor = data[24], data[25]
    if major != 1 or minor >= len(HEADER_SIZES):
        raise file.invalid(f"the file is LAS {major}.{minor}", "LAS 1.0 to 1.4")
    header_size, start, vlrs = struct.unpack_from("<HII", data, 94)
    code, size, count = struct.unpack_from("<BHI", data, 104)
    scales: tuple[float, float, float] = struct.unpack_from("<3d", data, 131)
    offsets: tuple[float, float, float] = struct.unpack_from("<3d", data, 155)
    if header_size < HEADER_SIZES[minor] or not header_size + vlrs * VLR_HEADER <= start <= len(data):
        raise file.malformed(
            f"the LAS header declares {header_size} bytes for itself, {vlrs} records after it, and points from byte "
            f"{start} on; the file has {len(data)} bytes"
        )
    if minor == 4:
        count = struct.unpack_from("<Q", data, 247)[0] or count
    # The two upper bits mark LAZ; the second one is unused since LAZ 1.0.
    point_format = code & 0x3F
    if point_format >= len(POINT_SIZES) or size < POINT_SIZES[point_format]:
        raise file.malformed(f"the LAS header declares points of format {point_format} and {size} bytes")
    if not np.isfinite((*scales, *offsets)).all() or 0 in scales:
        raise file.malformed(f"the LAS header has the scales {scales} and the offsets {offsets}")
    compressed = bool(code & COMPRESSED)
    if not compressed and start + count * size > len(data):
        raise file.malformed(
            f"the LAS header declares {count} points of {size} bytes, and the file has {(len(data) - start) // size} "
            "of them"
        )
    return Header(start, point_format, compressed, size, count, scales, offsets)


def _warn_of_more_points(file: CloudFile, header: Header) -> None:
    """Warn if the file has more points than its header declares, by their number for each return or by their bytes."""
    minor = file.data[25]
    returns: tuple[int, ...] = struct.unpack_from("<5I", file.data, 111)
    # The first byte after the points: waveforms since LAS 1.3, further records since LAS 1.4.
    ends = [*struct.unpack_from("<Q", file.data, 227)] if minor >= 3 else []
    if minor >= 4:
        returns = struct.unpack_from("<15Q", file.data, 255) if any(file.data[255:375]) else returns
        ends += struct.unpack_from("<Q", file.data, 235)
    found = sum(returns)
    if not header.compressed:
        end = min([value for value in ends if header.start < value < len(file.data)], default=len(file.data))
        found = max(found, (end - header.start) // header.size)
    if found > header.points:
        file.warnings.append(
            f"the LAS header declares {header.points} points, and the file seems to have {found}; only the declared "
            "ones are read"
        )


def _check_installed(file: CloudFile) -> None:
    if sys.platform != "linux":  # `las_points.py` reads /proc
        raise file.invalid("the file is LAZ, which this server can decompress only on Linux", "LAS or another format")
    if not all(find_spec(package) for package in ("laspy", "lazrs")):
        raise file.invalid(
            "the file is LAZ, and this server lacks the packages that read it; its operator can install them with "
            f"{INSTALL}",
            "another format, such as LAS or PLY",
        )


def _decompress(file: CloudFile, header: Header) -> NDArray[np.int32]:
    """The integers of the coordinates, (N, 3), of a compressed file, from a process of its own."""
    # -P: the modules beside the script must not hide those of the standard library.
    command = [sys.executable, "-P", str(SCRIPT), str(header.points), str(header.size), str(SECONDS)]
    status, out, err = _run(command, file)
    if status or len(out) != header.points * 12:
        # 1: the script ended with a message. Everything else is an abort, or the kernel's limit.
        message = err.decode(errors="replace").strip().rpartition("\n")[2][:200]
        reason = f": {message}" if status == 1 else ""
        raise file.malformed(f"the LAZ file is damaged and cannot be decompressed{reason}")
    return np.frombuffer(out, np.int32).reshape(header.points, 3)


def _run(command: list[str], file: CloudFile) -> tuple[int, bytes, bytes]:
    """The status, output and errors of a process that reads the file. The process ends before this function does.

    Raises:
        MalformedBody: the process takes longer than `2 * SECONDS`.
        DeadlineExceeded: the file's deadline passed, or it was cancelled.
    """
    pipe = subprocess.PIPE
    left = file.deadline.left()
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=os.environ | ONE_THREAD) as process:
        try:
            with file.deadline.stopping(process.kill):
                out, err = process.communicate(file.data, min(left, 2 * SECONDS))
        except subprocess.TimeoutExpired:
            file.deadline.left()
            raise file.malformed(f"the LAZ file takes more than {2 * SECONDS} seconds to decompress") from None
        finally:
            process.kill()  # has no effect on a process that has ended
    file.deadline.left()
    return process.returncode, out, err
