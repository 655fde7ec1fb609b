"""Scans with a known motion, simulated and real: a lidar in a street, a depth camera in a room, terrain from above."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.registration.problems import Pair, PoseError
from benchmarks.registration.scan_tables import ANYWHERE, NEAR, REAL
from benchmarks.registration.scenarios import Arena, Row, Tally
from benchmarks.registration.shapes import Array
from benchmarks.registration.tasks import Init, Task
from benchmarks.registration.workers import Worker
from service.formats.clouds.reading import read_cloud
from tests.problems.scenes.aerial import flight
from tests.problems.scenes.scans import drive, indoors, mapped, robot
from tests.problems.scenes.scene import Scene, any_rotation, direction, displaced, turn


class Kind(NamedTuple):
    """A kind of scans: the voxels of the contenders that thin, and the bounds of a success."""

    draw: Callable[[int], Scene]
    voxel: float  # m
    reach: float  # m, of the correspondences of the contenders that thin; small_gicp's default is 1
    degrees: float
    metres: float


KINDS = {
    "street": Kind(lambda seed: drive(seed, rings=64, steps=1800), 0.25, 1.0, 0.3, 0.03),
    "street, UTM": Kind(mapped, 0.25, 1.0, 0.3, 0.03),
    "robot": Kind(robot, 0.1, 0.5, 0.5, 0.03),
    "indoors": Kind(indoors, 0.05, 0.4, 0.3, 0.01),
    "aerial, UTM": Kind(flight, 1.0, 4.0, 0.3, 0.1),
}


def near(arena: Arena) -> list[Row]:
    """Five scans of each kind from the identity."""
    rows: list[Row] = []
    for name, kind in KINDS.items():
        pairs = [posed(kind.draw(seed), kind, "identity") for seed in range(2 if arena.quick else 5)]
        rows += compared(arena, NEAR, name, pairs, kind, arena.scanning())
    return rows


def anywhere(arena: Arena) -> list[Row]:
    """The same with the target turned by any rotation about its centre: Latentserve with `init: auto`."""
    rows: list[Row] = []
    for name, kind in KINDS.items():
        pairs = [posed(_turned(kind.draw(seed), seed), kind, "auto") for seed in range(2 if arena.quick else 5)]
        rows += compared(arena, ANYWHERE, name, pairs, kind, arena.ours())
    return rows


def posed(scene: Scene, kind: Kind, init: Init) -> Pair:
    """The pair of a scene. Sizes are 1, so that a percentage of the size is a centimetre."""
    task = Task(scene.source, scene.target, init=init, reach=kind.reach, voxel=kind.voxel)
    return Pair(task, scene.rotation, scene.translation)


def _turned(scene: Scene, seed: int) -> Scene:
    """About the target's centroid, so that map coordinates stay map coordinates."""
    rng = np.random.default_rng([seed, 61])
    rotation, centre = any_rotation(rng), scene.target.mean(0)
    return displaced(scene, rotation, centre - rotation @ centre + rng.uniform(0, 5) * direction(rng))


class Known(NamedTuple):
    """A real pair, or one of a file, and the motion that its description gives."""

    scene: Scene
    kind: Kind


def real(arena: Arena) -> list[Row]:
    """Scans of $LATENTSERVE_DATA/registration/scans, and of the folder `field` beside it, as far as they are there."""
    rows: list[Row] = []
    runs: list[tuple[Init, list[Worker]]] = [("identity", arena.scanning()), ("auto", arena.ours())]
    for init, workers in runs:
        for name, (scene, kind) in known():
            if init == "auto" or kind.voxel:
                pairs = [posed(scene, kind, init)]
                rows += compared(arena, f"{REAL}, {init}", name, pairs, kind, workers)
    return rows


def known() -> Iterator[tuple[str, Known]]:
    """The pairs that are there, by name."""
    data = Path(os.environ.get("LATENTSERVE_DATA", "data"))
    scans, field = data / "registration" / "scans", data.parent / "field"
    if (scans / "room_scan1.pcd").exists():
        turned = np.array([[0.7567, -0.6536, 0.0176], [0.6534, 0.7569, 0.0144], [-0.0227, 0.0006, 0.9997]])
        clouds = [read_cloud((scans / f"room_scan{n}.pcd").read_bytes()).points for n in (2, 1)]
        yield "room", _known(clouds, turned, [1.97, 0.0573, 0.0319], 0.2, 0.3, 0.03)
    if (scans / "bunny_part1.xyz").exists():
        clouds = [np.loadtxt(scans / f"bunny_part{n}.xyz")[:, :3] for n in (2, 1)]
        yield "bunny, 31 %", _known(clouds, turn(np.array([0, 0, np.radians(10)])), [0, 0, 0], 0.2, 1, 0.1)
    if (field / "lidar_rings_source.npy").exists():
        clouds = [np.load(field / f"lidar_rings_{part}.npy").astype(float) for part in ("source", "target")]
        yield "rings", _known(clouds, turn(np.array([0, 0, 0.3])), [0.5, 0.15, 0], 0.1, 0.3, 0.03)
    if (field / "fiducials-5-of-10.json").exists():
        body = json.loads((field / "fiducials-5-of-10.json").read_text())
        clouds = [np.array(body[part]) for part in ("source", "target")]
        yield "5 of 10 fiducials", _known(clouds, turn(np.array([0, 0, 0.9]))[:2, :2], [66, 515], 0, 0.3, 0.03)


def _known(
    clouds: list[Array], rotation: Array, translation: list[float], voxel: float, degrees: float, metres: float
) -> Known:
    source, target = map(np.ascontiguousarray, clouds)
    scene = Scene("real", "sound", source, target, rotation, np.array(translation, float))
    return Known(scene, Kind(lambda seed: scene, voxel, 5 * voxel, degrees, metres))


def compared(arena: Arena, scenario: str, name: str, pairs: list[Pair], kind: Kind, workers: list[Worker]) -> list[Row]:
    """One row a contender: medians over the pairs, and the share within the bounds of the kind."""
    tallies = {worker.name: Tally() for worker in workers}
    for pair in pairs:
        for worker in workers:
            if tallies[worker.name].spent < arena.limit:
                tallies[worker.name].add([pair], worker.solve([pair.task], arena.limit))
    points = len(pairs[0].task.source)
    rows = [(tally, tally.row(scenario, name, worker, points)) for worker, tally in tallies.items()]
    return [
        row._replace(success=share(tally, lambda e: e.degrees <= kind.degrees and e.percent <= 100 * kind.metres))
        for tally, row in rows
        if tally.errors
    ]


def share(tally: Tally, holds: Callable[[PoseError], bool]) -> float:
    """The share of the errors for which something holds."""
    return sum(map(holds, tally.errors)) / len(tally.errors)
