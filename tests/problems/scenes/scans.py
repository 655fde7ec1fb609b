"""Pairs of scans from a moved sensor, which stay near the identity: a street, a small robot, a room."""

from __future__ import annotations

import numpy as np

from tests.problems.scenes.casting import World
from tests.problems.scenes.scene import Float64, Place, Scene, direction, offset, seen_from, turn
from tests.problems.scenes.sensors import depth_camera, lidar, looking
from tests.problems.scenes.worlds import room, street

MAST = 1.8  # height of a car's sensor, m


def drive(seed: int, *, rings: int = 32, steps: int = 1024, metres: float = 1.5, degrees: float = 3) -> Scene:
    """A street by a spinning lidar on a car, and again after about `metres` and a turn of about `degrees`."""
    rng = np.random.default_rng([seed, 11])
    earlier = Place(turn(np.array([0, 0, rng.choice([0, np.pi]) + rng.normal(0, 0.05)])), _above(rng))
    step = np.array([metres * rng.uniform(0.7, 1.3), rng.normal(0, 0.1), rng.normal(0, 0.02)])
    tilt = np.array([*rng.normal(0, 0.005, 2), np.radians(degrees) * rng.choice([-1, 1]) * rng.uniform(0.3, 1)])
    later = Place(earlier.rotation @ turn(tilt), earlier.origin + earlier.rotation @ step)
    target = lidar(street(np.random.default_rng(seed)), earlier, rng, rings=rings, steps=steps)
    source = lidar(street(np.random.default_rng(seed), time=0.1), later, rng, rings=rings, steps=steps)
    return seen_from("drive", source, target, later, earlier)


def mapped(seed: int) -> Scene:
    """Two scans of a street in UTM coordinates, 500 km east and 5,000 km north of the origin."""
    rng = np.random.default_rng([seed, 12])
    scene = drive(seed, rings=24, steps=900, metres=1, degrees=1.5)
    return offset(scene, rng.uniform([4e5, 5e6, 100], [6e5, 5.8e6, 600]))._replace(kind="mapped")


def robot(seed: int) -> Scene:
    """A lidar without noise on a small robot: the floor's returns are the same numbers in both scans."""
    rng = np.random.default_rng([seed, 13])
    world = room(np.random.default_rng([seed, 13, 1]))
    earlier = Place(turn(np.array([0, 0, rng.uniform(-np.pi, np.pi)])), np.array([*rng.uniform(-0.4, 0.4, 2), 0.45]))
    yaw = turn(np.array([0, 0, np.radians(rng.uniform(4, 12)) * rng.choice([-1, 1])]))
    step = np.array([rng.uniform(0.15, 0.4), rng.normal(0, 0.03), 0])
    later = Place(earlier.rotation @ yaw, earlier.origin + earlier.rotation @ step)
    source, target = (
        lidar(world, place, rng, rings=16, steps=900, below=-30, above=30, noise=0, lost=0)
        for place in (later, earlier)
    )
    return seen_from("robot", source, target, later, earlier)


def indoors(seed: int, degrees: float = 5) -> Scene:
    """Two depth images of a furnished room, from viewpoints that differ by 5 to 25 cm and about `degrees`."""
    rng = np.random.default_rng([seed, 14])
    world = room(np.random.default_rng([seed, 14, 1]))
    earlier, later = viewpoints(world, rng, np.radians(degrees))
    return seen_from("indoors", depth_camera(world, later, rng), depth_camera(world, earlier, rng), later, earlier)


def viewpoints(world: World, rng: np.random.Generator, angle: float) -> tuple[Place, Place]:
    """Two cameras that look across the room, and differ by a turn of about `angle` (rad) and a step."""
    half = world.boxes[0, 3:6]
    corner = rng.choice([-1, 1], 2) * half[:2] * rng.uniform(0.55, 0.75, 2)
    at = np.array([*(-corner * rng.uniform(0.2, 0.6, 2)), 0.7])
    earlier = looking(np.array([*corner, rng.uniform(1.2, 1.8)]), at)
    step = rng.uniform(0.05, 0.25) * direction(rng) * [1, 1, 0.3]
    tilt = turn(angle * rng.uniform(0.6, 1.2) * direction(rng) * [0.4, 1, 0.3])
    return earlier, Place(earlier.rotation @ tilt, earlier.origin + step)


def _above(rng: np.random.Generator) -> Float64:
    return np.array([rng.uniform(-10, 10), rng.choice([-1, 1]) * rng.uniform(1, 2.5), MAST])
