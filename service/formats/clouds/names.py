"""Parsing of column names as tools write them: `Centroid X µm` is the x of a centroid, in micrometres."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

PIXELS = frozenset(["px", "pix", "pixel", "pixels", "voxel", "voxels", "vox"])
LENGTHS = frozenset(
    [
        "nm",
        "nanometer",
        "nanometers",
        "nanometre",
        "nanometres",
        "um",
        "μm",
        "micron",
        "microns",
        "micrometer",
        "micrometers",
        "micrometre",
        "micrometres",
        "mm",
        "millimeter",
        "millimeters",
        "cm",
        "m",
        "meter",
        "meters",
        "metre",
        "metres",
        "km",
        "in",
        "inch",
        "inches",
        "ft",
        "feet",
        "usft",
        "å",
        "angstrom",
        "angstroms",
    ]
)
UNITS = PIXELS | LENGTHS
ANGLES = frozenset(["deg", "degree", "degrees", "°", "rad", "radian", "radians", "mrad", "gon", "arcmin", "arcsec"])
# Text in the wrong encoding shows µ as a replacement character.
MANGLED = "\ufffdm"

BRACKETS = re.compile(r"[(\[{]([^)\]}]*)[)\]}]")
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
WORDS = re.compile("[0-9a-zµμå\ufffd]+")
NUMBERED = re.compile(r"([a-z]+)(\d{1,4})")
PLACE = "position|pos|coordinate|coord|centroid|center|centre|location|loc"
JOINED = re.compile(rf"([xyz])({PLACE}|m)|({PLACE})([xyz])")
# Names longer than this are sentences.
MAX_NAME = 200


class Name(NamedTuple):
    """The parts of a column's name."""

    stem: str
    """What is measured, in lower case and single blanks; empty for a bare x."""
    axis: str = ""
    """x, y, z, or a number; empty for a name without an axis."""
    unit: str = ""


def parse(text: str) -> Name:
    """The parts of a name: `POSITION_X`, `x [nm]`, `Points:0`, `x_um`, `XM`, `centroid-1`, `PositionX`."""
    text = unicodedata.normalize("NFKC", text.strip()[:MAX_NAME])
    bracketed = BRACKETS.search(text)
    unit = bracketed[1].strip().casefold() if bracketed else ""
    words = WORDS.findall(CAMEL.sub(" ", BRACKETS.sub(" ", text)).casefold())
    if len(words) > 1 and not unit and (words[-1] in UNITS or words[-1] == MANGLED):
        unit = words.pop()
    if not words:
        return Name("", "", unit)
    for place in (-1, 0):  # the axis ends the name in most tools, and begins it in some
        if words[place] in {"x", "y", "z"}:
            return Name(" ".join(words[:-1] if place else words[1:]), words[place], unit)
    joined = JOINED.fullmatch(words[0]) if len(words) == 1 else None
    if joined:
        return Name(joined[2] or joined[3], joined[1] or joined[4], unit)
    if len(words) > 1 and words[-1].isdecimal():
        return Name(" ".join(words[:-1]), words[-1], unit)
    numbered = NUMBERED.fullmatch(words[0]) if len(words) == 1 else None
    return Name(numbered[1], numbered[2], unit) if numbered else Name(" ".join(words), "", unit)


def plain(text: str) -> str:
    """The name without its unit and its punctuation, for comparison."""
    name = parse(text)
    return f"{name.stem} {name.axis}".strip()
