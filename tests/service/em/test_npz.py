"""Registrations in .npz: the same answers as in JSON, to the bit, and the same errors."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from service.em.schemas.options import MAX_WIRE_POINTS
from service.formats.arrays import to_npy
from tests.problems.registration import bijection
from tests.service.archives import NPZ, arrays, assert_same, flat, npz, post
from tests.service.conftest import Running
from tests.service.http import assert_problem

SMALL = bijection(12, 2, sigma=0.01, shift=3.0, seed=4)
SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
GOOD: dict[str, Any] = {"source": SMALL.source.tolist(), "target": SMALL.target.tolist()}
JSON = {"Content-Type": "application/json"}
MATRIX = [[1.0, 0.0, 3.0], [0.0, 1.0, 3.0], [0.0, 0.0, 1.0]]


def assert_equal(found: dict[str, NDArray[Any]], answer: dict[str, Any]) -> None:
    """Check that the arrays have all fields of a JSON answer and no others, but for `points`."""
    fields = _joined(answer)
    for name, value in fields.items():
        if value is None:
            assert name not in found or np.isnan(found[name]), name
        else:
            assert_same(found[name], value, name)
    assert found.keys() - fields.keys() <= {"points"}


def _joined(answer: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of an answer by their dotted names. A list of objects becomes a list for each of their fields."""
    fields: dict[str, Any] = {}
    for name, value in answer.items():
        if name == "degenerate":
            value = {"kind": [one["kind"] for one in value]} | (
                {"axis": [one["axis"] for one in value]} if value else {}
            )
        fields |= _joined(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return fields


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


@pytest.mark.parametrize(
    ("change", "detail", "allowed"),
    [
        ({"source": np.ones((2, 2), complex)}, "/source: the dtype complex128 is not supported", "numbers"),
        ({"source": np.array([b"bytes"])}, "/source: the dtype bytes is not supported", "numbers"),
        ({"source": np.zeros(2, [("x", "f8")])}, "/source: the dtype of records is not supported", "numbers"),
        ({"sigma": np.array(1j)}, "/sigma: the dtype complex128 is not supported", "a finite number"),
        ({"transform": np.array(b"rigid")}, "/transform: the dtype bytes is not supported", "rigid"),
        ({"init.matrix": np.eye(3, dtype=complex)}, "/init/matrix: the dtype complex128 is not supported", "numbers"),
        ({"source": np.zeros((3, 2), bool)}, "/source: the array has the dtype bool", "numbers"),
        ({"source": np.zeros(3)}, "/source: the array has the shape (3,)", "numbers"),
        ({"source": np.zeros(3, bool)}, "/source: the array has the dtype bool and the shape (3,)", "numbers"),
        ({"source": 1.0}, "/source: the array has the shape (), but this field has axes", "an array"),
        ({"sigma": np.ones(12)}, "/sigma: the array has the shape (12,), but this field is a scalar", "a finite"),
        ({"transform": np.array(["rigid"])}, "/transform: the array has the shape (1,), but", "rigid"),
        ({"include": np.array("trace")}, "/include: the array has the shape (), but this field has axes", "an array"),
    ],
)  # fmt: skip
def test_a_wrong_type_or_shape_is_named_with_what_its_field_allows(
    client: TestClient, change: dict[str, Any], detail: str, allowed: str
) -> None:
    problem = assert_problem(post(client, "/em/register", npz(flat(GOOD) | change)), 422)
    assert problem["detail"].startswith(detail)
    (error,) = problem["errors"]
    assert allowed in str(error["allowed"])


def test_unknown_and_missing_names_come_first(client: TestClient) -> None:
    bad = {"sourse": np.full((3, 2), np.nan), "target": SMALL.target.astype(complex), "sigma": np.ones(2)}
    problem = assert_problem(post(client, "/em/register", npz(bad | {"init.bent": np.array([np.inf])})), 422)
    pointers = [error["pointer"] for error in problem["errors"]]
    assert set(pointers[:3]) == {"/sourse", "/source", "/init/bent"}
    assert set(pointers[3:]) == {"/target", "/sigma"}
    assert len(pointers) == 5


def test_errors_of_several_fields_are_one_answer(client: TestClient) -> None:
    bad = flat(GOOD) | {"source": np.full((3, 2), np.nan), "sigma": -1.0, "wrong": 1.0}
    problem = assert_problem(post(client, "/em/register", npz(bad)), 422)
    assert {error["pointer"] for error in problem["errors"]} == {"/source/0/0", "/sigma", "/wrong"}
    missing = assert_problem(post(client, "/em/register", npz({})), 422)
    assert [error["pointer"] for error in missing["errors"]] == ["/source", "/target"]


def test_bodies_that_are_no_archives_are_malformed(client: TestClient) -> None:
    bodies = {
        b"": "the body is empty",
        to_npy(SMALL.source): "one array in .npy format; send an archive",
        pickle.dumps(GOOD): "a pickle, and pickles are never read",
        b"{}": "not an .npz archive",
        b"PK\x03\x04": "truncated",
        npz(flat(GOOD))[:-30]: "truncated",
    }
    for path in ("/em/register", "/em/register/batch"):
        for body, detail in bodies.items():
            problem = assert_problem(post(client, path, body), 400)
            assert detail in problem["detail"]
            (error,) = problem["errors"]
            assert error["pointer"] == ""
            assert "numpy.savez" in error["allowed"]
        assert_problem(client.post(path, content=b"{}", headers={"Content-Type": "application/x-npy"}), 415)
        assert_problem(client.post(path, content=b"x", headers={"Content-Type": NPZ, "Content-Encoding": "gzip"}), 415)
        assert_problem(client.post(path, json=GOOD, headers={"Accept": "text/html"}), 406)
    problem = assert_problem(client.post("/em/register", content=b"x", headers={"Content-Type": "text/plain"}), 415)
    assert NPZ in problem["errors"][0]["allowed"]


def test_an_archive_of_another_media_type_is_told_the_right_one(client: TestClient) -> None:
    body = npz(flat(GOOD))
    for path in ("/em/register", "/em/register/batch", "/vae/reparam-grad"):
        other = client.post(path, content=body, headers={"Content-Type": "application/octet-stream"})
        assert all(kind in assert_problem(other, 415)["detail"] for kind in ("application/json", NPZ))
        as_json = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert f"Content-Type: {NPZ}" in assert_problem(as_json, 400)["detail"]
        assert "Content-Type" not in assert_problem(client.post(path, content=b"{", headers=JSON), 400)["detail"]
    for path in ("/vae/kl", "/em/expectation"):  # they do not read archives
        as_json = client.post(path, content=body, headers=JSON)
        assert NPZ not in assert_problem(as_json, 400)["detail"]
        other = client.post(path, content=body, headers={"Content-Type": NPZ})
        assert "Content-Type: application/json" in assert_problem(other, 415)["detail"]


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


@pytest.mark.parametrize("texts", [np.full(100_000, "a"), np.array(["a" * 100_000])])
def test_many_texts_and_long_ones_are_refused(client: TestClient, texts: NDArray[Any]) -> None:
    problem = assert_problem(post(client, "/em/register", npz(GOOD | {"include": texts})), 422)
    assert problem["errors"][0]["pointer"] == "/include"
    assert "at most 64 texts" in problem["detail"]


def test_points_beyond_the_limit_are_refused(client: TestClient) -> None:
    source = np.zeros((MAX_WIRE_POINTS, 1))
    problem = assert_problem(post(client, "/em/register", npz({"source": source, "target": [[0.0]]})), 422)
    assert problem["errors"][0]["pointer"] == "/source"
    assert "2,500,001 points" in problem["detail"]
