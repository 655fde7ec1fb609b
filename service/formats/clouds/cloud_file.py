"""An uploaded point cloud before it is read: its bytes, the errors that name it, and the warnings about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import BodyTooLarge, InvalidInput, MalformedBody
from ..arrays import Float64
from . import coordinates
from .columns import Columns, NotFound, select
from .deadline import Deadline
from .normals import normal_columns
from .weights import weight_column

MAX_ELEMENTS = 2**23
# Names of the coordinates in PLY, PCD and in the header of a table.
AXES = ("x", "y", "z")
# Bytes that are searched in one call.
_PART = 2**20
# Maximum names in an error; a table may have thousands.
MAX_LISTED = 20


class Cloud(NamedTuple):
    """The points of a file, and warnings about how they were read."""

    points: Float64
    """(N, D), in the unit of the file. A point without coordinates is a row of NaN; all other rows are finite."""
    warnings: tuple[str, ...] = ()


class Weights(NamedTuple):
    """The weights of the points of a file."""

    values: Float64
    """(N,) finite and >= 0; NaN for points without coordinates."""
    column: str
    """The name of the column that has them."""


@dataclass(frozen=True)
class CloudFile:
    """One file of a request, its limits of size and time, and the columns that were chosen."""

    data: bytes
    name: str = ""
    pointer: str = ""
    max_elements: int = MAX_ELEMENTS
    columns: Columns | None = None
    deadline: Deadline = field(default_factory=Deadline)
    warnings: list[str] = field(default_factory=list)
    reads_weights: bool = False
    weighted: list[str] = field(default_factory=list)
    """The name of the column of weights, which is read as the last coordinate; empty without such a column."""
    reads_normals: bool = False
    directed: list[str] = field(default_factory=list)
    """The names of the columns of normals, which are read after the coordinates; empty without such columns."""

    def malformed(self, detail: str, allowed: object = None) -> MalformedBody:
        """The error of bytes that break their format."""
        return MalformedBody(detail, pointer=self.pointer, allowed=allowed)

    def invalid(self, detail: str, allowed: object = None) -> InvalidInput:
        """The error of an intact file without a cloud that can be registered."""
        return InvalidInput(detail, pointer=self.pointer, allowed=allowed)

    def too_large(self, detail: str) -> BodyTooLarge:
        """The error of a file with more numbers than the operator allows."""
        return BodyTooLarge(detail, pointer=self.pointer, allowed=f"at most {self.max_elements} numbers")

    def check_shape(self, points: int, dimension: int) -> None:
        """Refuse a declared shape before memory is allocated for it.

        Raises:
            InvalidInput: there are no points, or they have no coordinates.
            BodyTooLarge: there are more numbers than `max_elements`.
        """
        # An array of weights alone is a part of the points. Normals come in addition to the numbers that are allowed.
        dimension = max(dimension - len(self.directed), 1) if self.directed else dimension
        coordinates = dimension - len(self.weighted) if dimension > 1 else dimension
        if points == 0 or dimension == 0:
            raise self.invalid(f"the file holds {points} points of {coordinates} coordinates", "one or more points")
        if points * dimension > self.max_elements:
            raise self.too_large(f"{points} points of {coordinates} coordinates are too many")

    def chosen(self, names: Sequence[str], of: str, count: int, titles: str = "") -> list[int] | None:
        """The positions of the columns that the caller chose; None if no columns were chosen.

        Args:
            names: the names of the columns; empty if they have none.
            of: the subject of an error, such as "the PLY file".
            count: how many columns there are.
            titles: what an error states about a file whose header is not read; empty if there is no header.

        Raises:
            InvalidInput: a chosen column does not exist.
        """
        if self.columns is None:
            return None
        try:
            return select(self.columns, names, count)
        except NotFound as error:
            has = f"the columns {listed(names)}" if names else f"{count} columns without names"
            raise InvalidInput(
                f"{error}; {titles or f'{of} has {has}'}",
                pointer=self.columns.pointer,
                allowed="names of columns, or positions counted from 0",
            ) from None

    def choose(self, names: Sequence[str], of: str) -> list[int]:
        """The positions of the coordinates among named columns: those chosen, or else those recognised.

        They are followed by that of the weights, if there are any.

        Raises:
            InvalidInput: a chosen column does not exist, or no name is recognised as a coordinate.
        """
        places = self.chosen(names, of, len(names))
        if places is not None:
            return self._with_weights(places, names)
        try:
            found = coordinates.recognise(names)
        except coordinates.Unrecognised as error:
            cure = (
                "" if error.final else ". Choose the coordinates with columns=, by name or by position counted from 0"
            )
            raise self.invalid(
                f"{of} has no names of coordinates: {error}the columns are {listed(names)}{cure}",
                "x; x and y; or x, y and z",
            ) from None
        self.warnings.extend(found.warnings)
        return self._with_weights(found.positions, names)

    def axes(
        self, names: Sequence[str], of: str, numbers: Sequence[bool] | None = None, *, normals: bool = False
    ) -> list[int]:
        """The positions of x, y and z among `names`, or of the columns chosen; y and z may be missing.

        They are followed by those of the normals, if the format has `normals` and three coordinates are found, and by
        that of the weights, if there are any. `numbers` are the columns with a number for each point; None for all.

        Raises:
            InvalidInput: there is no x, z without y, or two of one name; or a chosen column does not exist.
        """
        places = self.chosen(names, of, len(names))
        if places is not None:
            return self._with_weights(places, names, numbers)
        lower = [name.lower() for name in names]
        found = [axis for axis in AXES if axis in lower]
        if found != list(AXES[: len(found)]) or not found:
            raise self.invalid(
                f"{of} has {listed(names)}, which are not coordinates. Choose the coordinates with columns=",
                "x; x and y; or x, y and z",
            )
        repeated = [axis for axis in found if lower.count(axis) > 1]
        if repeated:
            places = [place for place, name in enumerate(lower) if name == repeated[0]]
            raise self.invalid(
                f"{of} has {len(places)} columns named {repeated[0]!r}, at positions {places[:9]}. Choose the "
                "coordinates with columns=, by position counted from 0",
                "one x; one y; one z",
            )
        places = [lower.index(axis) for axis in found]
        if normals and self.reads_normals and len(places) == len(AXES):
            directed = normal_columns(names)
            if directed is not None and (numbers is None or all(numbers[place] for place in directed)):
                self.directed[:] = [names[place] for place in directed]
                places += directed
        return self._with_weights(places, names, numbers)

    def _with_weights(
        self, places: list[int], names: Sequence[str], numbers: Sequence[bool] | None = None
    ) -> list[int]:
        self.weighted.clear()
        found = weight_column(names) if self.reads_weights else None
        if found is None or found in places or (numbers is not None and not numbers[found]):
            return places
        self.weighted.append(names[found])
        return [*places, found]

    def warn_of_rest(self, start: int, what: str) -> None:
        """Warn of bytes from `start` on that the header does not explain; blank lines at the end are no points."""
        rest = len(self.data) - start
        parts = range(start, len(self.data), _PART)
        if rest > 0 and not all(self.data[part : part + _PART].isspace() for part in parts):
            self.warnings.append(f"{what}, and {rest} bytes follow that are not read")

    def points(self, values: NDArray[np.generic]) -> Float64:
        """A writable (N, D) copy in C order. A row with a NaN becomes NaN throughout, and keeps its place.

        If the file is `weighted`, the last column are the weights. The normals of a file that is `directed` come before
        them, and may be any numbers.

        Raises:
            InvalidInput: there are no points, all of them have NaN coordinates, or a coordinate is infinite; or the
                weight of a point with coordinates is not a finite number >= 0, or all of them are 0.
            BodyTooLarge: there are more numbers than `max_elements`.
        """
        self.check_shape(*values.shape)
        with np.errstate(all="ignore"):  # a signalling NaN would warn during the conversion
            points = np.array(values, np.float64, order="C")
        cloud = points[:, : points.shape[1] - len(self.weighted) - len(self.directed)]
        finite = np.asarray(np.isfinite(cloud).all(1))
        if self.weighted:
            self._check_weights(points[:, -1], finite)
        if finite.all():
            return points
        infinite = np.flatnonzero(np.isinf(cloud).any(1))
        if len(infinite):
            raise self.invalid(
                f"{len(infinite)} of {len(points)} points have infinite coordinates, the first is point {infinite[0]} "
                f"(counted from 0: {', '.join(f'{value:g}' for value in cloud[infinite[0], :8])}); remove these "
                "points, or write NaN in place of their coordinates",
                "finite numbers, or NaN for a point that takes no part",
            )
        missing = int(len(points) - finite.sum())
        if missing == len(points):
            raise self.invalid(
                f"{missing} of {len(points)} points have NaN or missing coordinates; no point is left to register",
                "one or more points with finite coordinates",
            )
        points[~finite] = np.nan
        self.warnings.append(
            f"{missing} of {len(points)} points have NaN or missing coordinates and take no part; their results are "
            "null, and all other points keep their indices"
        )
        return points

    def _check_weights(self, weights: Float64, present: NDArray[np.bool_]) -> None:
        """Refuse weights (N,) of the points `present` (N,) that are not finite or below 0, and those that are all 0."""
        name, field_ = self.weighted[0], f"{self.pointer.removeprefix('/')}_weights"
        cure = f"finite numbers >= 0, not all 0; {field_}=null ignores the column"
        wrong = np.flatnonzero(present & ~((weights >= 0) & (weights < np.inf)))
        if len(wrong):
            raise self.invalid(
                f"the column {name!r} has the weights, and {len(wrong)} of {len(weights)} are not finite or below 0, "
                f"the first that of point {wrong[0]} (counted from 0: {weights[wrong[0]]:g})",
                cure,
            )
        if present.any() and not weights[present].any():
            raise self.invalid(f"the column {name!r} has the weights, and all of them are 0", cure)


def listed(names: Sequence[str]) -> str:
    """The first names, quoted, for a message."""
    first = ", ".join(repr(name[:60]) for name in names[:MAX_LISTED]) or "no names"
    return first if len(names) <= MAX_LISTED else f"{first} and {len(names) - MAX_LISTED} more"
