"""Ragged batches in .npz: each problem has the answer of a request of its own, to the bit, and its own errors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.em.worker import EmWorker
from tests.problems.registration import bijection
from tests.service.archives import NPZ, arrays, assert_same, npz, post
from tests.service.conftest import Running
from tests.service.http import assert_problem

# Two sizes that share a padded size, one that is its own, and repetitions of each.
SIZES = (12, 11, 30, 12, 12, 11, 30, 12)
INSTANCES = [bijection(n, 2, sigma=0.02, shift=2.0, seed=i) for i, n in enumerate(SIZES)]
OFFSETS = np.cumsum([0, *SIZES])
BATCH: dict[str, Any] = {
    "source": np.concatenate([one.source for one in INSTANCES]),
    "source_offsets": OFFSETS,
    "target": np.concatenate([one.target for one in INSTANCES]),
    "target_offsets": OFFSETS,
}
PATH = "/em/register/batch"
BY_POINT = {"matching", "matching_probability", "outlier_probability", "registered", "displacement"}


def alone(index: int, options: dict[str, Any], batch: dict[str, Any] = BATCH) -> dict[str, Any]:
    """One problem of a batch as a request of its own."""
    rows = {name: slice(*batch[f"{name}_offsets"][index : index + 2]) for name in ("source", "target")}
    return {name: batch[name][at].tolist() for name, at in rows.items()} | options


def assert_problem_has(found: dict[str, Any], index: int, answer: dict[str, Any]) -> None:
    """Check that the arrays of a batch have all fields of the JSON answer of one of its problems."""
    begin, end = found["source_offsets"][index : index + 2]
    for name, value in answer.items():
        if name == "quality":
            assert_quality_is(found, index, value)
        elif isinstance(value, dict):
            at = slice(*found[f"{name}_offsets"][index : index + 2]) if name == "trace" else index
            for inner, each in value.items():
                if each is not None:
                    assert_same(found[f"{name}.{inner}"][at], each, inner)
        elif name in {"responsibilities", "warnings"}:
            first, last = found[f"{name}_offsets"][index : index + 2]
            assert_same(found[name][first:last], np.ravel(value).tolist(), name)
        elif value is None:
            assert (
                name not in found or np.isnan(found[name][begin:end] if name in BY_POINT else found[name][index]).all()
            )
        else:
            assert_same(found[name][begin:end] if name in BY_POINT else found[name][index], value, name)


def assert_quality_is(found: dict[str, Any], index: int, answer: dict[str, Any]) -> None:
    """Check that the arrays of a batch have the block `quality` of one of its problems."""
    for name in ("verdict", "rmse", "evidence", "centroid_standard_error"):
        if answer[name] is not None:
            assert found[f"quality.{name}"][index] == answer[name]
        else:
            assert np.isnan(found[f"quality.{name}"][index])
    for name in ("source", "target"):
        assert found[f"quality.overlap.{name}"][index] == answer["overlap"][name]
    first, last = found["quality.reasons_offsets"][index : index + 2]
    assert found["quality.reasons"][first:last].tolist() == answer["reasons"]
    first, last = found["quality.degenerate_offsets"][index : index + 2]
    assert found["quality.degenerate.kind"][first:last].tolist() == [one["kind"] for one in answer["degenerate"]]
    if answer["degenerate"]:
        axes = [one["axis"] for one in answer["degenerate"]]
        assert found["quality.degenerate.axis"][first:last].tolist() == axes


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sigma": 0.1, "init": [2.0, 2.0], "max_iterations": 3, "tolerance": 0.0},
        {"include": ["registered"], "matching": "one_to_one", "refine": True},
        {"include": ["responsibilities", "trace", "registered"], "transform": "rigid"},
        {"transform": "similarity", "sigma": 0.1, "include": ["trace"]},
        {"transform": "affine"},
        {"transform": "nonrigid", "include": ["registered"]},
        {"prior": "mixing", "outlier_weight": 0.1},
    ],
    ids=["plain", "literal", "refine", "rigid", "similarity", "affine", "nonrigid", "mixing"],
)
def test_each_problem_of_a_batch_has_the_answer_of_json_alone(client: TestClient, options: dict[str, Any]) -> None:
    body = npz(BATCH | options)
    response = post(client, PATH, body)
    assert response.headers["content-type"] == NPZ
    found = arrays(response.content)
    assert found["status"].tolist() == [200] * len(SIZES)
    assert found["source_offsets"].tolist() == OFFSETS.tolist()
    assert not any(found["detail"])
    problems = [alone(index, options) for index in range(len(SIZES))]
    for index, problem in enumerate(problems):
        assert_problem_has(found, index, client.post("/em/register", json=problem).json())
    expected = client.post(PATH, json={"problems": problems})
    assert post(client, PATH, body, "application/json").content == expected.content
    assert client.post(PATH, json={"problems": problems}, headers={"Accept": NPZ}).content == response.content


def test_problems_that_are_refused_leave_the_others_as_they_are(client: TestClient) -> None:
    source, offsets = BATCH["source"].copy(), OFFSETS.copy()
    source[offsets[1] + 2, 1] = np.nan
    source[offsets[4] + 3, 0] = 1e80
    offsets[3] = offsets[2]  # problem 2 has no points, and problem 3 all that were its own
    batch = BATCH | {"source": source, "source_offsets": offsets, "target_offsets": offsets}
    options = {"include": np.array(["registered"])}
    found = arrays(post(client, PATH, npz(batch | options)).content)
    assert found["status"].tolist() == [200, 422, 422, 200, 422, 200, 200, 200]
    assert [bool(detail) for detail in found["detail"]] == [False, True, True, False, True, False, False, False]
    results = post(client, PATH, npz(batch | options), "application/json").json()["results"]
    pointers = [results[index]["errors"][0]["pointer"] for index in (1, 2, 4)]
    assert pointers == ["/problems/1/source/2/1", "/problems/2/source", "/problems/4/source"]
    # A pointer counts within its problem, and `detail` has all of it, as that of JSON has.
    assert str(found["detail"][1]).startswith("/problems/1/source/2/1: ")
    assert [results[index]["detail"] for index in (1, 2, 4)] == found["detail"][[1, 2, 4]].tolist()
    for index in (0, 3, 5, 6, 7):
        answer = client.post("/em/register", json=alone(index, {"include": ["registered"]}, batch)).json()
        assert_problem_has(found, index, answer)
    bad = slice(offsets[1], offsets[2])
    assert (found["matching"][bad] == -1).all()
    assert np.isnan(found["registered"][bad]).all()
    assert np.isnan(found["matrix"][1]).all()
    assert (found["iterations"][1], found["start"][1], found["converged"][1]) == (-1, "", False)


def test_options_may_have_a_value_for_each_problem(client: TestClient) -> None:
    own = {
        "sigma": np.linspace(0.1, 0.8, 8), "max_iterations": np.arange(8) + 1,
        "init": np.arange(16.0).reshape(8, 2) / 8, "tolerance": np.where(np.arange(8) == 5, -1.0, 0.0),
    }  # fmt: skip
    found = arrays(post(client, PATH, npz(BATCH | own)).content)
    assert found["status"].tolist() == [200, 200, 200, 200, 200, 422, 200, 200]
    for index in (0, 1, 2, 3, 4, 6, 7):
        options = {name: values[index].tolist() for name, values in own.items()}
        assert_problem_has(found, index, client.post("/em/register", json=alone(index, options)).json())


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"source_offsets": OFFSETS + 1}, "/source_offsets/0"), ({"source_offsets": OFFSETS[:-1]}, "/source_offsets/7"),
        ({"target_offsets": OFFSETS[::-1]}, "/target_offsets/0"),
        ({"source_offsets": OFFSETS * 1.0}, "/source_offsets"),
        ({"source_offsets": np.array([0, 50, 40, 132])}, "/source_offsets/2"),
        ({"source_offsets": np.array([0, 2**63 - 1, 132])}, "/source_offsets/1"),
        ({"source_offsets": np.array([132])}, "/source_offsets"), ({"source_offsets": np.array(0)}, "/source_offsets"),
        ({"source_offsets": np.zeros(1026, int)}, "/source_offsets"),
        ({"target_offsets": np.array([0, len(BATCH["target"])])}, "/target_offsets"),
        ({"target": BATCH["target"][:, :1]}, "/target"), ({"target": BATCH["target"][0]}, "/target"),
        ({"sigma": np.ones(7)}, "/sigma"), ({"sigma": np.array("x")}, "/sigma"), ({"nonsense": 1}, "/nonsense"),
        ({"transform": np.array("bent")}, "/transform"), ({"problems": np.ones(3)}, "/problems"),
    ],
)  # fmt: skip
def test_a_batch_that_cannot_be_divided_is_a_422_with_a_pointer(
    client: TestClient, change: dict[str, Any], pointer: str
) -> None:
    problem = assert_problem(post(client, PATH, npz(BATCH | change)), 422)
    assert problem["errors"][0]["pointer"] == pointer
    assert problem["errors"][0]["allowed"]
    missing = {name: value for name, value in BATCH.items() if name != "source_offsets"}
    assert assert_problem(post(client, PATH, npz(missing)), 422)["errors"][0]["pointer"] == "/source_offsets"


def test_a_common_option_out_of_range_is_the_error_of_each_problem(client: TestClient) -> None:
    found = arrays(post(client, PATH, npz(BATCH | {"sigma": -1.0})).content)
    assert found["status"].tolist() == [422] * 8
    assert found.keys() == {"status", "detail", "source_offsets"}
    problem = post(client, PATH, npz(BATCH | {"sigma": -1.0}), "application/json").json()["results"][3]
    assert problem["errors"][0]["pointer"] == "/problems/3/sigma"
    assert found["detail"][3] == problem["detail"]


def test_a_deadline_that_has_passed_is_the_error_of_each_problem(client: TestClient) -> None:
    headers = {"Content-Type": NPZ, "Accept": NPZ, "X-Timeout-Seconds": "0.02"}
    long = npz(BATCH | {"transform": "nonrigid", "max_iterations": 100_000, "tolerance": 0.0})
    response = client.post(PATH, content=long, headers=headers)
    if response.status_code == 200:
        assert set(arrays(response.content)["status"].tolist()) <= {503, 504}
    else:
        assert_problem(response, 504)


def test_json_problems_of_several_dimensions_have_no_arrays(client: TestClient) -> None:
    problems = [alone(0, {}), {"source": [[0.0]], "target": [[1.0]]}, {"source": [[0.0, 1.0, 2.0, 3.0]]}]
    problem = assert_problem(client.post(PATH, json={"problems": problems}, headers={"Accept": NPZ}), 406)
    assert problem["errors"][0]["pointer"] == "/Accept"
    del problems[1]
    found = arrays(client.post(PATH, json={"problems": problems}, headers={"Accept": NPZ}).content)
    assert found["status"].tolist() == [200, 422]
    assert found["source_offsets"].tolist() == [0, 12, 12]


def test_a_worker_that_fails_on_one_problem_fails_it_alone(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = EmWorker.__call__
    broken = INSTANCES[3].source

    def fail(self: EmWorker, jobs: Any) -> Any:
        for job in jobs:
            for plan in getattr(job, "plans", ()):
                if np.array_equal(plan.problem.source, broken):
                    raise RuntimeError("broken")
        return compute(self, jobs)

    with running() as client:
        expected = arrays(post(client, PATH, npz(BATCH)).content)
        monkeypatch.setattr(EmWorker, "__call__", fail)
        found = arrays(post(client, PATH, npz(BATCH)).content)
    assert found["status"].tolist() == [200, 200, 200, 500, 200, 200, 200, 200]
    good = np.arange(8) != 3
    assert np.array_equal(found["matrix"][good], expected["matrix"][good])


def test_points_that_leave_the_transform_open_are_an_error_of_their_problem(client: TestClient) -> None:
    source = BATCH["source"].copy()
    source[OFFSETS[1] : OFFSETS[2]] = 7.0
    found = arrays(post(client, PATH, npz(BATCH | {"source": source, "transform": "rigid"})).content)
    assert found["status"].tolist() == [200, 422, 200, 200, 200, 200, 200, 200]


def test_an_answer_does_not_depend_on_the_problems_beside_it(client: TestClient) -> None:
    """256 problems of one size, in two orders and in batches that are cut elsewhere."""
    generator = np.random.default_rng(0)
    source = generator.normal(size=(256, 40, 2))
    target = source + 0.02 * generator.normal(size=source.shape) + generator.normal(size=(256, 1, 2))

    def answers(order: Any) -> dict[str, Any]:
        offsets = np.arange(len(order) + 1) * 40
        clouds = {"source": source[order].reshape(-1, 2), "target": target[order].reshape(-1, 2)}
        body = npz({**clouds, "source_offsets": offsets, "target_offsets": offsets, "sigma": 0.05})
        return arrays(post(client, PATH, body).content)

    whole, order = answers(np.arange(256)), generator.permutation(256)
    shuffled, part = answers(order), answers(order[:37])
    for name in ("translation", "sigma", "log_likelihood", "translation_covariance", "iterations"):
        assert np.array_equal(whole[name][order], shuffled[name]), name
        assert np.array_equal(shuffled[name][:37], part[name]), name
    alone = client.post(
        "/em/register", json={"source": source[9].tolist(), "target": target[9].tolist(), "sigma": 0.05}
    )
    assert_problem_has(whole, 9, json.loads(alone.content))
