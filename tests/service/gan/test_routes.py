"""/gan/generate over HTTP: formats, layout, and the requests that it refuses."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.service.gan.conftest import levels
from tests.service.http import assert_problem


def test_the_default_is_one_unpadded_8_bit_grey_png(client: TestClient) -> None:
    response = client.get("/gan/generate")
    picture = Image.open(io.BytesIO(response.content))
    assert response.headers["content-type"] == "image/png"
    assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (32, 32))


def test_image_i_is_the_same_for_every_count_and_format(client: TestClient) -> None:
    images = np.load(io.BytesIO(client.get("/gan/generate?seed=3&count=6&format=npy").content), allow_pickle=False)
    assert (images.shape, images.dtype) == ((6, 32, 32), np.uint8)
    assert np.array_equal(levels(client.get("/gan/generate?seed=3").content), images[0])
    sheet = levels(client.get("/gan/generate?seed=3&count=6&columns=3&scale=2").content)
    assert sheet.shape == (128, 192)
    assert np.array_equal(sheet[64:128:2, 64:128:2], images[4])
    assert np.array_equal(levels(client.get("/gan/generate?seed=3&count=6&format=webp").content).shape[:2], (64, 96))
    answer = client.get("/gan/generate?seed=3&count=6&format=json").json()
    assert answer["images"] == images.tolist()
    assert (answer["count"], answer["seed"]) == (6, 3)


def test_the_latents_of_a_json_answer_reproduce_it(client: TestClient) -> None:
    answer = client.get("/gan/generate?seed=5&count=3&format=json").json()
    again = client.post("/gan/generate", json={"latents": answer["latents"], "format": "json"}).json()
    assert again["images"] == answer["images"]
    assert again["probability"] == answer["probability"]
    assert again["seed"] is None
    judged = client.post("/gan/discriminate", json={"images": answer["images"]}).json()
    assert judged["probability"] == answer["probability"]


def test_post_with_a_seed_is_get_with_scores(client: TestClient) -> None:
    response = client.post("/gan/generate", json={"seed": 9, "count": 2})
    assert response.content == client.get("/gan/generate?seed=9&count=2").content
    scores = [float(score) for score in response.headers["x-probability"].split(",")]
    expected = client.post("/gan/generate", json={"seed": 9, "count": 2, "format": "json"}).json()["probability"]
    assert scores == pytest.approx(expected, rel=1e-5)
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("count=0", "/count"), ("count=1025", "/count"), ("count=two", "/count"), ("count=true", "/count"),
        ("seed=-1", "/seed"), ("seed=9223372036854775808", "/seed"), ("seed=1.5", "/seed"),
        ("scale=0", "/scale"), ("scale=9", "/scale"), ("columns=0", "/columns"), ("format=gif", "/format"),
        ("sampler=best", "/sampler"), ("digit=3", "/digit"), ("format=npy&columns=2", "/columns"),
        ("format=webp&count=1024&scale=8&columns=1024", "/format"),
    ],
)  # fmt: skip
def test_an_invalid_query_is_a_422_with_a_pointer(client: TestClient, query: str, pointer: str) -> None:
    problem = assert_problem(client.get(f"/gan/generate?{query}"), 422)
    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"latents": [[0.0] * 127]}, "/latents"),
        ({"latents": []}, "/latents"),
        ({"latents": [[0.0] * 128, [0.0] * 127]}, "/latents"),
        ({"latents": [[0.0] * 127 + ["1"]]}, "/latents/0/127"),
        ({"latents": [[0.0] * 127 + [True]]}, "/latents/0/127"),
        ({"latents": [[0.0] * 127 + [1e6]]}, "/latents/0/127"),
        ({"latents": [0.0] * 128}, "/latents/0"),
        ({"latents": [[0.0] * 128], "seed": 1}, "/latents"),
        ({"seed": "7"}, "/seed"),
        ({"seed": 7.5}, "/seed"),
        ({"count": True}, "/count"),
        ({"scores": "true"}, "/scores"),
        ({"scores": 1}, "/scores"),
        ({"noise": 1}, "/noise"),
        ([], ""),
    ],
)
def test_an_invalid_body_is_a_422_with_a_pointer(client: TestClient, body: object, pointer: str) -> None:
    problem = assert_problem(client.post("/gan/generate", json=body), 422)
    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("path", "pointer", "allowed"),
    [
        ("generate?seed=1&format=json&scale=2", "/scale", "scale, or format json"),
        ("generate?seed=1&format=npy&columns=2&scale=2", "/columns", "columns, or format npy"),
        ("generate?seed=1&seed=2", "/seed", "one value"),
        ("generate?count=1_0", "/count", "an integer"),
        ("generate?count=%205", "/count", "an integer"),
        ("generate?count=%2B5", "/count", "an integer"),
        ("generate?count=5.0", "/count", "an integer"),
        ("generate?seed=%D9%A3", "/seed", "an integer"),
        ("generate?seed=", "/seed", "an integer"),
        ("generate?truncation=0_1", "/truncation", "a finite number"),
        ("generate?truncation=%2B1", "/truncation", "a finite number"),
        ("interpolate?seeds=1,2&fps=1_0", "/fps", "a finite number"),
        ("interpolate?seeds=1,2,1", "/seeds", "leave out the last seed, or loop=false"),
        ("generate?count=1024&columns=1024&scale=1&format=webp", "/format", ["png"]),
    ],
)
def test_an_invalid_query_is_a_422_with_the_allowed_values(
    client: TestClient, path: str, pointer: str, allowed: object
) -> None:
    (error,) = assert_problem(client.get(f"/gan/{path}"), 422)["errors"]
    assert (error["pointer"], error["allowed"]) == (pointer, allowed)


def test_numbers_in_a_query_may_use_all_notations_of_json(client: TestClient) -> None:
    assert client.get("/gan/generate?seed=007&truncation=1e-1").status_code == 200
    assert client.get("/gan/generate?seed=7&truncation=0.10").status_code == 200
    problem = assert_problem(client.get("/gan/generate?count=1_0&scale=9"), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["/count", "/scale"]
    assert client.get("/gan/interpolate?seeds=1,2,1&frames=2&loop=false").status_code == 200


def test_nan_and_infinity_are_refused_with_their_position(client: TestClient) -> None:
    for word in ("NaN", "Infinity", "-Infinity", "1e999"):
        text = '{"latents": [[' + ",".join(["0"] * 127 + [word]) + "]]}"
        response = client.post("/gan/generate", content=text, headers={"content-type": "application/json"})
        assert assert_problem(response, 422)["errors"][0]["pointer"] == "/latents/0/127"


def test_booleans_in_a_query_ignore_case(rich: TestClient) -> None:
    assert rich.get("/gan/generate?seed=1&scores=True").content == rich.get("/gan/generate?seed=1&scores=true").content
    assert rich.get("/gan/generate?seed=1&scores=1").status_code == 422


def test_every_header_that_is_sent_is_in_the_document(rich: TestClient) -> None:
    paths = rich.get("/openapi.json").json()["paths"]
    everything = "seed=1&count=2&digit=3&sampler=rejection&scores=true"
    etag = rich.get(f"/gan/generate?{everything}").headers["etag"]
    wanted = {
        rich.get(f"/gan/generate?{everything}"): {"etag", "x-seed", "x-accepted", "x-probability", "x-digit"},
        rich.get(f"/gan/generate?{everything}", headers={"if-none-match": etag}): {"etag", "x-seed", "cache-control"},
        rich.get("/gan/interpolate?seeds=1,2&digit=3"): {"etag", "x-attempts", "cache-control"},
        rich.get("/gan/interpolate?seeds=1,2&digit=3", headers={"if-none-match": "*"}): {"etag", "cache-control"},
        rich.post("/gan/generate", json={"digit": 3}): {"x-seed", "x-class-probability", "cache-control"},
        rich.get("/gan/generate?count=0"): {"x-request-id"},
        rich.get("/livez"): {"x-request-id"},
    }
    for response, some in wanted.items():
        operation = paths[response.request.url.path][response.request.method.lower()]
        described = {name.lower() for name in operation["responses"][str(response.status_code)]["headers"]}
        sent = set(response.headers) - {"content-type", "content-length"}
        assert some <= sent <= described
