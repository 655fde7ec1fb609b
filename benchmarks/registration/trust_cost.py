"""What the verdict costs: `python -m benchmarks.registration.trust_cost [--repeats N]`.

The share of a registration's time that its block `quality` takes, in this process: medians over problems of N points
with 20 % of outliers and 5 seeds, and the milliseconds of the block for scans.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from service.em.batched import answers
from service.em.choices import Init, Transform
from service.em.problem import Problem
from service.em.register import register_batch
from service.em.solving import pose_answers
from tests.problems.poses import posed
from tests.problems.scenes import SOUND

COUNTS = 10, 30, 100, 300, 1000
TRANSFORMS: tuple[Transform, ...] = "translation", "rigid", "similarity", "affine"
SEEDS = 5
BATCH = 64
SCANS = "drive", "mapped", "robot", "indoors", "views", "cut", "flight"


class Clock:
    """Measures the block `quality` of all registrations in this process."""

    def __init__(self) -> None:
        self.seconds = 0.0
        for module in answers, pose_answers:
            module.assess = self._timed(module.assess)  # type: ignore[attr-defined]

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            found = function(*arguments, **options)
            self.seconds += time.perf_counter() - begin
            return found

        return timed

    def measured(self, problems: Sequence[Problem]) -> tuple[float, float]:
        """The seconds of the block, and of the whole registration."""
        self.seconds, begin = 0.0, time.perf_counter()
        register_batch(problems)
        return self.seconds, time.perf_counter() - begin


def keypoints(n: int, dimension: int, transform: Transform, init: Init, seed: int) -> Problem:
    """Key points near the pose of `init`: 20 % of both clouds are outliers."""
    turn = 0.0 if transform == "translation" else 0.1 if init == "identity" else None
    pair = posed("gauss", round(n / 1.2), dimension=dimension, outliers=0.2, noise=0.005, angle=turn, seed=seed)
    target = pair.target - pair.translation + 0.02
    if transform in {"similarity", "affine"}:
        target = 1.05 * target
    if transform == "affine":
        target = target @ (np.eye(dimension) + 0.03 * np.random.default_rng(seed).normal(size=(dimension, dimension)))
    return Problem(pair.source, target, transform=transform, init=init)


def row(clock: Clock, groups: Sequence[Sequence[Problem]], repeats: int) -> tuple[float, float]:
    """The median share of the block, and its median in milliseconds for each problem."""
    found = [clock.measured(group) for _ in range(repeats) for group in groups]
    shares = [block / whole for block, whole in found]
    each = [block / len(group) for _ in range(repeats) for (block, _), group in zip(found, groups, strict=False)]
    return float(np.median(shares)), 1e3 * float(np.median(each))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    clock = Clock()
    register_batch([keypoints(40, D, t, "auto", 0) for D in (2, 3) for t in TRANSFORMS])
    print(f"| D | transform | init | {' | '.join(f'N = {n:,}' for n in COUNTS)} |")
    print("|---" * (3 + len(COUNTS)) + "|")
    inits: tuple[Init, ...] = "identity", "auto"
    for D in (2, 3):
        for transform in TRANSFORMS:
            for init in inits:
                cells = []
                for n in COUNTS:
                    groups = [[keypoints(n, D, transform, init, seed)] for seed in range(SEEDS)]
                    share, each = row(clock, groups, options.repeats)
                    cells.append(f"{100 * share:.1f} % ({each:.2f} ms)")
                print(f"| {D} | {transform} | {init} | {' | '.join(cells)} |", flush=True)
        cells = []
        for n in COUNTS:
            group = [keypoints(n, D, "translation", "auto", seed) for seed in range(BATCH)]
            share, each = row(clock, [group], options.repeats)
            cells.append(f"{100 * share:.1f} % ({each:.2f} ms)")
        print(f"| {D} | translation, {BATCH} together | auto | {' | '.join(cells)} |", flush=True)
    print("\n| scan | of the time | block |\n|---|---|---|")
    for name in SCANS:
        scene = SOUND[name](1)
        problem = Problem(scene.source, scene.target, transform="rigid", init="identity")
        share, each = row(clock, [[problem]], max(1, options.repeats // 2))
        print(f"| {name}, {len(scene.source):,} points | {100 * share:.1f} % | {each:.0f} ms |", flush=True)


if __name__ == "__main__":
    main()
