"""PTX, text of laser scanners: scans as grids of points, each with the transform from the scanner to the site."""

from __future__ import annotations

import re
from itertools import islice

import numpy as np

from ...errors import InvalidInput
from ..arrays import Float64
from .cloud_file import CloudFile
from .text import lines, parse

END = rb"[ \t]*(?:\r\n|\r|\n)"
NUMBER = rb"[ \t]*[-+.\deE]{1,40}"
# Columns, rows, the scanner's position and three axes, and a 4 x 4 matrix; the points follow.
HEAD = re.compile(
    rb"[ \t]*\d{1,9}" + END + rb"[ \t]*\d{1,9}" + END
    + rb"(?:" + NUMBER + rb"(?:[ \t]" + NUMBER + rb"){2}" + END + rb"){4}"
    + rb"(?:" + NUMBER + rb"(?:[ \t]" + NUMBER + rb"){3}" + END + rb"){4}"
)  # fmt: skip
HEAD_LINES = 10


def read_ptx(file: CloudFile) -> Float64:
    """The points (N, 3) of all scans, in the site's coordinates and the file's unit.

    A point at the scanner's own origin is NaN, because its pulse did not return.

    Raises:
        MalformedBody: a field is not a number, or a scan has fewer points than its columns times rows.
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
    scans: list[Float64] = []
    total = 0
    while head := list(islice(stream, HEAD_LINES)):
        number = head[0][0]
        try:
            columns, rows = (int(text) for _, text in head[:2])
            count = columns * rows
            matrix = parse((text for _, text in head[6:]), use=[0, 1, 2])
            if matrix.shape != (4, 3):
                raise ValueError("the matrix is not 4 x 4")
        except ValueError as error:
            raise file.malformed(f"line {number} begins no scan of a PTX file: {error}") from None
        total += count
        file.check_shape(total, 3)
        try:
            points = parse((text for _, text in islice(stream, count)), use=[0, 1, 2])
        except ValueError as error:
            raise file.malformed(f"the points of the scan at line {number} cannot be read: {error}") from None
        if len(points) != count:
            raise file.malformed(f"line {number} declares a scan of {count} points, and {len(points)} follow")
        with np.errstate(all="ignore"):  # `points` refuses what overflows
            placed = points @ matrix[:3] + matrix[3]
        placed[~points.any(1)] = np.nan
        scans.append(placed)
    return file.points(np.concatenate(scans))
