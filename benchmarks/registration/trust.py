"""How often the verdict is right: `python -m benchmarks.registration.trust [--problems N] [--first SEED]`.

Sound problems and hopeless ones of many kinds are registered in this process, with defaults but for the transform. A
sound problem whose answer is right should be good. A hopeless one, and a wrong answer, must not be. Scans start at the
identity, as they come from a sensor that moved little; all others start anywhere. The noise of sound points is at most
half of their spacing. With more, two samples of one shape differ no more than unrelated ones.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from service.em.choices import Init, Transform
from service.em.outcome import Outcome
from service.em.problem import Problem
from service.em.register import register
from tests.problems.poses import FAMILIES, cloud, posed, rotation
from tests.problems.registration import Instance, bijection, cropped, overlapping
from tests.problems.scenes import DEGENERATE, HOPELESS, SOUND
from tests.problems.scenes.scene import Scene

Float64 = NDArray[np.float64]

# A right answer moves the points by at most this share of the target's extent, or this many deviations of the noise,
# from where the truth does.
SHARE, DEVIATIONS = 0.02, 3.0
NEAR = {"drive", "mapped", "robot", "indoors", "flight", "corridor", "floor"}


class Trial(NamedTuple):
    """A problem, and the truth A, T; None if no transform is right."""

    kind: str
    problem: Problem
    truth: tuple[Float64, Float64] | None
    noise: float = 0.0


class Result(NamedTuple):
    """What the verdict says of one answer."""

    kind: str
    hopeless: bool
    right: bool
    verdict: str
    seconds: float


def scene_trial(name: str, seed: int) -> Trial:
    """A scene of `tests.problems.scenes`."""
    scene: Scene = {**SOUND, **DEGENERATE, **HOPELESS}[name](seed)
    init: Init = "identity" if name in NEAR else "auto"
    problem = Problem(scene.source, scene.target, transform="rigid", init=init)
    truth = None if scene.sort != "sound" else (scene.rotation, scene.translation)
    return Trial(scene.kind.split()[0] if scene.sort == "hopeless" else name, problem, truth)


def points_trial(name: str, seed: int) -> Trial:
    """Key points: 10 to 1,000 of them in two or three dimensions, with up to 40 % of outliers and 75 % overlap."""
    rng = np.random.default_rng([seed, sum(map(ord, name))])
    family, D, n = FAMILIES[rng.integers(4)], int(rng.integers(2, 4)), int(10 ** rng.uniform(1, 3))
    noise, outliers = float(rng.choice([0.001, 0.004, 0.01])), float(rng.choice([0, 0, 0.2, 0.4]))
    overlap, other = float(rng.choice([1, 0.9, 0.75])), int(n * rng.uniform(0.7, 1.4)) + 1
    transform: Transform = "affine" if "affine" in name else "similarity" if "similarity" in name else "rigid"
    drawn = partial(posed, family, n, dimension=D, overlap=overlap, outliers=outliers)
    noise = _limited(noise, drawn(noise=0.0, seed=seed).source)
    pair = drawn(noise=noise, seed=seed)
    source, target, A, T = pair.source, pair.target, pair.rotation, pair.translation
    truth: tuple[Float64, Float64] | None = None
    if name.startswith("unrelated"):
        target = drawn(noise=noise, seed=seed + 10**6).target
    elif name == "noise":
        target = rng.uniform(size=(other, D))
    elif name == "mirrored":
        target = target * np.r_[-1.0, np.ones(D - 1)]
    elif name == "scaled":
        target = target * rng.choice([0.5, 1.5, 2])
    else:
        B = np.eye(D) if transform == "rigid" else rng.uniform(0.5, 2) * np.eye(D)
        if transform == "affine":
            B = B + 0.2 * rng.normal(size=(D, D))
        target, noise, truth = target @ B.T, noise * float(np.abs(B).max()), (B @ A, B @ T)
    return Trial(f"points, {name}", Problem(source, target, transform=transform), truth, noise)


def translation_trial(name: str, seed: int) -> Trial:
    """Translations of 10 to 1,000 points in one to three dimensions, as the batched engine computes them."""
    rng = np.random.default_rng([seed, sum(map(ord, name)), 1])
    D, n, noise = int(rng.choice([1, 2, 2, 3])), int(10 ** rng.uniform(1, 3)), float(rng.choice([0.001, 0.004, 0.01]))
    truth: tuple[Float64, Float64] | None = None
    if name in {"bijection", "overlapping", "cropped"}:
        makers: dict[str, Callable[..., Instance]] = {
            "bijection": partial(bijection, n, D),
            "cropped": partial(cropped, n, D, 0.8),
            "overlapping": partial(overlapping, n // 5 + 1, n, n // 5 + 1, D),
        }
        noise = _limited(noise, makers[name](sigma=0.0, seed=seed).source)
        one = makers[name](sigma=noise, seed=seed)
        source, target, truth = one.source, one.target, (np.eye(D), one.translation)
    else:
        D = max(D, 2)
        source = cloud("cube", n, D, rng)
        target = rng.choice([0.5, 2]) * source
        if name == "unrelated":
            target = cloud("cube", int(n * rng.uniform(0.7, 1.4)) + 1, D, rng)
        elif name == "rotated":
            target = source @ rotation(D, rng.uniform(0.7, 2.4), rng).T
        target = target + noise * rng.normal(size=target.shape) + rng.normal(size=D)
    return Trial(f"translation, {name}", Problem(source, target), truth, noise)


def _limited(noise: float, points: Float64) -> float:
    """The noise, at most half of the median distance to the nearest neighbour."""
    distance = cKDTree(points).query(points, [2])[0]
    return min(noise, float(np.median(distance)) / 2)


POINTS = "rigid", "similarity", "affine", "unrelated", "noise", "mirrored", "scaled", "unrelated similarity"
TRANSLATIONS = "bijection", "overlapping", "cropped", "unrelated", "rotated", "scaled"
MAKERS: list[Callable[[int], Trial]] = [
    *(lambda seed, name=name: scene_trial(name, seed) for name in [*SOUND, *DEGENERATE, *HOPELESS]),
    *(lambda seed, name=name: points_trial(name, seed) for name in POINTS),
    *(lambda seed, name=name: translation_trial(name, seed) for name in TRANSLATIONS),
]


def trials(count: int, first: int) -> Iterator[Trial]:
    """About `count` problems, as many of each kind; those of a sensor that sees nothing are left out."""
    for seed in range(first, first + -(-count // len(MAKERS))):
        for make in MAKERS:
            trial = make(seed)
            if len(trial.problem.source) and len(trial.problem.target):
                yield trial


def judged(trial: Trial) -> Result:
    """Register one problem and compare its verdict with the truth."""
    begin = time.perf_counter()
    outcome = register(trial.problem)
    seconds = time.perf_counter() - begin
    verdict = "none" if outcome.quality is None else outcome.quality.verdict
    return Result(trial.kind, trial.truth is None, _right(trial, outcome), verdict, seconds)


def _right(trial: Trial, outcome: Outcome) -> bool:
    if trial.truth is None:
        return False
    source, target, D = trial.problem.source, trial.problem.target, trial.problem.source.shape[1]
    linear = np.eye(D) if outcome.linear is None else outcome.linear
    centre = source.mean(0)  # differences first, because map coordinates are large
    off = (source - centre) @ (linear - trial.truth[0]).T
    off += (linear - trial.truth[0]) @ centre + (outcome.translation - trial.truth[1])
    extent = math.sqrt(float(target.var(0).sum()))
    return math.sqrt(float((off**2).sum(1).mean())) < max(SHARE * extent, DEVIATIONS * trial.noise)


def table(results: list[Result]) -> str:
    """A line for each kind: the verdicts of right answers, and those of wrong answers and of hopeless problems."""
    lines = [
        "| kind | right: good | doubtful | failed | wrong or hopeless: good | doubtful | failed |",
        "|---" * 7 + "|",
    ]
    for kind in dict.fromkeys(result.kind for result in results):
        own = [result for result in results if result.kind == kind]
        counts = [
            sum(result.right == right and result.verdict == verdict for result in own)
            for right in (True, False)
            for verdict in ("good", "doubtful", "failed")
        ]
        lines.append(f"| {kind} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and the shares that are told apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("--first", type=int, default=1000, help="the first seed")
    options = parser.parse_args()
    results = [judged(trial) for trial in trials(options.problems, options.first)]
    print(table(results))
    right = [result for result in results if result.right]
    other = [result for result in results if not result.right]
    good = sum(result.verdict == "good" for result in right)
    apart = good + sum(result.verdict != "good" for result in other)
    print(f"\n{len(results)} problems, {sum(result.hopeless for result in results)} of them hopeless or degenerate")
    print(f"right answers that are good: {good} of {len(right)}")
    print(f"others that are good: {sum(result.verdict == 'good' for result in other)} of {len(other)}")
    print(f"told apart: {100 * apart / len(results):.1f} %")


if __name__ == "__main__":
    main()
