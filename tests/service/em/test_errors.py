"""Errors of registrations over HTTP: several in one answer, their pointers, and their texts."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from service.em.problem import MAX_ITERATIONS
from tests.service.conftest import Running
from tests.service.http import assert_problem

GOOD: dict[str, Any] = {"source": [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], "target": [[5.0, 7.0], [6.0, 7.0], [5.0, 9.0]]}


def errors_of(client: TestClient, change: dict[str, Any]) -> dict[str, Any]:
    """The errors of a registration by their pointers; those of a batch and of a form must be the same."""
    problem = assert_problem(client.post("/em/register", json=GOOD | change), 422)
    errors = {error["pointer"]: error for error in problem["errors"]}
    assert len(errors) == len(problem["errors"])
    (result,) = client.post("/em/register/batch", json={"problems": [GOOD | change]}).json()["results"]
    assert {error["pointer"].removeprefix("/problems/0") for error in result["errors"]} == errors.keys()
    return errors


def test_all_invalid_options_are_listed(client: TestClient) -> None:
    change = {"sigma": -1, "max_iterations": 0, "tolerance": -1, "outlier_weight": 2, "beta": -1}
    errors = errors_of(client, change)
    assert errors.keys() == {f"/{name}" for name in change}
    assert all(error["allowed"] for error in errors.values())


@pytest.mark.parametrize("broken", [{"transform": "x"}, {"nonsense": 1}, {"source": [["x"]]}, {"prior": "best"}])
def test_options_out_of_range_are_listed_beside_errors_of_the_schema(
    client: TestClient, broken: dict[str, Any]
) -> None:
    errors = errors_of(client, broken | {"sigma": -1, "max_iterations": 0})
    (name,) = broken
    assert {pointer.split("/")[1] for pointer in errors} == {name, "sigma", "max_iterations"}


def test_an_unknown_transform_raises_no_doubt_about_the_options_of_another(client: TestClient) -> None:
    assert errors_of(client, {"transform": "x", "beta": 1.0, "stiffness": 2.0, "refine": True}).keys() == {"/transform"}


def test_a_form_lists_options_out_of_range_beside_errors_of_the_schema(client: TestClient) -> None:
    data = {"sigma": "-1", "transform": "x", "max_iterations": "1_0"}
    files = {"source": ("a.csv", b"1,2\n3,4\n"), "target": ("b.csv", b"1,2\n3,4\n")}
    problem = assert_problem(client.post("/em/register", files=files, data=data), 422)
    assert {error["pointer"] for error in problem["errors"]} == {"/sigma", "/transform", "/max_iterations"}


def test_points_and_options_out_of_range_are_listed_together(client: TestClient) -> None:
    change = {"source": [[1e80, 0.0]], "target": [[0.0, -1e80]], "sigma": -1}
    assert errors_of(client, change).keys() == {"/source", "/target", "/sigma"}


@pytest.mark.parametrize(
    ("change", "pointer", "detail", "allowed"),
    [
        ({"max_iterations": 10**9}, "/max_iterations", f"1000000000; at most {MAX_ITERATIONS}", "1 to"),
        ({"outlier_weight": "+5"}, "/outlier_weight", "'+5' is not known", "a number from 0"),
        ({"prior": "best"}, "/prior", "'best' is not known", "matrix"),
        ({"init": "guess"}, "/init", "'guess' is not known", "a translation"),
        ({"init": {"matrix": [[1.0, 0.0], [0.0, 1.0]]}}, "/init/matrix", "is 2 x 2; 3 x 3 is needed", "3 x 3"),
        ({"init": {"rotation": [[1.0]]}}, "/init/rotation", "is 1 x 1; 2 x 2 is needed", "2 x 2"),
        ({"init": {"rotation": [[0.0, -1.0], [1.0, 0.0]]}}, "/init", "not a valid translation", "identity rotation"),
        ({"include": ["trace", "trace"]}, "/include", "repeated", "once"),
        ({"init": {"translation": [0.0, 0.0], "foo": 1}}, "/init/foo", "unknown field", "leave it out"),
        ({"source": [[1.0, 2.0]], "transform": "rigid"}, "/source", "the source is a single point", "points that span"),
    ],
)  # fmt: skip
def test_the_error_states_the_cause_and_what_is_allowed(
    client: TestClient, change: dict[str, Any], pointer: str, detail: str, allowed: str
) -> None:
    (error,) = errors_of(client, change).values()
    assert error["pointer"] == pointer
    assert detail in error["detail"]
    assert allowed in str(error["allowed"])


def test_a_problem_of_a_batch_that_is_no_object_is_named_so(client: TestClient) -> None:
    (result,) = client.post("/em/register/batch", json={"problems": [3]}).json()["results"]
    (error,) = result["errors"]
    assert "should be an object" in error["detail"]
    assert "RegisterRequest" not in str(result)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ({"sigma": "007"}, {"sigma": "7"}),
        ({"sigma": "00.5"}, {"sigma": "0.5"}),
        ({"tolerance": "0001e-3"}, {"tolerance": "1e-3"}),
        ({"max_iterations": "010"}, {"max_iterations": "10"}),
        ({"outlier_weight": "00"}, {"outlier_weight": "0"}),
        ({"outlier_weight": "00.25"}, {"outlier_weight": "0.25"}),
    ],
)
def test_numbers_of_a_form_may_have_leading_zeros(
    client: TestClient, text: dict[str, str], same: dict[str, str]
) -> None:
    clouds = {name: str(cloud) for name, cloud in GOOD.items()}
    answers = [
        client.post("/em/register", files={name: (None, value) for name, value in (clouds | options).items()})
        for options in (text, same)
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content


def test_the_text_of_a_file_in_place_of_the_file_is_refused_with_the_cure(client: TestClient) -> None:
    texts = {"source": (None, "1,2\n3,4\n"), "target": (None, "[[1, 2]]")}
    (error,) = assert_problem(client.post("/em/register", files=texts), 422)["errors"]
    assert error["pointer"] == "/source"
    assert "-F source=@" in error["allowed"]


@pytest.mark.parametrize("iterations", [1, 50_000])
def test_too_large_an_effort_names_the_points_or_the_iterations(running: Running, iterations: int) -> None:
    cloud = [[float(i)] for i in range(3000)]
    body = {"source": cloud, "target": cloud, "sigma": 1e3, "max_iterations": iterations}
    with running(max_effort=1e8 if iterations == 1 else 2e9) as client:
        (error,) = assert_problem(client.post("/em/register", json=body), 422)["errors"]
    assert error["pointer"] == ("/source" if iterations == 1 else "/max_iterations")
    assert "3000 x 3000" in error["detail"]
    assert ("1e+08" if iterations == 1 else "2e+09") in error["detail"]
