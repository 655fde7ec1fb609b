"""Which column holds the weights of the points, by its name alone."""

from __future__ import annotations

from collections.abc import Sequence

from .names import plain

# Names that tools write, the most direct first: PCL, MeshLab, Metashape, the scanners of Stanford's models.
NAMES = "weight", "weights", "confidence", "confidences", "conf"
# CloudCompare writes this before the names of its scalar fields.
PREFIX = "scalar "


def weight_column(names: Sequence[str]) -> int | None:
    """The position of the column of weights; None without one, or if two have the same name."""
    bare = [plain(name).removeprefix(PREFIX) for name in names]
    for name in NAMES:
        if bare.count(name) == 1:
            return bare.index(name)
    return None
