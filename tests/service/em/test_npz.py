"""Registrations in .npz: the same answers as in JSON, to the bit, and the same errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from tests.problems.registration import bijection
from tests.service.archives import NPZ, arrays, assert_same, flat, npz, post
from tests.service.conftest import Running
from tests.service.http import assert_problem

SMALL = bijection(12, 2, sigma=0.01, shift=3.0, seed=4)
SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
GOOD: dict[str, Any] = {"source": SMALL.source.tolist(), "target": SMALL.target.tolist()}
MATRIX = [[1.0, 0.0, 3.0], [0.0, 1.0, 3.0], [0.0, 0.0, 1.0]]


def assert_equal(found: dict[str, NDArray[Any]], answer: dict[str, Any]) -> None:
    """Check that the arrays have all fields of a JSON answer and no others, but for `points`."""
    fields: dict[str, Any] = {}
    for name, value in answer.items():
        fields |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
    for name, value in fields.items():
        if value is None:
            assert name not in found or np.isnan(found[name]), name
        else:
            assert_same(found[name], value, name)
    assert found.keys() - fields.keys() <= {"points"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sigma": 0.1, "init": [3.0, 3.0], "max_iterations": 3, "tolerance": 0.0, "prior": "free"},
        {"prior": np.full((12, 12), 1 / 12).tolist(), "sigma": 0.5},
        {"init": {"matrix": MATRIX}, "transform": "rigid", "outlier_weight": 0.1, "matching": "one_to_one"},
        {"init": {"rotation": [[1.0, 0.0], [0.0, 1.0]], "scale": 1.0}, "transform": "similarity"},
        {"transform": "rigid", "include": ["responsibilities", "trace", "registered"]},
        {"transform": "similarity", "normalize": "rows", "outlier_weight": "auto"},
        {"transform": "affine", "include": ["trace"]},
        {"transform": "nonrigid", "beta": 1.5, "stiffness": 2.0, "include": ["registered"]},
        {"source": SQUARE.tolist(), "target": (SQUARE + 5).tolist(), "transform": "rigid"},
        {"matching": "one_to_one", "target": SMALL.target[:9].tolist(), "refine": True, "transform": "rigid"},
        {"source": np.eye(3, 300).tolist(), "target": np.eye(3, 300)[::-1].tolist()},
    ],
    ids=[
        "plain", "literal", "prior", "matrix", "rotation", "rigid", "similarity", "affine", "nonrigid", "square",
        "refine", "wide",
    ],
)  # fmt: skip
def test_an_archive_and_its_answer_are_those_of_json(client: TestClient, options: dict[str, Any]) -> None:
    fields = GOOD | options
    expected = client.post("/em/register", json=fields)
    body = npz(flat(fields))
    found = arrays(post(client, "/em/register", body).content)
    assert_equal(found, expected.json())
    assert found["points"].shape == np.shape(fields["source"])
    if found["matrix"].size if "matrix" in found else False:
        moved = found["points"] - found.get("displacement", 0)
        assert moved == pytest.approx(
            np.array(fields["source"]) @ found["matrix"][:-1, :-1].T + found["matrix"][:-1, -1]
        )
    # Each side of the exchange may be JSON.
    assert post(client, "/em/register", body, "application/json").content == expected.content
    from_json = client.post("/em/register", json=fields, headers={"Accept": NPZ})
    assert from_json.headers["content-type"] == NPZ
    assert from_json.headers["vary"] == "Accept"
    assert from_json.content == post(client, "/em/register", npz(flat(fields), compressed=True)).content


def test_warnings_and_runners_up_are_arrays(client: TestClient) -> None:
    found = arrays(
        post(client, "/em/register", npz({"source": SQUARE, "target": SQUARE + 5, "transform": "rigid"})).content
    )
    assert found["warnings"].dtype.kind == "U"
    assert len(found["warnings"]) >= 1
    assert found["runner_up.matrix"].shape == (3, 3)
    assert found["runner_up.log_likelihood_gap"] == pytest.approx(0, abs=1)


def test_other_types_and_orders_of_numbers_are_converted(client: TestClient) -> None:
    whole = np.round(SMALL.source * 64), np.round(SMALL.target * 64)
    expected = post(client, "/em/register", npz({"source": whole[0], "target": whole[1], "sigma": 2.0})).content
    for code in ("<f4", ">f8", ">i2", "<i8"):
        fields = {
            "source": np.asfortranarray(whole[0].astype(code)),
            "target": whole[1].astype(code),
            "sigma": np.int8(2),
        }
        assert post(client, "/em/register", npz(fields)).content == expected


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"source": np.zeros(3)}, "/source"), ({"source": np.zeros((0, 2))}, "/source"),
        ({"source": np.zeros((3, 3))}, "/target"), ({"source": np.zeros((3, 2), bool)}, "/source"),
        ({"source": np.array([["a", "b"]])}, "/source/0"), ({"source": np.array("a")}, "/source"),
        ({"source": np.array([[0.0, np.nan]])}, "/source/0/1"), ({"source": np.array([[0.0, 1e80]])}, "/source"),
        ({"source": np.ones((2, 2), complex)}, "/source"),
        ({"source": np.array([[1.0, 2.0], [np.inf, 1]], "f4")}, "/source/1/0"),
        ({"sigma": 0.0}, "/sigma"), ({"sigma": np.nan}, "/sigma"), ({"sigma": np.array("1")}, "/sigma"),
        ({"sigma": np.array(True)}, "/sigma"), ({"sigma": np.ones(12)}, "/sigma"), ({"refine": 1}, "/refine"),
        ({"transform": np.array("bent")}, "/transform"), ({"transform": np.array(["rigid"])}, "/transform"),
        ({"init": np.ones(3)}, "/init"), ({"init": np.array([1.0, np.nan])}, "/init/1"),
        ({"init.matrix": np.eye(4)}, "/init/matrix"),
        ({"init.bent": np.eye(3)}, "/init/bent"), ({"init": np.ones(2), "init.scale": 1.0}, "/init"),
        ({"max_iterations": 1.5}, "/max_iterations"), ({"include": np.array(["everything"])}, "/include/0"),
        ({"include": np.array("trace")}, "/include"), ({"prior": np.ones((12, 12))}, "/prior/0"),
        ({"nonsense": 1.0}, "/nonsense"),
    ],
)  # fmt: skip
def test_an_invalid_field_is_a_422_with_a_pointer(client: TestClient, change: dict[str, Any], pointer: str) -> None:
    problem = assert_problem(post(client, "/em/register", npz(flat(GOOD) | change)), 422)
    assert problem["errors"][0]["pointer"].startswith(pointer)
    assert problem["errors"][0]["allowed"]
    if pointer == "/nonsense":
        assert {"source", "transform", "include"} <= {*problem["errors"][0]["allowed"]}


def test_errors_of_several_fields_are_one_answer(client: TestClient) -> None:
    bad = flat(GOOD) | {"source": np.full((3, 2), np.nan), "sigma": -1.0, "wrong": 1.0}
    problem = assert_problem(post(client, "/em/register", npz(bad)), 422)
    assert {error["pointer"] for error in problem["errors"]} == {"/source/0/0", "/sigma", "/wrong"}
    missing = assert_problem(post(client, "/em/register", npz({})), 422)
    assert [error["pointer"] for error in missing["errors"]] == ["/source", "/target"]


def test_bodies_that_are_no_archives_are_malformed(client: TestClient) -> None:
    for path in ("/em/register", "/em/register/batch"):
        for body in (b"", b"{}", b"PK\x03\x04", npz(flat(GOOD))[:-30]):
            assert_problem(post(client, path, body), 400)
        assert_problem(client.post(path, content=b"{}", headers={"Content-Type": "application/x-npy"}), 415)
        assert_problem(client.post(path, content=b"x", headers={"Content-Type": NPZ, "Content-Encoding": "gzip"}), 415)
        assert_problem(client.post(path, json=GOOD, headers={"Accept": "text/html"}), 406)
    problem = assert_problem(client.post("/em/register", content=b"x", headers={"Content-Type": "text/plain"}), 415)
    assert NPZ in problem["errors"][0]["allowed"]


def test_the_limits_of_a_body_are_those_of_json(running: Running) -> None:
    cloud = np.random.default_rng(0).normal(size=(3000, 2))
    with running(max_elements=10_000) as client:
        assert post(client, "/em/register", npz({"source": cloud[:2000], "target": cloud[:2000]})).status_code == 200
        for compressed in (False, True):
            body = npz({"source": cloud, "target": cloud, "sigma": 1.0}, compressed=compressed)
            assert assert_problem(post(client, "/em/register", body), 413)["errors"][0]["pointer"] == "/target"
        late = client.post("/em/register", content=body, headers={"Content-Type": NPZ, "X-Timeout-Seconds": "1e-9"})
        assert_problem(late, 504)


def test_a_bomb_is_refused_by_its_proportion_and_by_the_limit(client: TestClient) -> None:
    for count in (200_000, 5_000_000):
        zeros = np.zeros((count, 2))
        body = npz({"source": zeros, "target": zeros}, compressed=True)
        problem = assert_problem(post(client, "/em/register", body), 413)
        assert "compressed too much" in problem["detail"]
        assert problem["errors"][0]["pointer"] == "/source"


def test_points_without_coordinates_are_nan_and_minus_one(client: TestClient) -> None:
    rows = [f"{x},{y}" for x, y in SMALL.source.tolist()]
    table = "\n".join(["x,y", *rows[:5], "NaN,NaN", *rows[5:]]).encode()
    files = {"source": ("a.csv", table), "target": ("b.npy", npz({"points": SMALL.target}))}
    data = {"include": "responsibilities,registered"}
    expected = client.post("/em/register", files=files, data=data).json()
    found = arrays(client.post("/em/register", files=files, data=data, headers={"Accept": NPZ}).content)
    assert_equal(found, expected)
    assert found["matching"][5] == -1
    assert np.isnan(found["points"][5]).all()
    assert len(found["warnings"]) == 1
