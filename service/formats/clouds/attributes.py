"""Columns without names: which of them are coordinates, and whether the array is transposed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cloud_file import AXES, CloudFile

# Layouts by their number of columns. Their first three columns are coordinates, and the others are attributes.
KNOWN_LAYOUTS = {4: "XYZI", 6: "XYZRGB, or XYZ with normals", 7: "XYZIRGB or XYZRGBI"}
# An array of two or three rows and at least this many columns is refused as a transposed cloud.
TRANSPOSED_ROWS = (2, 3)
TRANSPOSED_COLUMNS = 24


def without_attributes(file: CloudFile, table: NDArray[Any]) -> NDArray[Any]:
    """The coordinates of a table or an array (N, C) without names: (N, 3) or (N, C), a view.

    All columns are coordinates, with two exceptions: `KNOWN_LAYOUTS`, and integers of 0 to 255 after the third column
    where the first three are not all such integers. Then the first three are coordinates, with a warning.

    Raises:
        InvalidInput: the shape is that of a transposed cloud, such as 3 x 500.
    """
    rows, columns = table.shape
    thin = rows in TRANSPOSED_ROWS and columns > len(AXES)
    if thin and columns >= TRANSPOSED_COLUMNS:
        raise file.invalid(
            f"the array has the shape ({rows}, {columns}) and seems to be transposed: it would be {rows} points of "
            f"{columns} coordinates. Transpose it, so that each row is a point. If it does hold {rows} points, choose "
            "all columns with columns=",
            "N x D, a row for each point",
        )
    layout = _layout(table)
    if layout is not None:
        file.warnings.append(
            f"of {columns} columns without names the first three are read as x, y and z ({layout}); "
            "columns= chooses others"
        )
        table = table[:, : len(AXES)]
    if thin:
        file.warnings.append(
            f"the array has the shape ({rows}, {columns}) and is read as {rows} points; if it holds {columns} points "
            f"of {rows} coordinates, it is transposed"
        )
    return table


def _layout(table: NDArray[Any]) -> str | None:
    """What the columns after the third are; None if they are coordinates."""
    columns = table.shape[1]
    if columns <= len(AXES):
        return None
    if columns in KNOWN_LAYOUTS:
        return KNOWN_LAYOUTS[columns]
    coordinates, others = table[:, : len(AXES)], table[:, len(AXES) :]
    if _are_bytes(others[:1]) and _are_bytes(others) and not _are_bytes(coordinates):
        return "the others are integers of 0 to 255"
    return None


def _are_bytes(values: NDArray[Any]) -> bool:
    with np.errstate(all="ignore"):  # a signalling NaN would warn here
        return bool(((values >= 0) & (values <= 255) & (values == np.floor(values))).all())
