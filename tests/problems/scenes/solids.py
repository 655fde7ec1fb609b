"""Closed surfaces without symmetry: figures of smoothly joined limbs with relief, sampled or seen by a camera."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tests.problems.scenes.scene import Float64, Place, direction
from tests.problems.scenes.sensors import pixels

BLEND = 0.04  # the radius of the joints, in sizes
RELIEF = 0.01  # the amplitude of each wave
WAVES = 12, 30  # the range of their wave numbers, rad a size


class Figure(NamedTuple):
    """A smooth union of capsules, of about unit size, and waves that give its surface relief."""

    starts: Float64  # (k, 3)
    ends: Float64  # (k, 3)
    radii: Float64  # (k,)
    waves: Float64  # (6, 3) wave vectors, rad a size: without them, the middle of a limb can turn about its axis
    phases: Float64  # (6,)


def figure(rng: np.random.Generator, limbs: int = 9) -> Figure:
    """A body with limbs, each of which begins on an earlier one."""
    starts, ends, radii = [np.zeros(3)], [0.45 * direction(rng)], [rng.uniform(0.14, 0.2)]
    while len(starts) < limbs:
        parent = int(rng.integers(min(len(starts), 4)))
        joint = starts[parent] + rng.uniform(0, 1) * (ends[parent] - starts[parent])
        out = direction(rng)
        starts.append(joint + 0.7 * radii[parent] * out)
        ends.append(joint + (radii[parent] + rng.uniform(0.1, 0.3)) * out)
        radii.append(min(rng.uniform(0.03, 0.1), 0.8 * radii[parent]))
    waves = np.stack([rng.uniform(*WAVES) * direction(rng) for _ in range(6)])
    return Figure(np.stack(starts), np.stack(ends), np.array(radii), waves, rng.uniform(0, 2 * np.pi, 6))


def distance(body: Figure, points: Float64) -> Float64:
    """A function (n,) that is 0 on the surface, with about the slope of the signed distance to it.

    The union is -b log Σ exp(-d/b), up to b log k below the smallest d. The slope of the relief is about .4.
    """
    rest = np.empty((len(body.radii), len(points)))
    for start, end, radius, out in zip(body.starts, body.ends, body.radii, rest, strict=True):
        along = end - start
        share = np.clip((points - start) @ (along / (along @ along)), 0, 1)
        out[:] = np.sqrt(np.square(points - start - share[:, None] * along).sum(1)) - radius
    least = rest.min(0)
    b = BLEND / 4
    relief = RELIEF * np.sin(points @ body.waves.T + body.phases).sum(1)
    return np.asarray(least - b * np.log(np.exp((least - rest) / b).sum(0)) - relief)


def normals(body: Figure, points: Float64) -> Float64:
    """Outward unit normals (n, 3), by central differences."""
    h = 1e-4
    slope = np.stack([distance(body, points + h * e) - distance(body, points - h * e) for e in np.eye(3)], 1)
    return np.asarray(slope / np.linalg.norm(slope, axis=1, keepdims=True))


def sampled(body: Figure, count: int, rng: np.random.Generator) -> Float64:
    """`count` points (count, 3) on the surface, nearly uniform by area: on the limbs, moved to the joint surface."""
    lengths = np.linalg.norm(body.ends - body.starts, axis=1)
    areas = body.radii * (lengths + 2 * body.radii)
    found: list[Float64] = []
    while sum(map(len, found)) < count:
        which = rng.choice(len(areas), 2 * count, p=areas / areas.sum())
        out = rng.normal(size=(2 * count, 3))
        axis = (body.ends - body.starts)[which] / lengths[which][:, None]
        # A sphere's points, whose cylinder has the area of the limb's middle: Archimedes' map, stretched.
        height = rng.uniform(-1, 1, 2 * count) * (lengths / 2 + body.radii)[which]
        cap = np.maximum(np.abs(height) - lengths[which] / 2, 0) / body.radii[which]
        out -= (out * axis).sum(1, keepdims=True) * axis
        out *= (body.radii[which] * np.sqrt(1 - cap**2) / np.linalg.norm(out, axis=1))[:, None]
        points = (body.starts + body.ends)[which] / 2 + out + height[:, None] * axis
        points = points[distance(body, points) > -1.5 * BLEND]
        for _ in range(3):
            points = points - distance(body, points)[:, None] * normals(body, points)
        points = points[np.abs(distance(body, points)) < 1e-3]
        found.append(points[: count - sum(map(len, found))])
    return np.concatenate(found)


def seen(body: Figure, place: Place, rng: np.random.Generator, *, columns: int = 100, noise: float = 0.002) -> Float64:
    """Points (n, 3) of the surface that a depth camera sees, in the world's coordinates, by sphere tracing."""
    rays = pixels(columns, columns, 26) @ place.rotation.T
    along = np.zeros(len(rays))
    active = np.arange(len(rays))
    hit = np.zeros(len(rays), bool)
    for _ in range(100):
        step = 0.5 * distance(body, place.origin + along[active][:, None] * rays[active])
        along[active] += step
        close = np.abs(step) < 1e-4
        hit[active[close]] = True
        active = active[~close & (along[active] < 4)]
        if not len(active):
            break
    ranges = along[hit] + noise * rng.normal(size=int(hit.sum()))
    return np.asarray(place.origin + ranges[:, None] * rays[hit])
