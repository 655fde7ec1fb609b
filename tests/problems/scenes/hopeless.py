"""Pairs that no rigid motion aligns: unrelated, mirrored, at another scale, or without overlap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.problems.scenes.aerial import flight
from tests.problems.scenes.objects import cut, keypoints, views
from tests.problems.scenes.scans import drive, indoors, viewpoints
from tests.problems.scenes.scene import Place, Scene, turn
from tests.problems.scenes.sensors import depth_camera
from tests.problems.scenes.worlds import room

SOUND: dict[str, Callable[[int], Scene]] = {
    "drive": drive,
    "indoors": indoors,
    "cut": lambda seed: cut(seed, overlap=0.7),
    "views": views,
    "keypoints": keypoints,
    "flight": lambda seed: flight(seed, utm=False),
}


def unrelated(seed: int) -> Scene:
    """The source of one scene, and the target of another of the same family, at the source's place."""
    one, other = _sound(seed), _sound(seed + 6000 * len(SOUND))
    target = other.target + one.target.mean(0) - other.target.mean(0)
    return one._replace(kind=f"unrelated {one.kind}", sort="hopeless", target=target)


def mirrored(seed: int) -> Scene:
    """The target is mirrored in a plane through its centre, which is vertical for scans."""
    one = _sound(seed)
    middle = one.target.mean(0)
    return one._replace(
        kind=f"mirrored {one.kind}", sort="hopeless", target=(one.target - middle) * [-1, 1, 1] + middle
    )


def scaled(seed: int, factor: float = 2) -> Scene:
    """The target is twice as large."""
    one = _sound(seed)
    middle = one.target.mean(0)
    return one._replace(kind=f"scaled {one.kind}", sort="hopeless", target=factor * (one.target - middle) + middle)


def apart(seed: int) -> Scene:
    """Two scans of one scene that share nothing: other ends of an object, or opposite views of a room."""
    if seed % 2:
        rng = np.random.default_rng([seed, 51])
        world = room(np.random.default_rng([seed, 51, 1]))
        earlier, _ = viewpoints(world, rng, 0.1)
        around = turn(np.array([0, 0, np.pi])) @ earlier.rotation
        origin = earlier.origin * [0.1, 0.1, 1]
        source, target = (depth_camera(world, Place(r, origin), rng) for r in (around, earlier.rotation))
        return Scene("apart indoors", "hopeless", source, target, earlier.rotation.T @ around, np.zeros(3))
    whole = cut(seed // 2, overlap=1.0)
    rng = np.random.default_rng([seed, 52])
    across = rng.normal(size=3)
    source, target = whole.source, (whole.target - whole.translation) @ whole.rotation
    low, high = np.quantile(source @ across, [0.45, 0.55])
    target = target[target @ across > high] @ whole.rotation.T + whole.translation
    return whole._replace(kind="apart cut", sort="hopeless", source=source[source @ across < low], target=target)


def _sound(seed: int) -> Scene:
    """The families in turn, each with all of its seeds."""
    return list(SOUND.values())[seed % len(SOUND)](seed // len(SOUND))
