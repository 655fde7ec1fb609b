"""The clouds that a registration is estimated from: all points, or the means of voxels."""

from __future__ import annotations

from typing import Literal, NamedTuple

from ..coordinates import Frame
from ..kernel.voxels import Voxels, every_point, voxels
from .density import LEAST_VOXELS, even_side

# A voxel grid finer than this share of its first side is not tried.
LEAST_SHARE = 0.01


class Thinned(NamedTuple):
    """A frame, its clouds thinned, and where each point went."""

    frame: Frame  # of the means; its orders are those of the voxels
    source: Voxels
    target: Voxels
    side: float | None  # of the voxels, in the frame's unit; None if all points are used


def everything(points: Frame) -> Thinned:
    """The frame as it is."""
    return Thinned(points, every_point(points.source), every_point(points.target), None)


def thinned(points: Frame, sampling: Literal["auto", "all"] | float) -> Thinned:
    """The frame with its clouds thinned as `sampling` says: a side in the caller's unit, or "auto" for the even side.

    The frame must have one unit of length for both clouds, or the side is that of the target's unit.
    """
    if sampling == "all":
        return everything(points)
    if sampling == "auto":
        side = even_side(points.source, points.target, points.dimension)
        if side is None:
            return everything(points)
        found = _at(points, side)
        while min(len(found.source.counts), len(found.target.counts)) < LEAST_VOXELS and side > points.floor:
            side /= 2
            found = _at(points, side)
        return found
    return _at(points, float(sampling) / points.target_unit)


def _at(points: Frame, side: float) -> Thinned:
    # A similarity's source has a unit of its own, in which the same number of spacings is another length.
    ratio = points.target_unit / points.source_unit
    source, target = voxels(points.source, side * ratio), voxels(points.target, side)
    orders = (every_point(one.points).of for one in (source, target))
    source_order, target_order = orders
    frame = points._replace(
        source=source.points, target=target.points, source_order=source_order, target_order=target_order
    )
    return Thinned(frame, source, target, side)
