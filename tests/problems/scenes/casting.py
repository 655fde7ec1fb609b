"""Ranges along rays in a world of boxes, upright cylinders, spheres and leaves: the first hit hides the rest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.problems.scenes.scene import Float64

Int64 = NDArray[np.int64]

NOTHING = np.zeros((0, 7))


class World(NamedTuple):
    """Things to see. Lengths are in metres, angles in radians."""

    boxes: Float64 = NOTHING  # (k, 7) centre x, y, z, half sizes, yaw; from inside, its walls
    cylinders: Float64 = np.zeros((0, 5))  # (k, 5) x, y, radius, lowest z, highest z; without caps
    spheres: Float64 = np.zeros((0, 4))  # (k, 4) centre, radius
    crowns: Float64 = np.zeros((0, 5))  # (k, 5) centre, radius, mean free path: leaves of a tree
    ground: float | None = None  # z


def cast(world: World, origin: Float64, rays: Float64, rng: np.random.Generator, near: float = 0.3) -> Float64:
    """The distance (n,) to the first hit beyond `near` along each unit vector (n, 3); infinite without one."""
    first = np.full(len(rays), np.inf)
    if world.ground is not None:
        with np.errstate(divide="ignore"):
            ranges = (world.ground - origin[2]) / rays[:, 2]
        first = np.where(ranges > near, ranges, np.inf)
    for box in world.boxes:
        which = _passing(rays, box[:3] - origin, float(np.linalg.norm(box[3:6])))
        _lower(first, which, _box(box, origin, rays[which]))
    for x, y, radius, low, high in world.cylinders:
        middle = np.array([x, y, (low + high) / 2]) - origin
        which = _passing(rays, middle, float(np.hypot(radius, (high - low) / 2)))
        _lower(first, which, _cylinder(middle, radius, (high - low) / 2, rays[which]))
    for *centre, radius in world.spheres:
        which = _passing(rays, np.array(centre) - origin, radius)
        _lower(first, which, _sphere(np.array(centre) - origin, radius, rays[which])[0])
    for *centre, radius, path in world.crowns:
        which = _passing(rays, np.array(centre) - origin, radius)
        _lower(first, which, _crown(np.array(centre) - origin, radius, path, rays[which], rng))
    first[first <= near] = np.inf
    return first


def _passing(rays: Float64, middle: Float64, reach: float) -> Int64:
    """Which rays pass through the sphere about `middle`: all, if the sensor is within it."""
    distance = float(np.linalg.norm(middle))
    if distance <= reach:
        return np.arange(len(rays))
    return np.flatnonzero(rays @ (middle / distance) >= np.sqrt(1 - (reach / distance) ** 2))


def _lower(first: Float64, which: Int64, ranges: Float64) -> None:
    first[which] = np.minimum(first[which], ranges)


def _box(box: Float64, origin: Float64, rays: Float64) -> Float64:
    """Slabs: a ray is inside the box between its last entry and its first exit."""
    cosine, sine = np.cos(box[6]), np.sin(box[6])
    own = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    start, rays = own @ (origin - box[:3]), rays @ own.T
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = (-box[3:6] - start) / rays, (box[3:6] - start) / rays
    entry, leaving = np.minimum(one, other).max(1), np.maximum(one, other).min(1)
    return np.where(entry > leaving, np.inf, np.where(entry > 0, entry, np.where(leaving > 0, leaving, np.inf)))


def _sphere(middle: Float64, radius: float, rays: Float64) -> tuple[Float64, Float64]:
    along = rays @ middle
    inside = radius**2 - (middle @ middle - along**2)
    half = np.sqrt(np.maximum(inside, 0))
    entry = np.where((inside > 0) & (along > half), along - half, np.inf)
    return entry, 2 * half


def _cylinder(middle: Float64, radius: float, half: float, rays: Float64) -> Float64:
    a = np.square(rays[:, :2]).sum(1)
    b = rays[:, :2] @ middle[:2]
    inside = b**2 - a * (middle[:2] @ middle[:2] - radius**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(np.maximum(inside, 0))
        entry = np.where(b > root, (b - root) / a, (b + root) / a)
        fits = (inside > 0) & (entry > 0) & (np.abs(entry * rays[:, 2] - middle[2]) <= half)
    return np.where(fits, entry, np.inf)


def _crown(middle: Float64, radius: float, path: float, rays: Float64, rng: np.random.Generator) -> Float64:
    """A ray goes an exponential length among leaves, and leaves the crown without a hit if that is beyond it."""
    entry, chord = _sphere(middle, radius, rays)
    depth = rng.exponential(path, len(rays))
    return np.where(depth < chord, entry + depth, np.inf)
