"""Scenes that determine the motion only in part."""

from __future__ import annotations

import numpy as np

from tests.problems.scenes.casting import World
from tests.problems.scenes.scene import (
    Float64,
    Freedom,
    Place,
    Scene,
    any_rotation,
    direction,
    displaced,
    seen_from,
    turn,
)
from tests.problems.scenes.sensors import lidar

AXES = np.eye(3)


def corridor(seed: int) -> Scene:
    """An endless corridor by a spinning lidar, which moves 1 m along it: the step along it is free."""
    rng = np.random.default_rng([seed, 41])
    width, height = rng.uniform(1.8, 3.5), rng.uniform(2.2, 3)
    world = World(np.array([[0, 0, height / 2, 500, width / 2, height / 2, 0]]))
    earlier, later = _steps(rng, np.array([0, 0, rng.uniform(0.8, 1.2)]), 1.0)
    scene = seen_from("corridor", *_both(world, rng, later, earlier), later, earlier)
    return _free(scene, earlier, Freedom("translation", AXES[0]))


def floor(seed: int) -> Scene:
    """A wide floor by a spinning lidar: steps along it and the turn about its normal are free."""
    rng = np.random.default_rng([seed, 42])
    earlier, later = _steps(rng, np.array([0, 0, rng.uniform(0.8, 1.8)]), 0.5)
    scene = seen_from("floor", *_both(World(ground=0.0), rng, later, earlier), later, earlier)
    freedoms = [Freedom("translation", AXES[0]), Freedom("translation", AXES[1]), Freedom("rotation", AXES[2])]
    return _free(scene, earlier, *freedoms)


def pipe(seed: int, *, whole: bool = True, count: int = 3000) -> Scene:
    """An open cylinder, sampled twice: the turn about its axis is free. Of an endless one, so is the step along it."""
    rng = np.random.default_rng([seed, 43])
    radius, half = rng.uniform(0.15, 0.3), rng.uniform(0.4, 0.8)
    clouds = []
    for middle in (0.0, 0.0 if whole else 0.2):
        angle = rng.uniform(0, 2 * np.pi, count)
        height = middle + half * rng.uniform(-1, 1, count)
        clouds.append(np.stack([radius * np.cos(angle), radius * np.sin(angle), height], 1))
    freedoms = [Freedom("rotation", AXES[2])] + ([] if whole else [Freedom("translation", AXES[2])])
    return _object("pipe" if whole else "endless pipe", clouds, freedoms, rng)


def ball(seed: int, count: int = 3000) -> Scene:
    """A sphere, sampled twice: every turn about its centre is free."""
    rng = np.random.default_rng([seed, 44])
    clouds = [0.5 * _unit(rng.normal(size=(count, 3))) for _ in range(2)]
    return _object("ball", clouds, [Freedom("rotation", axis) for axis in AXES], rng)


def _object(kind: str, clouds: list[Float64], freedoms: list[Freedom], rng: np.random.Generator) -> Scene:
    source, target = (part + 0.003 * rng.normal(size=part.shape) for part in clouds)
    away = any_rotation(rng)
    scene = Scene(kind, "degenerate", source, target, np.eye(3), np.zeros(3), tuple(freedoms))
    # Both clouds are turned, so that no axis is one of the coordinates; then the target by 10°.
    scene = displaced(scene._replace(source=source @ away.T, rotation=away.T), away, np.zeros(3))
    return displaced(scene, turn(np.radians(10) * direction(rng)), 0.05 * direction(rng))


def _steps(rng: np.random.Generator, origin: Float64, metres: float) -> tuple[Place, Place]:
    earlier = Place(turn(np.array([0, 0, rng.uniform(-np.pi, np.pi)])), origin)
    step = np.array([metres * rng.uniform(0.7, 1.3), rng.normal(0, 0.05), 0])
    return earlier, Place(earlier.rotation @ turn(np.array([0, 0, rng.normal(0, 0.05)])), origin + step)


def _both(world: World, rng: np.random.Generator, later: Place, earlier: Place) -> tuple[Float64, Float64]:
    source, target = (
        lidar(world, place, rng, rings=16, steps=720, below=-30, above=30, far=20, noise=0.01)
        for place in (later, earlier)
    )
    return source, target


def _free(scene: Scene, earlier: Place, *freedoms: Freedom) -> Scene:
    turned = tuple(one._replace(axis=earlier.rotation.T @ one.axis) for one in freedoms)
    return scene._replace(sort="degenerate", free=turned)


def _unit(vectors: Float64) -> Float64:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
