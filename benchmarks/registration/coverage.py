"""How often Latentserve is right at 30 % overlap, and how often its 95 % regions of R and T hold the truth."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from benchmarks.registration.contenders import CONTENDERS
from benchmarks.registration.problems import Pair
from benchmarks.registration.scan_tables import OVERLAP, REGIONS
from benchmarks.registration.scenarios import Arena, Row, Tally
from benchmarks.registration.shapes import Array
from benchmarks.registration.tasks import Answer, Init, Task
from benchmarks.registration.workers import Run
from tests.problems.scenes.aerial import flight
from tests.problems.scenes.objects import cut, views
from tests.problems.scenes.scans import drive, indoors
from tests.problems.scenes.scene import Scene

CHI_SQUARED = 7.814728  # the 95 % quantile with 3 degrees of freedom


def overlap(arena: Arena) -> list[Row]:
    """Two cuts of a closed surface that share 30 % of their points, turned by up to 30°, from the identity and by auto.

    Global searches and methods that take all pairs of points are left out; the others use a reach of a tenth.
    """
    rows: list[Row] = []
    workers = [worker for worker in arena.local() if not CONTENDERS[worker.name].dense]
    problems: list[tuple[Init, list[str]]] = [
        ("identity", [worker.name for worker in workers]),
        ("auto", [worker.name for worker in arena.ours()]),
    ]
    for init, names in problems:
        tallies = {name: Tally() for name in names}
        for seed in range(24 if arena.quick else 200):
            scene = cut(seed)
            task = Task(scene.source, scene.target, init=init, outliers=0.7, reach=0.1)
            half = float(np.linalg.norm(np.ptp(scene.source, axis=0))) / 2
            pair = Pair(task, scene.rotation, scene.translation, half)
            for name, tally in tallies.items():
                if tally.spent < 10 * arena.limit:
                    tally.add([pair], arena.workers[name].solve([task], arena.limit))
        rows += [tally.row(OVERLAP, init, name, 2000) for name, tally in tallies.items()]
    return rows


SCANS: dict[str, Callable[[int], Scene]] = {
    "street": lambda seed: drive(seed, rings=16, steps=900),
    "indoors": indoors,
    "object": lambda seed: views(seed, apart=40, anywhere=False),
    "aerial": lambda seed: flight(seed, utm=False),
}


def regions(arena: Arena) -> list[Row]:
    """50 scans of each kind from the identity: the share of 95 % regions of T and of R that hold the truth."""
    rows: list[Row] = []
    for worker in arena.ours():
        for name, draw in SCANS.items():
            tally = Tally()
            held: dict[str, list[bool]] = {"T": [], "R": []}
            for seed in range(1000, 1012 if arena.quick else 1050):
                scene = draw(seed)
                task = Task(scene.source, scene.target)
                result = worker.solve([task], arena.limit)
                tally.add([Pair(task, scene.rotation, scene.translation)], result)
                if isinstance(result, Run):
                    [answer] = result.answers
                    held["T"].append(translation_held(scene, answer))
                    held["R"].append(rotation_held(scene, answer))
            row = tally.row(REGIONS, name, worker.name, len(scene.source))
            for part, shares in held.items():
                share = sum(shares) / len(shares) if shares else math.nan
                rows.append(row._replace(problem=f"{name}, {part}", success=share))
    return rows


def translation_held(scene: Scene, answer: Answer) -> bool:
    """Whether (T̂ - T)ᵀ C⁻¹ (T̂ - T) ≤ χ²; not without a covariance."""
    if answer.translation is None or answer.translation_covariance is None:
        return False
    return _within(answer.translation - scene.translation, answer.translation_covariance)


def rotation_held(scene: Scene, answer: Answer) -> bool:
    """The same of the axis-angle vector of R R̂ᵀ."""
    if answer.rotation is None or answer.rotation_covariance is None:
        return False
    off = scene.rotation @ answer.rotation.T
    skew = np.array([off[2, 1] - off[1, 2], off[0, 2] - off[2, 0], off[1, 0] - off[0, 1]]) / 2
    sine = float(np.linalg.norm(skew))
    angle = math.atan2(sine, (float(np.trace(off)) - 1) / 2)
    return _within(skew * (angle / sine if sine else 1.0), answer.rotation_covariance)


def _within(off: Array, covariance: Array) -> bool:
    return bool(off @ np.linalg.solve(covariance, off) <= CHI_SQUARED)
