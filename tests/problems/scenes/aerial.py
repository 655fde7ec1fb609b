"""Airborne laser scans of terrain with gabled houses and trees, in UTM coordinates."""

from __future__ import annotations

import numpy as np

from tests.problems.scenes.scene import Float64, Scene, offset, turn

SIDE = 120.0  # of the square, m


def flight(seed: int, *, spacing: float = 0.9, metres: float = 2, degrees: float = 1, utm: bool = True) -> Scene:
    """One area by two flights in different directions, the later one off by up to `metres` and `degrees`.

    A point has 2 cm of noise in height and 10 cm in place. The flights see other points, and overlap in part.
    """
    rng = np.random.default_rng([seed, 31])
    ground = _Land(np.random.default_rng([seed, 31, 1]))
    target = ground.scanned(spacing, rng.uniform(0, np.pi), np.zeros(2), rng)
    source = ground.scanned(spacing, rng.uniform(0, np.pi), rng.uniform(-15, 15, 2), rng)
    # The true motion is about the middle of the area: q = R (p - c) + c + t, and the source is given before it.
    tilt = np.array([*rng.normal(0, 0.002, 2), np.radians(degrees) * rng.uniform(-1, 1)])
    rotation = turn(tilt)
    shift = metres * rng.uniform(-1, 1, 3) * [1, 1, 0.4]
    scene = Scene("flight", "sound", (source - shift) @ rotation, target, rotation, shift)
    return offset(scene, rng.uniform([4e5, 5e6, 0], [6e5, 5.8e6, 100])) if utm else scene


class _Land:
    """Heights over a square about the origin."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.waves = rng.normal(0, 1, (5, 2)) * 0.03
        self.phases = rng.uniform(0, 2 * np.pi, 5)
        self.swells = rng.uniform(0.3, 1.5, 5)
        houses, trees = 22, 25
        # centre, half length, half width, eaves, ridge, yaw
        self.houses = rng.uniform(
            [-SIDE / 1.5, -SIDE / 1.5, 5, 3.5, 3, 1, 0], [SIDE / 1.5, SIDE / 1.5, 12, 6, 9, 4, np.pi], (houses, 7)
        )
        self.trees = rng.uniform([-SIDE / 1.5, -SIDE / 1.5, 2, 5], [SIDE / 1.5, SIDE / 1.5, 5, 14], (trees, 4))

    def scanned(self, spacing: float, heading: float, middle: Float64, rng: np.random.Generator) -> Float64:
        """Points (n, 3) on lines across the heading, over a square of half the area about `middle`."""
        count = int(SIDE / spacing)
        line, step = np.meshgrid(np.arange(count), np.arange(count), indexing="ij")
        u = (step - count / 2 + 0.5 * (line % 2)) * spacing + 0.1 * rng.normal(size=line.shape)
        v = (line - count / 2) * spacing + rng.normal(0, 0.1, (count, 1))
        c, s = np.cos(heading), np.sin(heading)
        flat = np.stack([c * u - s * v, s * u + c * v], -1).reshape(-1, 2)
        flat = flat[(np.abs(flat) < SIDE / 2.6).all(1)] + middle
        z = self.height(flat, rng) + 0.02 * rng.normal(size=len(flat))
        return np.column_stack([flat + 0.1 * rng.normal(size=flat.shape), z])

    def height(self, flat: Float64, rng: np.random.Generator) -> Float64:
        """The first return (n,): of a roof, of leaves at random depths, or of the ground."""
        ground = np.sin(flat @ self.waves.T * 2 * np.pi + self.phases) @ self.swells
        z = ground.copy()
        for x, y, length, width, eaves, ridge, yaw in self.houses:
            c, s = np.cos(yaw), np.sin(yaw)
            away = flat - [x, y]
            along, across = away @ [c, s], np.abs(away @ [-s, c])
            over = (np.abs(along) < length) & (across < width)
            z[over] = np.maximum(z[over], eaves + ridge * (1 - across[over] / width))
        for x, y, radius, top in self.trees:
            near = np.square(flat - [x, y]).sum(1) / radius**2
            leaves = (near < 1) & (rng.uniform(size=len(flat)) < 0.8)
            crown = top - radius + radius * np.sqrt(np.maximum(1 - near, 0)) - rng.exponential(0.8, len(flat))
            z[leaves] = np.maximum(z[leaves], (ground + crown)[leaves])
        return np.asarray(z)
