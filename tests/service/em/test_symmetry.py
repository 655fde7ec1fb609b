"""The answer for symmetric clouds: of equally good poses, rounding does not choose."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.em.ambiguity import difference
from service.em.coordinates import frame
from service.em.problem import Pose, Problem
from service.em.register import register
from service.em.starting.ranking import ranked

Float64 = NDArray[np.float64]

RUNS = 8


def grid(*counts: int) -> Float64:
    """A regular grid with unit spacing."""
    return np.array(list(itertools.product(*map(range, counts))), float)


def polygon(corners: int) -> Float64:
    """The corners of a regular polygon."""
    angle = 2 * math.pi * np.arange(corners) / corners
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def icosahedron() -> Float64:
    """The twelve corners."""
    golden = (1 + math.sqrt(5)) / 2
    rectangle = np.array([[0, a, b * golden] for a in (1, -1) for b in (1, -1)])
    return np.concatenate([np.roll(rectangle, k, 1) for k in range(3)])


def scattered(count: int, dimension: int) -> Float64:
    """A cloud without symmetry."""
    return np.random.default_rng(5).normal(size=(count, dimension))


def with_opposites(points: Float64) -> Float64:
    """The points and their opposites."""
    return np.concatenate([points, -points])


def turned(points: Float64) -> Float64:
    """The points, rotated by an angle that is no symmetry of any regular shape, and shifted."""
    c, s = math.cos(0.3), math.sin(0.3)
    turn = np.eye(points.shape[1])
    turn[:2, :2] = [[c, -s], [s, c]]
    return points @ turn.T + 3


def copies(points: Float64, *shifts: float) -> Float64:
    """Copies of the points, shifted along the first axis."""
    return np.concatenate([points + shift * np.eye(points.shape[1])[0] for shift in shifts])


def around(points: Float64) -> Float64:
    """Four copies of the points, at the same distance from the middle along two axes."""
    axes = 7 * np.eye(points.shape[1])[:2]
    return np.concatenate([points + axis for axis in (*axes, *-axes)])


def rounded(points: Float64, rng: np.random.Generator) -> Float64:
    """The points, each coordinate as rounding might change it."""
    return np.asarray(points * (1 + 3e-16 * rng.integers(-1, 2, points.shape)))


def numbers(pose: Pose | None) -> list[float]:
    """The numbers of a pose, to three decimals."""
    return [] if pose is None else [round(x, 3) + 0.0 for x in [*pose.linear.ravel(), *pose.translation]]


def answers(source: Float64, target: Float64, **options: Any) -> list[tuple[list[float], list[float], str]]:
    """The pose, the runner-up and the start's name, for the clouds and for those that rounding has changed."""
    out = []
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        clouds = (source, target) if seed == 0 else (rounded(source, rng), rounded(target, rng))
        outcome = register(Problem(*clouds, **options))
        pose = Pose(np.eye(source.shape[1]) if outcome.linear is None else outcome.linear, outcome.translation)
        other = outcome.runner_up.pose if outcome.runner_up is not None else None
        out.append((numbers(pose), numbers(other), outcome.start))
    return out


SHAPES = {
    "square": grid(2, 2),
    "square grid": grid(5, 5),
    "hexagon": polygon(6),
    "polygon of 60 corners": polygon(60),
    "opposites": with_opposites(scattered(20, 2)),
    "cube": grid(2, 2, 2),
    "octahedron": with_opposites(np.eye(3)),
    "icosahedron": icosahedron(),
}


@pytest.mark.parametrize("transform", ["rigid", "similarity"])
@pytest.mark.parametrize("shape", SHAPES)
def test_rounding_does_not_choose_between_the_poses_of_a_symmetric_cloud(shape: str, transform: str) -> None:
    first, *others = answers(SHAPES[shape], turned(SHAPES[shape]), transform=transform)
    assert others == [first] * (RUNS - 1)
    assert first[1]


OPPOSITES = with_opposites(scattered(15, 2))
PLACES = {
    "two squares": (grid(2, 2), copies(grid(2, 2), 0, 7)),
    "three squares": (grid(2, 2), copies(grid(2, 2), 0, 7, -7)),
    "squares around the middle": (grid(2, 2), around(grid(2, 2))),
    "two cubes": (grid(2, 2, 2), copies(grid(2, 2, 2), 0, 7)),
    "cubes around the middle": (grid(2, 2, 2), around(grid(2, 2, 2))),
    "scattered points around the middle": (scattered(15, 2), around(scattered(15, 2))),
    "two clouds of opposites": (with_opposites(scattered(20, 2)), copies(with_opposites(scattered(20, 2)), 0, 7)),
    "clouds of opposites around the middle": (
        with_opposites(scattered(15, 2)),
        around(with_opposites(scattered(15, 2))),
    ),
    "four dimensions": (grid(2, 2, 2, 2), around(grid(2, 2, 2, 2))),
    "a line in a longer line": (grid(10), grid(25)),
    "a grid in a larger grid": (grid(5, 5), grid(8, 8)),
    "two rectangles": (grid(3, 5), grid(5, 3)),
}


@pytest.mark.parametrize("options", [{}, {"sigma": 0.1}, {"outlier_weight": "auto"}], ids=str)
@pytest.mark.parametrize("place", PLACES)
def test_rounding_does_not_choose_between_translations_that_fit_equally(place: str, options: dict[str, Any]) -> None:
    first, *others = answers(*PLACES[place], **options)
    assert others == [first] * (RUNS - 1)


def test_of_poses_with_equal_scores_the_one_that_turns_least_is_first_in_any_order() -> None:
    quarters = [np.array([[c, -s, 0.0], [s, c, 0.0]]) for c, s in ((0, 1), (1, 0), (-1, 0), (0, -1))]
    scores = [1 + 1e-15, 1.0, 1 - 1e-15, 2.0]
    for order in itertools.permutations(range(4)):
        found = ranked([scores[k] for k in order], [quarters[k] for k in order], 1e-6)
        # The last pose has a higher score. Of the others, two turn by a quarter or by a half.
        assert [order[k] for k in found] == [3, 1, 0, 2]


def test_a_difference_of_log_likelihoods_that_is_only_rounding_is_zero() -> None:
    assert difference(1e4, 1e4 * (1 - 1e-15)) == 0
    assert difference(1e4 * (1 - 1e-15), 1e4) == 0
    assert difference(-3.0, -5.0) == 2
    assert difference(-5.0, -3.0) == -2


def test_rounding_does_not_choose_the_origin_of_a_frame_or_its_unit() -> None:
    line = grid(10)
    exact = frame(line, line, one_unit=True)
    for seed in range(RUNS):
        changed = rounded(line, np.random.default_rng(seed))
        other = frame(changed, changed, one_unit=True)
        assert other.source_centre == pytest.approx(exact.source_centre, abs=1e-12)
        assert other.source_unit == exact.source_unit
