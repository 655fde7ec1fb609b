"""Scenes with a known motion: simulated scans, objects, degenerate and hopeless pairs. Seeded; under a second each."""

from __future__ import annotations

from collections.abc import Callable

from tests.problems.scenes.aerial import flight
from tests.problems.scenes.degenerate import ball, corridor, floor, pipe
from tests.problems.scenes.hopeless import apart, mirrored, scaled, unrelated
from tests.problems.scenes.objects import cut, keypoints, views
from tests.problems.scenes.scans import drive, indoors, mapped, robot
from tests.problems.scenes.scene import Scene

# The identity is near the motion of all but `views` and `keypoints`.
SOUND: dict[str, Callable[[int], Scene]] = {
    "drive": drive,
    "mapped": mapped,
    "robot": robot,
    "indoors": indoors,
    "views": views,
    "cut": cut,
    "keypoints": keypoints,
    "flight": flight,
}
DEGENERATE: dict[str, Callable[[int], Scene]] = {
    "corridor": corridor,
    "floor": floor,
    "pipe": pipe,
    "endless pipe": lambda seed: pipe(seed, whole=False),
    "ball": ball,
}
HOPELESS: dict[str, Callable[[int], Scene]] = {
    "unrelated": unrelated,
    "mirrored": mirrored,
    "scaled": scaled,
    "apart": apart,
}
KINDS = {**SOUND, **DEGENERATE, **HOPELESS}
