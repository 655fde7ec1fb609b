"""Sensors with range noise: a spinning lidar, and a depth camera."""

from __future__ import annotations

import numpy as np

from tests.problems.scenes.casting import World, cast
from tests.problems.scenes.scene import Float64, Place


def lidar(
    world: World,
    place: Place,
    rng: np.random.Generator,
    *,
    rings: int = 32,
    steps: int = 1024,
    below: float = -25,
    above: float = 15,
    noise: float = 0.02,
    far: float = 80,
    lost: float = 0.02,
) -> Float64:
    """Points (n, 3) of one revolution, in the sensor's frame (x forward, z up).

    The elevations are those of real sensors: half of the rings lie within a quarter of the field about the horizon.
    `below` and `above` are in degrees, `noise` and `far` in metres; a share `lost` of the returns is missing.
    """
    even = np.linspace(-1, 1, rings)
    elevation = np.radians(np.interp(0.5 * even + 0.5 * even**3, [-1, 0, 1], [below, 0.0, above]))
    azimuth = np.arange(steps) * (2 * np.pi / steps)
    flat = np.cos(elevation)
    rays = np.stack(
        [np.outer(flat, np.cos(azimuth)), np.outer(flat, np.sin(azimuth)), np.outer(np.sin(elevation), np.ones(steps))],
        -1,
    ).reshape(-1, 3)
    ranges = cast(world, place.origin, rays @ place.rotation.T, rng)
    kept = (ranges < far) & (rng.uniform(size=len(ranges)) >= lost)
    return np.asarray(rays[kept] * (ranges[kept] + noise * rng.normal(size=int(kept.sum())))[:, None])


def pixels(columns: int, rows: int, field: float) -> Float64:
    """Unit vectors (rows · columns, 3) through the pixels of a camera (x right, y down, z forward)."""
    focal = columns / 2 / np.tan(np.radians(field) / 2)
    u, v = np.meshgrid((np.arange(columns) + 0.5 - columns / 2) / focal, (np.arange(rows) + 0.5 - rows / 2) / focal)
    rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3)
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def depth_camera(
    world: World,
    place: Place,
    rng: np.random.Generator,
    *,
    columns: int = 160,
    rows: int = 120,
    field: float = 60,
    far: float = 8,
    noise: float = 1,
) -> Float64:
    """Points (n, 3) of one depth image, in the camera's frame. `field` is the horizontal field of view in degrees.

    The depth's standard deviation is `noise` times that of a structured-light camera, 1.2 mm + 1.9 mm (z - .4)², z in
    metres (Nguyen, Izadi and Lovell 2012).
    """
    rays = pixels(columns, rows, field)
    ranges = cast(world, place.origin, rays @ place.rotation.T, rng)
    kept = ranges < far
    points = rays[kept] * ranges[kept][:, None]
    z = points[:, 2]
    sigma = noise * (0.0012 + 0.0019 * np.square(z - 0.4))
    return np.asarray(points * (1 + sigma * rng.normal(size=len(z)) / z)[:, None])


def looking(origin: Float64, at: Float64) -> Place:
    """A camera at `origin` that looks at a point; the world's z is up in its picture."""
    forward = (at - origin) / np.linalg.norm(at - origin)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    return Place(np.stack([right, np.cross(forward, right), forward], 1), np.asarray(origin, float))
