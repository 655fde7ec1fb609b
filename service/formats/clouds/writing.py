"""Writing of point cloud files, and the media types of their formats.

Only CSV has a registered media type. The other formats have the names that are in use; the first of each is preferred.
`chemical/x-xyz` is not among them, because it is the format with elements and a count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ...errors import NotAcceptable
from ..arrays import Float64, to_npy
from .pcd import write_pcd
from .ply import write_ply
from .table import write_csv, write_xyz

Format = Literal["npy", "ply", "pcd", "csv", "xyz"]

MEDIA_TYPES: dict[str, Format] = {
    "model/ply": "ply",
    "application/ply": "ply",
    "application/x-ply": "ply",
    "application/x-pcd": "pcd",
    "application/pcd": "pcd",
    "application/x-npy": "npy",
    "text/csv": "csv",
    "text/plain": "xyz",
}
# Formats with a name for every coordinate have no more than x, y and z.
MAX_DIMENSION: dict[Format, int] = {"ply": 3, "pcd": 3}

WRITERS: dict[Format, Callable[[Float64], bytes]] = {
    "npy": to_npy,
    "ply": write_ply,
    "pcd": write_pcd,
    "csv": write_csv,
    "xyz": write_xyz,
}


def check_dimension(dimension: int, kind: Format) -> None:
    """Raise NotAcceptable if the format `kind` does not support `dimension` coordinates."""
    most = MAX_DIMENSION.get(kind)
    if most is not None and dimension > most:
        raise NotAcceptable(
            f"a {kind.upper()} file has at most {most} coordinates a point, and these have {dimension}; "
            "ask for another format",
            pointer="/Accept",
            allowed=[name for name, format_ in MEDIA_TYPES.items() if format_ not in MAX_DIMENSION],
        )


def write_cloud(points: Float64, kind: Format) -> bytes:
    """The (N, D) points as a file of doubles; reading it gives the same numbers to the bit.

    Raises:
        NotAcceptable: the format does not support points of this dimension.
    """
    check_dimension(points.shape[1], kind)
    return WRITERS[kind](points)
