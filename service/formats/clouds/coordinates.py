"""Which columns are coordinates, by their names alone.

Only names that tools are known to write for positions are recognised. Everything else, such as identifiers, frames,
intensities, widths and normals, never becomes a coordinate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .names import ANGLES as ANGLE_UNITS
from .names import LENGTHS, Name, parse

Positions = dict[str, dict[str, list[int]]]
"""Axis -> unit -> positions of the columns with that axis and unit."""

# Stems of positions, the most direct first.
# If a table has several, the first is read and a warning names the others.
STEMS = (
    "", "position", "pos", "coordinate", "coordinates", "coord", "coords", "point", "points", "location", "loc",
    "centroid", "center", "centre", "location center", "area shape center", "center of mass", "centre of mass", "m",
    "weighted centroid", "centroid weighted",
)  # fmt: skip
# Stems whose axes are numbered x, y, z, ...: ParaView's Points:0, and x0, x1, ... as this service writes them.
NUMBERED = ("points", "point", "position", "pos", "coordinates", "coordinate", "coords", "coord", "x", "dim")
# Axes of an image array when counted from 0, the row before the column: napari and scikit-image. MATLAB writes
# Centroid_1 and Centroid_2 for x and y.
ARRAY_AXES = ("axis", "centroid", "weighted centroid", "centroid weighted")
# Words that are an axis on their own.
WORDS: tuple[Mapping[str, tuple[str, ...]], ...] = (
    {"x": ("easting", "east"), "y": ("northing", "north"), "z": ("elevation", "elev", "height", "altitude", "z", "up")},
    {"x": ("e",), "y": ("n",), "z": ("elevation", "elev", "height", "altitude", "z", "h", "u")},
    {"x": ("col", "column"), "y": ("row",), "z": ("plane", "slice", "z")},
)
ELEVATIONS = ("elevation", "elev", "altitude", "alt")
# May be a third coordinate, or the size of a bounding box. They are not read as z; a warning names them.
DOUBTFUL = ("height", "depth")
ANGLES = ({"lon", "long", "longitude", "lng"}, {"lat", "latitude"})
PROJECT = "longitude and latitude are angles, not lengths; project them to metres first, to UTM for example"


class Found(NamedTuple):
    """The columns that are coordinates, in the order x, y, z, and warnings about the choice."""

    positions: list[int]
    warnings: tuple[str, ...] = ()


class Unrecognised(Exception):
    """No columns are recognised. The message, empty or ending in "; ", gives the reason.

    `final` is true if choosing or renaming columns is no cure.
    """

    def __init__(self, reason: str = "", *, final: bool = False) -> None:
        super().__init__(f"{reason}; " if reason else "")
        self.final = final


def recognise(names: Sequence[str]) -> Found:
    """The columns that hold x; x and y; or x, y and z (or more, if they are numbered).

    Raises:
        Unrecognised: there are none, they are incomplete or of different units, or they are angles.
    """
    parsed = [parse(name) for name in names]
    complaint: Unrecognised | None = None
    choices: list[Found] = []
    for family in _families(parsed):
        try:
            choices.append(_assign(family, names))
        except Unrecognised as error:
            complaint = complaint or error
    numbered = _numbered(parsed, names)
    choices += numbered
    # A lone x beside longitude and latitude is no cloud of one dimension.
    angles = all(any(name.stem in words for name in parsed) for words in ANGLES)
    if angles and all(len(choice.positions) == 1 for choice in choices):
        raise Unrecognised(PROJECT, final=True)
    if not choices:
        raise complaint or Unrecognised()
    best = choices[0]
    warnings = list(best.warnings)
    others = [choice for choice in choices[1:] if not set(choice.positions) & set(best.positions)]
    if others:
        also = ", ".join(repr(names[position]) for position in others[0].positions)
        warnings.append(f"coordinates are read from {_list(best, names)}, not from {also}")
    if len(best.positions) == 2:
        doubtful = [name for name, part in zip(names, parsed, strict=True) if part.stem in DOUBTFUL and not part.axis]
        width = any(part.stem == "width" for part in parsed)
        if doubtful and not width:
            warnings.append(f"the column {doubtful[0]!r} is not read as a coordinate")
    return Found(best.positions, tuple(warnings))


def _list(found: Found, names: Sequence[str]) -> str:
    return ", ".join(repr(names[position]) for position in found.positions)


def _families(parsed: Sequence[Name]) -> list[Positions]:
    """The columns of each stem and each set of words that has an x, the most direct first."""
    by_stem: dict[str, Positions] = {}
    by_word: dict[str, dict[str, list[int]]] = {}
    for position, name in enumerate(parsed):
        if name.axis in {"x", "y", "z"} and name.stem in STEMS:
            by_stem.setdefault(name.stem, {}).setdefault(name.axis, {}).setdefault(name.unit, []).append(position)
        word = name.stem if not name.axis else name.axis if not name.stem else ""
        if word:
            by_word.setdefault(word, {}).setdefault(name.unit, []).append(position)
    bare = by_stem.get("", {})
    if {"x", "y"} <= bare.keys() and "z" not in bare:
        elevations = [word for word in ELEVATIONS if word in by_word]
        if elevations:
            # An elevation seldom repeats the unit of x and y in its name.
            places = [place for unit in by_word[elevations[0]].values() for place in unit]
            bare["z"] = dict.fromkeys(bare["x"], places)
    found = [by_stem[stem] for stem in STEMS if "x" in by_stem.get(stem, {})]
    for words in WORDS:
        axes = {axis: next((by_word[word] for word in among if word in by_word), {}) for axis, among in words.items()}
        if axes["x"] and axes["y"]:
            found.append({axis: units for axis, units in axes.items() if units})
    partial = [by_stem[stem] for stem in STEMS if stem in by_stem and "x" not in by_stem[stem]]
    return found + partial


def _assign(family: Positions, names: Sequence[str]) -> Found:
    """One column for each axis, all of one unit."""
    axes = [axis for axis in ("x", "y", "z") if axis in family]
    if axes != ["x", "y", "z"][: len(axes)]:
        raise Unrecognised(f"{' and '.join(axes)} without {'x' if axes[0] != 'x' else 'y'}")
    lengths = [unit for unit in family["x"] if unit not in ANGLE_UNITS]
    if not lengths:
        raise Unrecognised("the coordinates are angles, not lengths; convert them first", final=True)
    common = [unit for unit in lengths if all(unit in family[axis] for axis in axes)]
    if not common:
        units = ", ".join(f"{axis} in {' or '.join(unit or 'no unit' for unit in family[axis])}" for axis in axes)
        raise Unrecognised(f"the coordinates have different units ({units})")
    common.sort(key=lambda unit: unit not in LENGTHS and unit != "")  # lengths before pixels
    unit = common[0]
    for axis in axes:
        if len(family[axis][unit]) > 1:
            raise Unrecognised(f"several columns are named {names[family[axis][unit][0]]!r}")
    positions = [family[axis][unit][0] for axis in axes]
    warnings: list[str] = []
    if len(common) > 1:
        other = ", ".join(repr(names[family[axis][common[1]][0]]) for axis in axes)
        mine = ", ".join(repr(names[position]) for position in positions)
        warnings.append(f"coordinates are read from {mine}, not from {other}")
    if axes[:2] == ["x", "y"] and parse(names[positions[1]]).stem == "row":
        warnings.append(f"the column is x and the row is y: {', '.join(repr(names[place]) for place in positions)}")
    return Found(positions, tuple(warnings))


def _numbered(parsed: Sequence[Name], names: Sequence[str]) -> list[Found]:
    """The columns of each stem whose axes are numbered without a gap, from 0 or from 1."""
    by_stem: dict[str, dict[int, list[int]]] = {}
    for position, name in enumerate(parsed):
        if name.axis.isdecimal() and (name.stem in NUMBERED or name.stem in ARRAY_AXES):
            by_stem.setdefault(name.stem, {}).setdefault(int(name.axis), []).append(position)
    # x1, y1, x2, y2 are corners of boxes.
    corners = any(name.stem == "y" and name.axis.isdecimal() for name in parsed)
    found = []
    for stem, numbers in by_stem.items():
        first = min(numbers)
        whole = sorted(numbers) == list(range(first, first + len(numbers))) and first in {0, 1} and len(numbers) > 1
        if not whole or any(len(places) > 1 for places in numbers.values()) or (stem == "x" and corners):
            continue
        positions = [numbers[number][0] for number in sorted(numbers)]
        if stem in ARRAY_AXES and (first == 0 or stem == "axis"):
            positions.reverse()
            order = ", ".join(repr(names[position]) for position in positions)
            warnings = (f"array axes are read from the last to the first, as x, y, z: {order}",)
            found.append(Found(positions, warnings))
        else:
            found.append(Found(positions))
    return found
