"""Projection of clouds of any dimension onto a picture: x to the right, y up, depth towards the viewer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ...formats.arrays import Float64

# The viewing direction for three or more dimensions, in radians: slightly from the right and from above.
AZIMUTH = math.radians(28)
ELEVATION = math.radians(20)
# The side of a window relative to the extent of its clouds.
MARGIN = 1.12


class Projection(NamedTuple):
    """The map from coordinates to the plane: x ↦ (x / magnitude - centre) / size · basis."""

    magnitude: float
    centre: Float64  # (D,)
    size: float
    basis: Float64  # (D, 3)
    log_unit: float  # log10 of one plane unit in the coordinates' unit; the unit itself may overflow

    def __call__(self, points: Float64) -> Float64:
        """Points (N, D) on the plane, (N, 3)."""
        plane: Float64 = (points / self.magnitude - self.centre) / self.size @ self.basis
        return plane


class Window(NamedTuple):
    """The square part of the plane that a panel shows: its centre (x, y), and half of its side."""

    x: float
    y: float
    half: float


class ScaleBar(NamedTuple):
    """A round length: in plane units, and as a label in the coordinates' unit."""

    length: float
    label: str


def projection(clouds: Sequence[Float64], reference: Float64) -> Projection:
    """The projection of `clouds`, each (N, D), along the axes of `reference` (M, D).

    One and two dimensions are shown unchanged. Of more, the three principal axes of greatest variance are shown in an
    oblique view.
    """
    dimension = reference.shape[1]
    # Division comes first: differences of coordinates near the largest float would overflow.
    magnitude = max(_largest(cloud) for cloud in clouds) or 1.0
    scaled = reference / magnitude
    centre = (scaled.min(0) + scaled.max(0)) / 2
    size = max(_largest(cloud / magnitude - centre) for cloud in clouds) or 1.0
    basis = np.eye(dimension, 3) if dimension < 3 else _oblique((scaled - centre) / size)
    return Projection(magnitude, centre, size, basis, math.log10(magnitude) + math.log10(size))


def _largest(values: Float64) -> float:
    return float(np.abs(values).max())


def _oblique(points: Float64) -> Float64:
    """(D, 3): right, up and towards the viewer, who looks along the axis of least variance, turned by the angles."""
    centred = points - points.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    right, up, near = vectors[:, :-4:-1].T
    # An eigenvector's sign is arbitrary. Its largest component becomes positive, which is stable except for ties.
    right, up, near = (axis * math.copysign(1, axis[np.abs(axis).argmax()]) for axis in (right, up, near))
    if len(near) == 3:
        # Most clouds have y upwards, or z upwards and little height. The latter are shown like a map, with north up.
        pole = next(pole for pole in np.eye(3)[[1, 2, 0]] if abs(pole @ near) < 0.9)
        up = pole - (pole @ near) * near
        up /= np.linalg.norm(up)
        right = np.cross(up, near)
    sin_a, cos_a, sin_e, cos_e = math.sin(AZIMUTH), math.cos(AZIMUTH), math.sin(ELEVATION), math.cos(ELEVATION)
    level = sin_a * right + cos_a * near
    return np.stack([cos_a * right - sin_a * near, cos_e * up - sin_e * level, sin_e * up + cos_e * level], 1)


def window(planes: Sequence[Float64]) -> Window:
    """The smallest window, plus a margin, for all `planes`, each (N, 3); `half` is 0 if all points coincide."""
    low = np.min([plane[:, :2].min(0) for plane in planes], 0)
    high = np.max([plane[:, :2].max(0) for plane in planes], 0)
    x, y = ((low + high) / 2).tolist()
    return Window(x, y, float((high - low).max()) / 2 * MARGIN)


def scale_bar(half: float, log_unit: float) -> ScaleBar:
    """The longest of 1, 2 or 5 · 10^k units that is at most a quarter of a window with this half side."""
    longest = math.log10(half / 2) + log_unit
    exponent = math.floor(longest + 1e-9)
    digit = max(digit for digit in (1, 2, 5) if math.log10(digit) <= longest - exponent + 1e-9)
    label = f"{digit}e{exponent}"
    if -4 <= exponent <= 5:
        label = f"{digit * 10**exponent}" if exponent >= 0 else f"{digit / 10**-exponent:.{-exponent}f}"
    return ScaleBar(10 ** (math.log10(digit) + exponent - log_unit), label)
