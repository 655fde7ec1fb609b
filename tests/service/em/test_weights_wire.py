"""Weights and pairs over HTTP: in JSON, in arrays, in batches of both, and as columns of files."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

from service.em.problem import Problem
from service.em.register import register
from tests.problems.clouds import posed
from tests.service.archives import NPZ, arrays, npz, post
from tests.service.http import assert_problem

PAIR = posed(40, source_only=8, target_only=6, sigma=0.01, angle=0.3, shift=0.1, seed=1)
SOURCE_WEIGHTS = np.random.default_rng(0).uniform(0.1, 1.0, size=48)
TARGET_WEIGHTS = np.random.default_rng(1).uniform(0.1, 1.0, size=46)
SOURCE_WEIGHTS[3] = 0.0
PAIRS: list[list[Any]] = [[9, int(PAIR.partner[9])], [10, int(PAIR.partner[10]), None], [0, 5, 2.5]]
ARRAY = np.array([[9, PAIR.partner[9], np.inf], [10, PAIR.partner[10], np.inf], [0, 5, 2.5]])
OPTIONS: dict[str, Any] = {"transform": "rigid", "init": "identity"}
GOOD = OPTIONS | {"source": PAIR.source.tolist(), "target": PAIR.target.tolist()}
BODY = GOOD | {
    "source_weights": SOURCE_WEIGHTS.tolist(),
    "target_weights": TARGET_WEIGHTS.tolist(),
    "pairs": PAIRS,
}


def expected() -> Any:
    return register(
        Problem(
            PAIR.source,
            PAIR.target,
            transform="rigid",
            init="identity",
            source_weights=SOURCE_WEIGHTS,
            target_weights=TARGET_WEIGHTS,
            pairs=ARRAY,
        )
    )


def assert_answer(answer: dict[str, Any]) -> None:
    """The answer is that of the library, with the exact pairs."""
    found = expected()
    assert answer["log_likelihood"] == found.log_likelihood
    assert answer["translation"] == found.translation.tolist()
    assert answer["matching"] == [None if j < 0 else j for j in found.matching.tolist()]
    assert answer["matching"][9] == PAIR.partner[9]


def test_json_has_the_answer_of_the_library(client: TestClient) -> None:
    assert_answer(client.post("/em/register", json=BODY).json())


def test_arrays_have_the_answer_of_json(client: TestClient) -> None:
    fields = OPTIONS | {"source": PAIR.source, "target": PAIR.target, "pairs": ARRAY}
    weights = {"source_weights": SOURCE_WEIGHTS, "target_weights": TARGET_WEIGHTS}
    found = arrays(post(client, "/em/register", npz(fields | weights)).content)
    assert found["log_likelihood"] == expected().log_likelihood
    assert np.array_equal(found["matching"], expected().matching)
    whole = fields | weights | {"pairs": ARRAY[:2, :2].astype(np.int32)}
    as_json = BODY | {"pairs": [row[:2] for row in PAIRS[:2]]}
    found = arrays(post(client, "/em/register", npz(whole)).content)
    assert found["log_likelihood"] == client.post("/em/register", json=as_json).json()["log_likelihood"]


def test_equal_weights_have_the_bytes_of_no_weights(client: TestClient) -> None:
    plain = client.post("/em/register", json=GOOD).content
    equal = GOOD | {"source_weights": [2.0] * 48, "target_weights": [1] * 46, "pairs": []}
    assert client.post("/em/register", json=equal).content == plain
    null: dict[str, Any] = {"source_weights": None, "target_weights": None, "pairs": None}
    assert client.post("/em/register", json=GOOD | null).content == plain


def test_a_batch_in_json_has_weights_of_each_problem(client: TestClient) -> None:
    wrong = GOOD | {"pairs": [[0, 1], [1, 99]]}
    answer = client.post("/em/register/batch", json={"problems": [GOOD, BODY, wrong]}).json()["results"]
    assert answer[0] == client.post("/em/register", json=GOOD).json()
    assert_answer(answer[1])
    assert answer[2]["status"] == 422
    assert answer[2]["errors"][0]["pointer"] == "/problems/2/pairs/1"


def ragged() -> dict[str, Any]:
    """Three problems: the first with pairs, the second of other clouds, and the third the first without pairs."""
    other = posed(30, sigma=0.01, angle=0.2, shift=0.1, seed=2)
    return OPTIONS | {
        "source": np.concatenate([PAIR.source, other.source, PAIR.source]),
        "source_offsets": np.array([0, 48, 78, 126]),
        "target": np.concatenate([PAIR.target, other.target, PAIR.target]),
        "target_offsets": np.array([0, 46, 76, 122]),
        "source_weights": np.concatenate([SOURCE_WEIGHTS, np.linspace(0.5, 1, 30), SOURCE_WEIGHTS]),
        "target_weights": np.concatenate([TARGET_WEIGHTS, np.linspace(1, 0.5, 30), TARGET_WEIGHTS]),
        "pairs": ARRAY,
        "pairs_offsets": np.array([0, 3, 3, 3]),
    }


def test_each_problem_of_a_ragged_batch_has_its_weights_and_pairs(client: TestClient) -> None:
    batch = ragged()
    found = arrays(post(client, "/em/register/batch", npz(batch)).content)
    assert found["status"].tolist() == [200] * 3
    for index in range(3):
        body = OPTIONS.copy()
        for name, cloud in (("source", "source"), ("target", "target"), ("pairs", "pairs")):
            at = slice(*batch[f"{cloud}_offsets"][index : index + 2])
            body[name] = batch[name][at].tolist()
            if name != "pairs":
                body[f"{name}_weights"] = batch[f"{name}_weights"][at].tolist()
        body["pairs"] = [[i, j, None if s == np.inf else s] for i, j, s in body["pairs"]]
        alone = client.post("/em/register", json=body).json()
        assert found["log_likelihood"][index] == alone["log_likelihood"]
        assert found["translation"][index].tolist() == alone["translation"]


def test_an_error_of_one_problem_of_a_ragged_batch_is_its_own(client: TestClient) -> None:
    batch = ragged()
    batch["source_weights"] = batch["source_weights"].copy()
    batch["source_weights"][[50, 90]] = [-1, np.nan]
    response = post(client, "/em/register/batch", npz(batch), accept="application/json").json()["results"]
    assert "translation" in response[0]
    assert [one["errors"][0]["pointer"] for one in response[1:]] == [
        "/problems/1/source_weights/2",
        "/problems/2/source_weights/12",
    ]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"source_weights": np.ones(3)}, "/source_weights"),
        ({"pairs_offsets": np.array([0, 3, 3])}, "/pairs_offsets"),
        ({"pairs_offsets": np.array([0, 3, 3, 2])}, "/pairs_offsets/3"),
        ({"pairs": np.ones((3, 5))}, "/pairs"),
    ],
)
def test_arrays_that_do_not_divide_are_refused(client: TestClient, change: dict[str, Any], pointer: str) -> None:
    response = post(client, "/em/register/batch", npz(ragged() | change))
    assert assert_problem(response, 422)["errors"][0]["pointer"] == pointer


def test_pairs_need_their_offsets_and_offsets_their_pairs(client: TestClient) -> None:
    for name in ("pairs", "pairs_offsets"):
        batch = {key: value for key, value in ragged().items() if key != name}
        response = post(client, "/em/register/batch", npz(batch))
        assert assert_problem(response, 422)["errors"][0]["pointer"] == "/pairs_offsets"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"source_weights": [1.0, 2.0]}, "/source_weights"),
        ({"source_weights": []}, "/source_weights"),
        ({"source_weights": "heavy"}, "/source_weights"),
        ({"target_weights": [1.0] * 45 + [-1.0]}, "/target_weights/45"),
        ({"target_weights": [0] * 46}, "/target_weights"),
        ({"pairs": [[0]]}, "/pairs/0"),
        ({"pairs": [[0, 1], [2, 3, 1, 1]]}, "/pairs/1"),
        ({"pairs": [[0, 1], [2, "3"]]}, "/pairs/1/1"),
        ({"pairs": [[0, 1], [2, None]]}, "/pairs/1"),
        ({"pairs": [[0, 1], [True, 2]]}, "/pairs/1/0"),
        ({"pairs": [[0, 1, 1.0], [0, 2]]}, "/pairs/1"),
        ({"pairs": [[0, 46]]}, "/pairs/0"),
        ({"pairs": {"0": 1}}, "/pairs"),
        ({"pairs": [[0, 1, 0]]}, "/pairs/0"),
    ],
)
def test_what_is_no_weight_and_no_pair_is_refused(client: TestClient, change: dict[str, Any], pointer: str) -> None:
    problem = assert_problem(client.post("/em/register", json=GOOD | change), 422)
    assert problem["errors"][0]["pointer"] == pointer


def table(points: NDArray[np.float64], weights: NDArray[np.float64] | None, name: str = "weight") -> bytes:
    rows = points if weights is None else np.column_stack([points, weights])
    head = "x,y,z" + ("" if weights is None else f",{name}")
    return (head + "\n" + "\n".join(",".join(map(repr, row)) for row in rows.tolist()) + "\n").encode()


def form(name: str = "weight") -> dict[str, tuple[str, bytes]]:
    return {
        "source": ("a.csv", table(PAIR.source, SOURCE_WEIGHTS, name)),
        "target": ("b.csv", table(PAIR.target, TARGET_WEIGHTS, name)),
    }


def test_a_named_column_of_a_file_has_the_weights(client: TestClient) -> None:
    data = OPTIONS | {"pairs": json.dumps(PAIRS)}
    answer = client.post("/em/register", files=form("Confidence"), data=data).json()
    assert_answer(answer)
    assert answer["warnings"][:2] == [
        "source: the column 'Confidence' has weights, which are used; source_weights=null ignores them",
        "target: the column 'Confidence' has weights, which are used; target_weights=null ignores them",
    ]


def test_a_field_of_weights_takes_the_place_of_the_column(client: TestClient) -> None:
    plain = client.post("/em/register", json=GOOD).content
    ignored = OPTIONS | {"source_weights": "null", "target_weights": "null"}
    assert client.post("/em/register", files=form(), data=ignored).content == plain
    given = OPTIONS | {"source_weights": str(SOURCE_WEIGHTS.tolist()), "target_weights": "null"}
    body = GOOD | {"source_weights": SOURCE_WEIGHTS.tolist()}
    assert (
        client.post("/em/register", files=form(), data=given).content == client.post("/em/register", json=body).content
    )


def test_a_column_that_another_option_excludes_is_not_used(client: TestClient) -> None:
    answer = client.post("/em/register", files=form(), data=OPTIONS | {"normalize": "sinkhorn"}).json()
    plain = client.post("/em/register", json=GOOD | {"normalize": "sinkhorn"}).json()
    assert answer["log_likelihood"] == plain["log_likelihood"]
    assert "not used: source_weights exclude normalize sinkhorn" in answer["warnings"][0]


def test_weights_and_pairs_have_the_indices_of_a_file_with_missing_points(client: TestClient) -> None:
    source, target = np.insert(PAIR.source, [2, 20], np.nan, 0), np.insert(PAIR.target, [0], np.nan, 0)
    weights = np.insert(SOURCE_WEIGHTS, [2, 20], 0.7)
    place = np.flatnonzero(~np.isnan(source[:, 0]))
    pairs = [[int(place[i]), j + 1, *rest] for i, j, *rest in PAIRS]
    files = {"source": ("a.csv", table(source, weights)), "target": ("b.csv", table(target, None))}
    data = OPTIONS | {"pairs": json.dumps(pairs), "target_weights": json.dumps([0.3, *TARGET_WEIGHTS.tolist()])}
    answer = client.post("/em/register", files=files, data=data).json()
    found = expected()
    assert answer["log_likelihood"] == found.log_likelihood
    matching = [answer["matching"][k] for k in place]
    assert matching == [None if j < 0 else j + 1 for j in found.matching.tolist()]
    for wrong in ([[2, 1]], [[0, 0]], [[50, 1]]):
        response = client.post("/em/register", files=files, data=OPTIONS | {"pairs": json.dumps(wrong)})
        assert assert_problem(response, 422)["errors"][0]["pointer"] == "/pairs/0"


def test_the_document_describes_the_options(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()["components"]["schemas"]["RegisterRequest"]["properties"]
    assert {"source_weights", "target_weights", "pairs"} <= schema.keys()
    rows = schema["pairs"]["anyOf"][0]["items"]
    assert (rows["minItems"], rows["maxItems"], len(rows["prefixItems"])) == (2, 3, 3)
    assert NPZ in client.get("/openapi.json").json()["paths"]["/em/register"]["post"]["requestBody"]["content"]
