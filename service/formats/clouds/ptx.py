"""PTX, text of laser scanners: scans as grids of points, each with the transform from the scanner to the site."""

from __future__ import annotations

import re
from itertools import islice

import numpy as np

from ...errors import InvalidInput
from ..arrays import Float64
from .cloud_file import CloudFile
from .text import lines, parse

# The number of blanks is bounded, because a search among very many would hold the interpreter's lock.
BLANKS = rb"[ \t]{0,99}"
END = BLANKS + rb"(?:\r\n|\r|\n)"
NUMBER = BLANKS + rb"[-+.\deE]{1,40}"
# Columns, rows, the scanner's position and three axes, and a 4 x 4 matrix; the points follow.
HEAD = re.compile(
    BLANKS + rb"\d{1,9}" + END + BLANKS + rb"\d{1,9}" + END
    + rb"(?:" + NUMBER + rb"(?:[ \t]" + NUMBER + rb"){2}" + END + rb"){4}"
    + rb"(?:" + NUMBER + rb"(?:[ \t]" + NUMBER + rb"){3}" + END + rb"){4}"
)  # fmt: skip
HEAD_LINES = 10
COUNT = re.compile(r"\d{1,9}")
# Scans that are joined at a time. A file may have hundreds of thousands of scans of one point.
JOINED = 1 << 10


def read_ptx(file: CloudFile) -> Float64:
    """The points (N, 3) of all scans, in the site's coordinates and the file's unit.

    A point at the scanner's own origin is NaN, because its pulse did not return.

    Raises:
        MalformedBody: a field is not a number, a matrix does not place points, or a scan has fewer points than its
            columns times rows.
        InvalidInput: there are no points, columns are chosen, or coordinates are infinite.
        BodyTooLarge: there are more than `max_elements` numbers.
    """
    if file.columns is not None:
        raise InvalidInput(
            "a PTX file has no columns to choose; its first three columns are the coordinates",
            pointer=file.columns.pointer,
            allowed="no columns for this file",
        )
    stream = lines(file)
    joined: list[Float64] = []
    scans: list[Float64] = []
    total = 0
    while head := list(islice(stream, HEAD_LINES)):
        number = head[0][0]
        for (line, text), what in zip(head, ("columns", "rows"), strict=False):
            if COUNT.fullmatch(text.strip()) is None:
                raise file.malformed(
                    f"line {number} does not begin a scan of a PTX file: line {line}, {text[:40]!r}, is not a "
                    f"number of {what}",
                    f"a number of {what}",
                )
        count = int(head[0][1]) * int(head[1][1]) if len(head) == HEAD_LINES else 0
        matrix = _matrix(file, number, [text for _, text in head[6:]])
        total += count
        file.check_shape(total, 3)
        try:
            points = parse((text for _, text in islice(stream, count)), use=[0, 1, 2])
        except ValueError as error:
            raise file.malformed(
                f"the points of the scan at line {number} cannot be read: {error}", "x, y and z in each line"
            ) from None
        if len(points) != count:
            raise file.malformed(
                f"line {number} declares a scan of {count} points, and {len(points)} follow", "columns times rows lines"
            )
        with np.errstate(all="ignore"):  # `points` refuses what overflows
            placed = points @ matrix[:3] + matrix[3]
        placed[~points.any(1)] = np.nan
        scans.append(placed)
        if len(scans) == JOINED:
            joined.append(np.concatenate(scans))
            scans.clear()
    scans[:0] = joined
    return file.points(np.concatenate(scans))


def _matrix(file: CloudFile, number: int, rows: list[str]) -> Float64:
    """The first three columns, (4, 3), of the matrix of the scan at line `number`; it acts on row vectors."""
    try:
        matrix = parse(rows)
    except ValueError:
        matrix = np.zeros((0, 0))
    if matrix.shape != (4, 4):
        fault = "is not 4 x 4 numbers"
    elif not np.isfinite(matrix).all():
        fault = "has numbers that are not finite"
    elif not np.allclose(matrix[:, 3], [0, 0, 0, 1], rtol=0, atol=1e-9):
        fault = "has another fourth column than 0, 0, 0, 1"
    else:
        with np.errstate(all="ignore"):
            scaled = matrix[:3, :3] / (np.abs(matrix[:3, :3]).max() or 1)
            if np.linalg.matrix_rank(scaled) == 3:
                return matrix[:, :3]
        fault = "is singular, and would place all points on a plane, a line or a point"
    raise file.malformed(
        f"the matrix of the scan at line {number} {fault}",
        "four lines of four numbers: a regular 3 x 3 matrix and the translation in the fourth line, then 0, 0, 0, 1",
    )
