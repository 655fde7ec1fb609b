"""EM's endpoints over HTTP; the mathematics has its own tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from service.em import routes
from service.em.worker import RegisterJob, effort, registration
from service.errors import DeadlineExceeded
from service.settings import Settings
from tests.problems.tight import tight
from tests.service.http import assert_problem

SOURCE = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]
TARGET = [[8.0, 10.0], [5.0, 7.0], [6.0, 7.0], [5.0, 9.0]]
GOOD: dict[str, Any] = {"source": SOURCE, "target": TARGET}


def test_the_answer_has_every_field_in_the_callers_coordinates(client: TestClient) -> None:
    answer = client.post("/em/register", json=GOOD | {"include": ["responsibilities", "trace", "registered"]}).json()
    assert answer["translation"] == pytest.approx([5, 7])
    assert answer["matching"] == [1, 2, 3, 0]
    assert answer["rotation"] == [[1, 0], [0, 1]]
    assert answer["scale"] == 1
    moved = np.array(answer["matrix"]) @ np.vstack([np.transpose(SOURCE), np.ones(4)])
    assert answer["registered"] == pytest.approx(moved[:2].T)
    assert np.sum(answer["responsibilities"], 1) == pytest.approx(1)
    assert len(answer["trace"]["log_likelihood"]) == len(answer["trace"]["translation"]) == answer["iterations"]
    assert answer["trace"]["log_likelihood"][-1] == pytest.approx(answer["log_likelihood"])
    assert answer["converged"] == (answer["stop_reason"] == "tolerance")
    assert np.linalg.eigvalsh(answer["translation_covariance"]).min() > 0
    plain = client.post("/em/register", json=GOOD).json()
    assert {"responsibilities", "trace", "registered"}.isdisjoint(plain)


def test_one_to_one_leaves_the_surplus_unmatched(client: TestClient) -> None:
    body = {"source": SOURCE, "target": TARGET[1:], "matching": "one_to_one", "sigma": 0.1, "init": [5, 7]}
    answer = client.post("/em/register", json=body).json()
    assert answer["matching"] == [0, 1, 2, None]
    assert answer["matching_probability"][3] == 0


def test_a_given_start_and_the_iteration_limit(client: TestClient) -> None:
    body = GOOD | {"sigma": 1.0, "init": [4.0, 8.0], "max_iterations": 3, "tolerance": 0}
    answer = client.post("/em/register", json=body).json()
    assert (answer["iterations"], answer["stop_reason"], answer["converged"], answer["start"]) == (
        3, "max_iterations", False, "given",
    )  # fmt: skip


@pytest.mark.parametrize("dimension", [1, 2, 3, 7, 300])
def test_any_dimension(client: TestClient, dimension: int) -> None:
    points = np.random.default_rng(dimension).normal(size=(6, dimension))
    body = {"source": points.tolist(), "target": (points[::-1] + 100).tolist()}
    answer = client.post("/em/register", json=body).json()
    assert answer["translation"] == pytest.approx([100] * dimension)
    assert answer["matching"] == [5, 4, 3, 2, 1, 0]
    assert (answer["matrix"] is None) == (dimension > 256)


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_the_linear_part_of_a_nonrigid_answer_is_a_rotation_times_a_scale(client: TestClient, size: float) -> None:
    target = np.random.default_rng(5).normal(size=(30, 3))
    body = {"source": (size * target).tolist(), "target": target.tolist(), "transform": "nonrigid"}
    answer = client.post("/em/register", json=body).json()
    rotation = np.array(answer["rotation"])
    assert rotation.T @ rotation == pytest.approx(np.eye(3), abs=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert np.array(answer["matrix"])[:3, :3] == pytest.approx(answer["scale"] * rotation)
    assert (answer["scale"] == 1) == (size == 1)


def test_results_of_a_batch_equal_those_of_single_requests_and_errors_keep_their_place(client: TestClient) -> None:
    problems = [
        GOOD,
        {"source": [[0.0]], "target": [["x"]]},
        GOOD | {"sigma": 0.5},
        {"source": [[0.0]], "target": [[0.0, 1.0]]},
        7,
        GOOD | {"wrong": 1},
    ]
    response = client.post("/em/register/batch", json={"problems": problems})
    assert response.status_code == 200
    results = response.json()["results"]
    for index in (0, 2):
        assert results[index] == client.post("/em/register", json=problems[index]).json()
    pointers = [results[index]["errors"][0]["pointer"] for index in (1, 3, 4, 5)]
    assert pointers == ["/problems/1/target/0/0", "/problems/3/target", "/problems/4", "/problems/5/wrong"]
    assert {results[index]["status"] for index in (1, 3, 4, 5)} == {422}


def test_each_problem_of_a_batch_has_the_time_that_is_left(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    left: Iterator[float | DeadlineExceeded] = iter([60.0, DeadlineExceeded("the deadline has passed")])

    def read_timeout(request: Request) -> float:
        found = next(left)
        if isinstance(found, DeadlineExceeded):
            raise found
        return found

    monkeypatch.setattr(routes, "read_timeout", read_timeout)
    results = client.post("/em/register/batch", json={"problems": [GOOD, GOOD]}).json()["results"]
    assert results[0]["matching"] == [1, 2, 3, 0]
    assert results[1]["status"] == 504


def test_single_steps_add_up_to_the_registration(client: TestClient) -> None:
    """The literal recursion, E-step by M-step, gives the answer of register for prior free."""
    translation, prior = [4.5, 7.5], None
    for _ in range(4):
        body = {"source": SOURCE, "target": TARGET, "translation": translation, "prior": prior, "sigma": 1.0}
        expected = client.post("/em/expectation", json=body).json()
        maximized = client.post(
            "/em/maximization", json={**GOOD, "responsibilities": expected["responsibilities"]}
        ).json()
        translation, prior = maximized["translation"], maximized["prior"]
    body = GOOD | {
        "sigma": 1.0, "init": [4.5, 7.5], "prior": "free", "max_iterations": 4, "tolerance": 0,
        "include": ["responsibilities"],
    }  # fmt: skip
    answer = client.post("/em/register", json=body).json()
    assert answer["translation"] == pytest.approx(translation, abs=1e-12)
    assert np.array(answer["responsibilities"]) == pytest.approx(np.array(prior), abs=1e-12)
    observed = client.post(
        "/em/log-likelihood",
        json={"source": SOURCE, "target": TARGET, "translation": translation, "prior": prior, "sigma": 1.0},
    ).json()
    assert observed["log_likelihood"] == pytest.approx(answer["log_likelihood"])


def test_the_complete_data_likelihood_of_the_identity_has_its_closed_form(client: TestClient) -> None:
    """Z = I: Σ_i log Π_ii - N log(√(2π)σ) - Σ_i ‖p_i + T - q_i‖² / 2σ², log Π_ii shown apart."""
    prior = [[0.7, 0.2, 0.1], [0.25, 0.5, 0.25], [0.1, 0.1, 0.8]]
    body = {
        "source": [[0.0], [1.0], [2.0]], "target": [[5.0], [6.5], [7.0]], "translation": [5.0], "sigma": 0.5,
        "prior": prior, "assignment": np.eye(3).tolist(),
    }  # fmt: skip
    answer = client.post("/em/log-likelihood", json=body).json()
    assert answer["log_prior"] == pytest.approx(np.log(0.7) + np.log(0.5) + np.log(0.8))
    assert answer["log_normaliser"] == pytest.approx(-3 * np.log(np.sqrt(2 * np.pi) * 0.5))
    assert answer["log_distance"] == pytest.approx(-(0.5**2) / (2 * 0.5**2))
    parts = answer["log_prior"] + answer["log_normaliser"] + answer["log_distance"]
    assert answer["log_likelihood"] == pytest.approx(parts)


def test_the_first_half_on_one_target_and_the_rest_on_another(client: TestClient) -> None:
    """Π hard on q_1 for i <= ⌊N/2⌋, on q_2 for the rest: R = Π, T the mean difference, Q in closed form."""
    source = [[0.0, 1.0], [2.0, 0.0], [1.0, 1.0], [4.0, 0.0], [3.0, 3.0]]
    target = [[1.0, 1.0], [-2.0, 5.0]]
    prior = [[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 3
    body = {"source": source, "target": target, "translation": [0.5, 0.25], "sigma": 2.0, "prior": prior}
    expected = client.post("/em/expectation", json=body).json()
    assert expected["responsibilities"] == prior
    matched = np.array([target[0]] * 2 + [target[1]] * 3)
    residual = ((np.array(source) + np.array([0.5, 0.25]) - matched) ** 2).sum()
    q = -5 * np.log(np.sqrt(2 * np.pi) * 2.0) - residual / 8  # the priors' part is log 1 = 0, and 0·log 0 = 0
    assert expected["q"] == pytest.approx(q)
    maximized = client.post(
        "/em/maximization", json={"source": source, "target": target, "responsibilities": prior}
    ).json()
    assert maximized["translation"] == pytest.approx((matched - source).mean(0))
    assert maximized["prior"] == prior


def test_q_of_impossible_parameters_is_null_and_of_others_a_number(client: TestClient) -> None:
    body = {"source": [[0.0]], "target": [[0.0], [1.0]], "sigma": 1.0}
    impossible = client.post("/em/expectation", json=body | {"at": {"sigma": 1.0, "prior": [[1.0, 0.0]]}}).json()
    assert impossible["q"] is None
    possible = client.post("/em/expectation", json=body | {"at": {"sigma": 2.0, "translation": [0.1]}}).json()
    assert possible["q"] < 0


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"source": []}, "/source"), ({"source": [[]]}, "/source/0"), ({"source": [[0.0, 1.0], [2.0]]}, "/source"),
        ({"source": [[0.0, 1.0, 2.0]]}, "/target"), ({"source": [[0.0, "1"]]}, "/source/0/1"),
        ({"source": [[0.0, True]]}, "/source/0/1"), ({"source": [[0.0, None]]}, "/source/0/1"),
        ({"source": [[0.0, 1e80]]}, "/source"), ({"source": [0.0, 1.0]}, "/source/0"), ({"source": None}, "/source"),
        ({"sigma": 0}, "/sigma"), ({"sigma": -1.5}, "/sigma"), ({"sigma": "1"}, "/sigma"), ({"sigma": True}, "/sigma"),
        ({"sigma": 1e-300}, "/sigma"),
        ({"transform": "bent"}, "/transform"), ({"prior": "best"}, "/prior"), ({"matching": "best"}, "/matching"),
        ({"init": "guess"}, "/init"), ({"init": [1.0]}, "/init"), ({"init": [1.0, "2"]}, "/init/1"),
        ({"max_iterations": 0}, "/max_iterations"), ({"max_iterations": 1.5}, "/max_iterations"),
        ({"max_iterations": 10**9}, "/max_iterations"),
        ({"tolerance": -1}, "/tolerance"), ({"include": ["everything"]}, "/include/0"),
        ({"include": ["trace", "trace"]}, "/include"), ({"outlier_weight": 1}, "/outlier_weight"),
        ({"nonsense": 1}, "/nonsense"),
    ],
)  # fmt: skip
def test_an_invalid_problem_is_a_422_with_a_pointer(
    client: TestClient, change: dict[str, object], pointer: str
) -> None:
    problem = assert_problem(client.post("/em/register", json=GOOD | change), 422)
    assert problem["errors"][0]["pointer"] == pointer


def test_all_options_out_of_range_are_listed_in_one_answer(client: TestClient) -> None:
    bad = GOOD | {"sigma": -1, "max_iterations": 0, "tolerance": -2}
    problem = assert_problem(client.post("/em/register", json=bad), 422)
    pointers = ["/sigma", "/max_iterations", "/tolerance"]
    assert [error["pointer"] for error in problem["errors"]] == pointers
    assert all(error["allowed"] for error in problem["errors"])
    assert problem["detail"] == problem["errors"][0]["detail"] + " (and 2 more)"
    (result,) = client.post("/em/register/batch", json={"problems": [bad]}).json()["results"]
    assert [error["pointer"] for error in result["errors"]] == [f"/problems/0{pointer}" for pointer in pointers]


def test_answers_that_are_too_large_are_refused_before_the_computation(client: TestClient) -> None:
    many = {"source": [[0.0]] * 3000, "target": [[0.0]] * 3000, "include": ["responsibilities"]}
    assert assert_problem(client.post("/em/register", json=many), 422)["errors"][0]["pointer"] == "/include"
    huge = {"source": [[0.0]] * 60000, "target": [[0.0]] * 60000, "max_iterations": 100_000}
    assert assert_problem(client.post("/em/register", json=huge), 422)["errors"][0]["pointer"] == "/max_iterations"


@pytest.mark.parametrize(
    ("path", "change", "pointer"),
    [
        ("expectation", {"sigma": 0}, "/sigma"),
        ("expectation", {"sigma": 1.0, "translation": [1.0]}, "/translation"),
        ("expectation", {"sigma": 1.0, "prior": [[1.0]]}, "/prior"),
        ("expectation", {"sigma": 1.0, "prior": [[0.5] * 4] * 4}, "/prior/0"),
        ("expectation", {"sigma": 1.0, "at": {"sigma": 1.0, "translation": [1.0]}}, "/at/translation"),
        ("maximization", {"responsibilities": [[-1.0, 2.0, 0.0, 0.0]] * 4}, "/responsibilities/0/0"),
        ("maximization", {}, "/responsibilities"),
        ("log-likelihood", {"sigma": 1.0, "assignment": [[0.5, 0.5, 0.0, 0.0]] * 4}, "/assignment/0/0"),
        ("log-likelihood", {}, "/sigma"),
    ],
)
def test_an_invalid_step_is_a_422_with_a_pointer(
    client: TestClient, path: str, change: dict[str, object], pointer: str
) -> None:
    problem = assert_problem(client.post(f"/em/{path}", json=GOOD | change), 422)
    assert problem["errors"][0]["pointer"] == pointer


def test_a_start_may_be_given_in_the_form_of_an_answer(client: TestClient) -> None:
    body = GOOD | {"sigma": 0.5, "max_iterations": 2}
    as_list = client.post("/em/register", json=body | {"init": [4.5, 7.5]}).content
    assert client.post("/em/register", json=body | {"init": {"translation": [4.5, 7.5]}}).content == as_list
    problem = assert_problem(client.post("/em/register", json=body | {"init": {"translation": [1.0]}}), 422)
    assert problem["errors"][0]["pointer"] == "/init"


def test_the_large_parts_of_a_batch_have_a_common_limit(client: TestClient) -> None:
    cloud = [[float(i)] for i in range(1200)]
    wide = {"source": cloud, "target": cloud, "include": ["responsibilities"], "max_iterations": 1, "init": "identity"}
    results = client.post("/em/register/batch", json={"problems": [wide] * 3}).json()["results"]
    assert ["responsibilities" in result for result in results] == [True, True, False]
    assert results[2]["errors"][0]["pointer"] == "/problems/2/include"
    long = {**wide, "include": ["trace"], "max_iterations": 100_000, "source": [[0.0] * 40], "target": [[0.0] * 40]}
    assert assert_problem(client.post("/em/register", json=long), 422)["errors"][0]["pointer"] == "/include"


def test_problems_of_large_effort_take_the_lane_for_large_ones() -> None:
    def job(n: int, dimension: int, iterations: int) -> RegisterJob:
        cloud = np.zeros((n, dimension))
        return registration(tight(cloud, cloud, max_iterations=iterations))

    limit = Settings().small_effort
    assert effort(job(200, 3, 200)) < limit
    assert effort(job(2, 1, 100_000)) > limit
    assert effort(job(4000, 3, 200)) > limit
    assert effort(job(2, 200_000, 200)) > limit
