"""Reparameterizations in .npz: the same answers as in JSON, to the bit, and the same errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.web.npz_body import SMALL
from tests.service.archives import NPZ, arrays, assert_same, flat, npz, post
from tests.service.http import assert_problem

PATH = "/vae/reparam-grad"
VECTOR: dict[str, Any] = {"mu": [0.5, -1.0], "sigma": [1.0, 2.0], "grad_z": [1.0, 1.0], "seed": 7}
ROWS: dict[str, Any] = {name: [VECTOR[name]] * 3 for name in ("mu", "sigma", "grad_z")}


@pytest.mark.parametrize(
    "fields",
    [
        VECTOR,
        VECTOR | {"kl_weight": 0.5},
        ROWS | {"noise": [[0.25, -1.5]] * 3, "kl_weight": 2.0},
        {"mu": [0.0, 1.0], "scale_tril": [[1.0, 0.0], [0.5, 2.0]], "grad_z": [1.0, -1.0], "seed": 2**62 + 1},
        {"mu": [0.0], "log_variance": [0.5], "grad_z": [1.0], "seed": 0},
    ],
)
def test_an_archive_and_its_answer_are_those_of_json(client: TestClient, fields: dict[str, Any]) -> None:
    expected = client.post(PATH, json=fields)
    response = post(client, PATH, npz(flat(fields)))
    assert response.headers["content-type"] == NPZ
    assert response.headers["vary"] == "Accept"
    found, answer = arrays(response.content), expected.json()
    assert found.keys() == {name for name, value in answer.items() if value is not None}
    for name, array in found.items():
        assert_same(array, answer[name], name)
    assert post(client, PATH, npz(flat(fields)), "application/json").content == expected.content
    assert client.post(PATH, json=fields, headers={"Accept": NPZ}).content == response.content


def test_an_archive_above_the_size_for_the_event_loop_gives_the_same_numbers(client: TestClient) -> None:
    generator = np.random.default_rng(0)
    fields = {name: generator.normal(size=(300, SMALL // 300)) for name in ("mu", "grad_z", "noise")}
    fields["sigma"] = np.ones_like(fields["mu"])
    for compressed in (False, True):
        found = arrays(post(client, PATH, npz(fields, compressed=compressed)).content)
        assert np.array_equal(found["z"], fields["mu"] + fields["noise"])
        assert np.array_equal(found["grad_mu"], fields["grad_z"])


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"mu": np.array([0.0, np.nan])}, "/mu/1"), ({"sigma": np.array([0.0, 1.0])}, "/sigma/0"),
        ({"mu": np.zeros((1, 1, 1))}, "/mu"), ({"mu": np.array([True, False])}, "/mu"), ({"mu": np.array(1.0)}, "/mu"),
        ({"grad_z": np.zeros(3)}, "/grad_z"), ({"seed": 1.5}, "/seed"), ({"seed": -1}, "/seed"),
        ({"kl_weight": np.inf}, "/kl_weight"), ({"noise": np.zeros(2)}, "/seed"), ({"wrong": 1}, "/wrong"),
        ({"log_variance": np.zeros(2)}, ""), ({"sigma": np.ones(2, complex)}, "/sigma"),
    ],
)  # fmt: skip
def test_an_invalid_field_is_a_422_with_a_pointer(client: TestClient, change: dict[str, Any], pointer: str) -> None:
    problem = assert_problem(post(client, PATH, npz(flat(VECTOR) | change)), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert problem["errors"][0]["allowed"]


def test_other_media_types_are_refused(client: TestClient) -> None:
    problem = assert_problem(client.post(PATH, content=b"x", headers={"Content-Type": "text/csv"}), 415)
    assert NPZ in problem["errors"][0]["allowed"]
    assert_problem(client.post(PATH, json=VECTOR, headers={"Accept": "text/csv"}), 406)
