"""The fish and the bunny of pycpd: rigid pairs with random rotations, and the deformed fish."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from benchmarks.registration.contenders import CONTENDERS
from benchmarks.registration.problems import Pair
from benchmarks.registration.scenarios import Arena, Row, Tally
from benchmarks.registration.shapes import Array, rotation
from benchmarks.registration.tasks import Task
from benchmarks.registration.workers import Run


def figures(arena: Arena) -> list[Row]:
    """Success rate over 24 random rotations of fish and bunny; residual distance of the deformed fish."""
    folder = Path(os.environ.get("LATENTSERVE_DATA", "data")) / "registration"
    if not folder.is_dir():
        print(f"skipping fish and bunny: {folder} does not exist; set LATENTSERVE_DATA to its parent folder")
        return []
    fish, fins, bunny, hare = (
        np.loadtxt(folder / f"{name}.txt") for name in ("fish_source", "fish_target", "bunny_source", "bunny_target")
    )
    rows = []
    for name, source, target in (("fish", fish, fish), ("bunny", bunny, hare)):
        tallies = {w.name: Tally() for w in arena.general() if CONTENDERS[w.name].plane or source.shape[1] == 3}
        for seed in range(6 if arena.quick else 24):
            pair = turned(source, target, seed)
            for contender, tally in tallies.items():
                if tally.spent < arena.limit:
                    tally.add([pair], arena.workers[contender].solve([pair.task], arena.limit))
        rows += [tally.row("figures", name, contender, len(source)) for contender, tally in tallies.items()]
    order = np.random.default_rng(0).permutation(len(fins))
    task = Task(fish, np.ascontiguousarray(fins[order]), transform="nonrigid", init="identity")
    for worker in arena.general():
        if CONTENDERS[worker.name].nonrigid:
            row = Row("figures", "deformed fish", worker.name, len(fish))
            result = worker.solve([task], arena.limit, least=0.1)
            if isinstance(result, Run):
                [answer] = result.answers
                distance = float(np.linalg.norm(np.asarray(answer.registered) - fins, axis=1).mean())
                row = row._replace(calls=1, seconds=result.seconds, percent=100 * distance / size(fins))
                rows.append(row._replace(note=f"mean distance {distance:.5f}"))
            else:
                rows.append(row._replace(note=result.reason))
    return rows


def turned(source: Array, target: Array, seed: int) -> Pair:
    """`source`, rotated at random about its centroid, and the congruent `target` in random order."""
    rng = np.random.default_rng([seed, 5])
    turn, centre = rotation(source.shape[1], rng), source.mean(axis=0)
    moved = (source - centre) @ turn.T + centre
    task = Task(moved, np.ascontiguousarray(rng.permutation(target)), init="auto", reach=0.25 * size(target))
    # target = source + d point by point, so target - d - centre = turn' (moved - centre)
    return Pair(task, turn.T, target.mean(axis=0) - turn.T @ centre, size(target))


def size(points: Array) -> float:
    """Half the diagonal of the bounding box."""
    return float(np.linalg.norm(np.ptp(points, axis=0))) / 2
