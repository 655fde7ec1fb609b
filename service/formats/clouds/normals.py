"""Which columns hold the normals of the points, by their names alone."""

from __future__ import annotations

from collections.abc import Sequence

# Names that tools write: most of PLY, and PCL.
NAMES = ("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z")


def normal_columns(names: Sequence[str]) -> list[int] | None:
    """The positions of the three columns of normals; None without them, or if two have the same name."""
    lower = [name.lower() for name in names]
    for axes in NAMES:
        if all(lower.count(axis) == 1 for axis in axes):
            return [lower.index(axis) for axis in axes]
    return None
