"""An uploaded point cloud before it is read: its bytes, and the errors that name it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import BodyTooLarge, InvalidInput, MalformedBody
from ..arrays import Float64

MAX_ELEMENTS = 2**23
# Names of the coordinates in PLY, PCD and in the header of a table.
AXES = ("x", "y", "z")


@dataclass(frozen=True)
class CloudFile:
    """One file of a request, and what may be in it."""

    data: bytes
    name: str = ""
    pointer: str = ""
    max_elements: int = MAX_ELEMENTS

    def malformed(self, detail: str) -> MalformedBody:
        """The error of bytes that are not what their format says."""
        return MalformedBody(detail, pointer=self.pointer)

    def invalid(self, detail: str, allowed: object = None) -> InvalidInput:
        """The error of a sound file that is no cloud which can be registered."""
        return InvalidInput(detail, pointer=self.pointer, allowed=allowed)

    def too_large(self, detail: str) -> BodyTooLarge:
        """The error of a file that holds more than the operator allows."""
        return BodyTooLarge(detail, pointer=self.pointer, allowed=f"at most {self.max_elements} numbers")

    def check_shape(self, points: int, dimension: int) -> None:
        """Refuse a declared shape before memory is spent on it.

        Raises:
            InvalidInput: there are no points, or they have no coordinates.
            BodyTooLarge: there are more numbers than `max_elements`.
        """
        if points == 0 or dimension == 0:
            raise self.invalid(f"the file holds {points} points of {dimension} coordinates", "one or more points")
        if points * dimension > self.max_elements:
            raise self.too_large(f"{points} points of {dimension} coordinates are too many")

    def axes(self, names: Sequence[str], of: str) -> list[int]:
        """Where x, y and z stand among `names`; y and z may be missing.

        Raises:
            InvalidInput: there is no x, or z without y.
        """
        lower = [name.lower() for name in names]
        found = [axis for axis in AXES if axis in lower]
        if found != list(AXES[: len(found)]) or not found:
            listed = ", ".join(names[:20]) or "no names"
            raise self.invalid(f"{of} has {listed}, which are no coordinates", "x; x and y; or x, y and z")
        return [lower.index(axis) for axis in found]

    def points(self, values: NDArray[np.generic]) -> Float64:
        """The (N, D) values as an array of its own, writable and in C order.

        Raises:
            InvalidInput: there are none, or some are not finite.
            BodyTooLarge: there are more than `max_elements`.
        """
        self.check_shape(*values.shape)
        with np.errstate(all="ignore"):  # a signalling NaN would warn on its way
            points = np.array(values, np.float64, order="C")
        bad = np.flatnonzero(~np.isfinite(points).all(1))
        if len(bad):
            # Dropping them would shift the indices that the answer's matching speaks of.
            raise self.invalid(
                f"{len(bad)} of {len(points)} points have coordinates that are not finite, the first is point {bad[0]} "
                f"(counted from 0: {', '.join(f'{value:g}' for value in points[bad[0], :8])}); remove them first",
                "finite numbers",
            )
        return points
