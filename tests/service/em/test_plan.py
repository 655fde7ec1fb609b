"""A request is checked and planned once, and its effort bounds its work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.em import plan as planning
from service.em.checks import check
from service.em.choices import Init, Transform
from service.em.plan import ITERATION_OVERHEAD, plan
from service.em.problem import Problem
from service.em.register import register_plans
from service.settings import Settings

# Iterations with their polls, and without those of the search, whose poses are annealed on few points.
MOST_POLLS_PER_EFFORT, LEAST_POLLS_PER_EFFORT = 1.25, 1 / 50

CLOUD = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 1.0]]


def counted(problem: Problem) -> tuple[float, float]:
    """The work of a registration, which polls about once for the work of one iteration, and the effort of its plan."""
    polls = 0

    def poll() -> bool:
        nonlocal polls
        polls += 1
        return False

    planned = plan(check(problem.until(poll)))
    register_plans([planned])
    return polls * (planned.cost * problem.source.shape[1] + ITERATION_OVERHEAD), planned.effort


@pytest.mark.parametrize("points", [5, 30, 120])
@pytest.mark.parametrize(
    ("transform", "dimension"),
    [
        ("translation", 2),
        ("translation", 5),
        ("rigid", 2),
        ("rigid", 3),
        ("similarity", 2),
        ("similarity", 3),
        ("affine", 2),
        ("affine", 5),
        ("nonrigid", 2),
    ],
)
@pytest.mark.parametrize("init", ["auto", "identity"])
def test_the_effort_bounds_the_work_of_unrelated_clouds_and_has_its_order_of_magnitude(
    transform: Transform, dimension: int, points: int, init: Init
) -> None:
    rng = np.random.default_rng(1)
    points += dimension
    source, target = rng.normal(size=(2, points, dimension))
    work, effort = counted(Problem(source, target, transform=transform, init=init, tolerance=0.0))
    assert LEAST_POLLS_PER_EFFORT * effort <= work <= MOST_POLLS_PER_EFFORT * effort


@pytest.mark.parametrize("transform", ["rigid", "similarity", "affine", "nonrigid"])
def test_a_search_for_a_pose_takes_the_lane_for_large_ones_and_a_given_start_does_not(transform: Transform) -> None:
    rng = np.random.default_rng(1)
    problem = Problem(rng.normal(size=(200, 2)), rng.normal(size=(200, 2)), transform=transform)
    limit = Settings().small_effort
    assert plan(check(problem)).effort > 5 * limit
    cloud = rng.normal(size=(10, 2))
    small = Problem(cloud, cloud, transform=transform, init="identity", max_iterations=50)
    assert plan(check(small)).effort < limit


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each of the functions is called, by whatever module of the service."""
    counts: dict[str, int] = {}

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        counts[function.__name__] = 0

        def replacement(*arguments: Any) -> Any:
            counts[function.__name__] += 1
            return function(*arguments)

        return replacement

    for function in (check, planning.plan, planning.choose_engine):
        replacement = counting(function)
        for name, module in list(sys.modules.items()):
            if name.startswith("service.em.") and getattr(module, function.__name__, None) is function:
                monkeypatch.setattr(module, function.__name__, replacement)
    return counts


@pytest.mark.parametrize("transform", ["translation", "rigid"])
def test_a_request_is_checked_and_planned_once(client: TestClient, calls: dict[str, int], transform: str) -> None:
    body = {"source": CLOUD, "target": CLOUD, "transform": transform}
    assert client.post("/em/register", json=body).status_code == 200
    assert calls == {"check": 1, "plan": 1, "choose_engine": 1}


def test_each_problem_of_a_batch_is_checked_and_planned_once(client: TestClient, calls: dict[str, int]) -> None:
    body = {"source": CLOUD, "target": CLOUD}
    problems = [body, body | {"transform": "rigid"}, body | {"sigma": 0.5}]
    answer = client.post("/em/register/batch", json={"problems": problems})
    assert all("matching" in result for result in answer.json()["results"])
    assert calls == {"check": 3, "plan": 3, "choose_engine": 3}


@pytest.mark.parametrize("transform", ["rigid", "affine", "nonrigid"])
def test_a_million_points_are_not_refused(transform: Transform) -> None:
    cloud = np.random.default_rng(0).normal(size=(1_000_000, 3))
    assert plan(check(Problem(cloud, cloud, transform=transform))).effort < Settings().max_effort
