"""The GAN's endpoints: pictures, arrays, caching, uploads, and what they refuse."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from service.gan.routes import build_tag
from tests.service.test_app import assert_problem


def levels(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_the_default_is_one_unpadded_8_bit_grey_png(client: TestClient) -> None:
    response = client.get("/gan/generate")
    picture = Image.open(io.BytesIO(response.content))
    assert response.headers["content-type"] == "image/png"
    assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (32, 32))


def test_without_a_seed_one_is_drawn_named_and_never_stored(client: TestClient) -> None:
    first, second = client.get("/gan/generate"), client.get("/gan/generate")
    assert first.headers["cache-control"] == "no-store"
    assert "etag" not in first.headers
    assert first.headers["x-seed"] != second.headers["x-seed"]
    again = client.get("/gan/generate", params={"seed": first.headers["x-seed"]})
    assert again.content == first.content


def test_with_a_seed_the_answer_is_immutable_and_304_by_its_etag(client: TestClient) -> None:
    url = "/gan/generate?seed=7&count=4"
    first = client.get(url)
    etag = first.headers["etag"]
    assert etag.startswith('"')
    assert first.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert client.get(url).content == first.content
    for values in ([etag], [f'"other", {etag}'], [f"W/{etag}"], ["*"], ['"other"', etag], [etag, '"other"']):
        cached = client.get(url, headers=[("if-none-match", value) for value in values])
        assert (cached.status_code, cached.content, cached.headers["etag"]) == (304, b"", etag)
        assert (cached.headers["x-seed"], cached.headers["cache-control"]) == ("7", first.headers["cache-control"])
    for values in (['"other"'], ['"other"', '"another"'], [""], ["*", '"other"']):
        assert client.get(url, headers=[("if-none-match", value) for value in values]).status_code == 200


def test_etags_tell_apart_what_has_other_bytes(client: TestClient) -> None:
    urls = [
        "seed=7", "seed=8", "seed=7&count=2", "seed=7&scale=2", "seed=7&format=webp", "seed=7&format=npy",
        "seed=7&format=json", "seed=7&count=2&columns=1",
    ]  # fmt: skip
    assert len({client.get(f"/gan/generate?{url}").headers["etag"] for url in urls}) == len(urls)
    # The same request in other words is the same answer.
    same = {client.get(f"/gan/generate?{url}").headers["etag"] for url in ("seed=7", "count=1&seed=7", "seed=07")}
    assert len(same) == 1


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


def test_what_json_answers_can_be_posted_back(client: TestClient) -> None:
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


def test_uploads_arrays_and_raw_pictures_are_judged_alike(client: TestClient) -> None:
    png = client.get("/gan/generate?seed=4").content
    other = client.get("/gan/generate?seed=5&format=webp").content
    expected = client.post("/gan/discriminate", json={"images": levels(png).tolist()}).json()["probability"]
    raw = client.post("/gan/discriminate", content=png, headers={"content-type": "image/png"})
    form = client.post("/gan/discriminate", files=[("images", png), ("images", other)])
    assert raw.json()["probability"] == expected
    assert form.json()["probability"][:1] == expected
    assert len(form.json()["probability"]) == 2


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("count=0", "/count"), ("count=1025", "/count"), ("count=two", "/count"), ("count=true", "/count"),
        ("seed=-1", "/seed"), ("seed=9223372036854775808", "/seed"), ("seed=1.5", "/seed"),
        ("scale=0", "/scale"), ("scale=9", "/scale"), ("columns=0", "/columns"), ("format=gif", "/format"),
        ("sampler=best", "/sampler"), ("digit=3", "/digit"), ("format=npy&columns=2", ""),
        ("format=webp&count=1024&scale=8&columns=1024", "/format"),
    ],
)  # fmt: skip
def test_a_bad_query_is_a_422_that_points(client: TestClient, query: str, pointer: str) -> None:
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
        ({"noise": 1}, "/noise"),
        ([], ""),
    ],
)
def test_a_bad_body_is_a_422_that_points(client: TestClient, body: object, pointer: str) -> None:
    problem = assert_problem(client.post("/gan/generate", json=body), 422)
    assert problem["errors"][0]["pointer"] == pointer


def test_nan_and_infinity_are_refused_where_they_stand(client: TestClient) -> None:
    for word in ("NaN", "Infinity", "-Infinity", "1e999"):
        text = '{"latents": [[' + ",".join(["0"] * 127 + [word]) + "]]}"
        response = client.post("/gan/generate", content=text, headers={"content-type": "application/json"})
        assert assert_problem(response, 422)["errors"][0]["pointer"] == "/latents/0/127"


def test_pictures_that_are_none_or_of_another_size_are_refused(client: TestClient) -> None:
    def upload(*files: bytes) -> Any:
        return client.post("/gan/discriminate", files=[("images", file) for file in files])

    good = client.get("/gan/generate?seed=4").content
    assert assert_problem(upload(good, good[:100]), 422)["errors"][0]["pointer"] == "/images/1"
    assert assert_problem(upload(b""), 422)["errors"][0]["pointer"] == "/images/0"
    large = client.get("/gan/generate?seed=4&scale=2").content
    assert assert_problem(upload(large), 422)["errors"][0]["allowed"] == ["32 x 32", "28 x 28"]
    assert_problem(client.post("/gan/discriminate", files=[("pictures", good)]), 422)
    assert_problem(client.post("/gan/discriminate", content=b"x", headers={"content-type": "text/plain"}), 415)
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert_problem(client.post("/gan/discriminate", content=b"--y\r\n", headers=broken), 400)
    for images in (
        [[[256] * 32] * 32],
        [[[-1] * 32] * 32],
        [[[0.5] * 32] * 32],
        [[[0] * 31] * 32],
        [[[0] * 32] * 31 + [[0]]],
    ):
        assert_problem(client.post("/gan/discriminate", json={"images": images}), 422)


def test_etags_tell_apart_checkpoints_that_differ_in_either_network() -> None:
    digests = [{"generator": g, "discriminator": d} for g in "ab" for d in "ab"]
    assert len({build_tag(files, "1", "cpu") for files in digests}) == 4
