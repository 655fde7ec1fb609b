"""The GAN's endpoints: pictures, arrays, caching, uploads, and what they refuse."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from service.formats.images import PNG_SIGNATURE, animate, encode
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
        ("sampler=best", "/sampler"), ("digit=3", "/digit"), ("format=npy&columns=2", "/columns"),
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
        ({"scores": "true"}, "/scores"),
        ({"scores": 1}, "/scores"),
        ({"noise": 1}, "/noise"),
        ([], ""),
    ],
)
def test_a_bad_body_is_a_422_that_points(client: TestClient, body: object, pointer: str) -> None:
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
def test_a_bad_query_says_what_is_allowed(client: TestClient, path: str, pointer: str, allowed: object) -> None:
    (error,) = assert_problem(client.get(f"/gan/{path}"), 422)["errors"]
    assert (error["pointer"], error["allowed"]) == (pointer, allowed)


def test_numbers_of_a_query_may_be_written_in_any_way_that_json_has(client: TestClient) -> None:
    assert client.get("/gan/generate?seed=007&truncation=1e-1").status_code == 200
    assert client.get("/gan/generate?seed=7&truncation=0.10").status_code == 200
    problem = assert_problem(client.get("/gan/generate?count=1_0&scale=9"), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["/count", "/scale"]
    assert client.get("/gan/interpolate?seeds=1,2,1&frames=2&loop=false").status_code == 200


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


LARGE = np.zeros((32, 32), np.uint8)
ENDPOINTS = ["/gan/discriminate", "/gan/invert"]


def animation(kind: str) -> bytes:
    return animate(np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8), kind, 10)


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize(("kind", "allowed"), [("apng", "one frame"), ("webp", "one frame"), ("gif", "PNG or WebP")])
def test_an_upload_that_moves_is_refused_with_what_to_do(
    client: TestClient, path: str, kind: str, allowed: str
) -> None:
    still = client.get("/gan/generate?seed=4").content
    form = client.post(path, files=[("images", still), ("images", animation(kind))])
    (error,) = assert_problem(form, 422)["errors"]
    assert (error["pointer"], error["allowed"]) == ("/images/1", allowed)
    assert "each of" in error["detail"]
    declared = "png" if kind == "apng" else "webp"
    raw = client.post(path, content=animation(kind), headers={"content-type": f"image/{declared}"})
    assert assert_problem(raw, 422)["errors"][0]["allowed"] == allowed
    if kind != "webp":
        problem = assert_problem(client.post(path, content=b"x", headers={"content-type": f"image/{kind}"}), 415)
        assert "each frame" in problem["detail"]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_parts_of_a_form_that_do_not_suit_are_refused(client: TestClient, path: str) -> None:
    png = client.get("/gan/generate?seed=4").content
    boundary = {"content-type": "multipart/form-data; boundary=x"}
    alone = b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\na word\r\n--x--\r\n'
    for text in (
        client.post(path, files=[("images", png)], data={"images": "a word"}),
        client.post(path, content=alone, headers=boundary),
    ):
        (error,) = assert_problem(text, 422)["errors"]
        assert (error["pointer"], error["allowed"]) == ("/images", "files")
    assert (
        assert_problem(client.post(path, data={"images": "x"}, files=[("note", b"")]), 422)["errors"][0]["pointer"]
        == "/note"
    )
    if path == "/gan/invert":
        number = client.post(path, files=[("images", png), ("prior_weight", b"1")])
        (error,) = assert_problem(number, 422)["errors"]
        assert (error["pointer"], error["allowed"]) == ("/prior_weight", "text")
        sloppy = client.post(path, files=[("images", png)], data={"prior_weight": "1_0"})
        assert assert_problem(sloppy, 422)["errors"][0]["pointer"] == "/prior_weight"


def test_pictures_that_differ_in_size_or_claim_a_huge_one_are_told_what_is_allowed(client: TestClient) -> None:
    small = encode(np.zeros((28, 28), np.uint8), "png")
    mixed = client.post("/gan/discriminate", files=[("images", small), ("images", encode(LARGE, "png"))])
    assert assert_problem(mixed, 422)["errors"][0]["allowed"] == ["all 32 x 32", "all 28 x 28"]
    for side in (10_000, 30_000):
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        huge = PNG_SIGNATURE + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        huge += struct.pack(">I4s", 0, b"IDAT") + struct.pack(">I", zlib.crc32(b"IDAT"))
        problem = assert_problem(client.post("/gan/discriminate", files=[("images", huge)]), 422)
        assert problem["errors"][0]["allowed"] == ["32 x 32", "28 x 28"]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_compressed_pictures_are_refused_as_compressed_json_is(client: TestClient, path: str) -> None:
    for kind in ("image/png", "application/json", "application/vnd.example+json", "multipart/form-data; boundary=x"):
        headers = {"content-type": kind, "content-encoding": "gzip"}
        (error,) = assert_problem(client.post(path, content=b"x", headers=headers), 415)["errors"]
        assert (error["pointer"], error["allowed"]) == ("/Content-Encoding", ["identity"])
        assert "'gzip'" in error["detail"]
    png = encode(LARGE, "png")
    plain = client.post("/gan/discriminate", content=png, headers={"content-type": "image/png", "content-encoding": ""})
    assert plain.status_code == 200


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "application/vnd.example+json"]
)
def test_json_is_json_by_whatever_name_at_every_endpoint(client: TestClient, kind: str) -> None:
    for path, body in (
        ("/gan/generate", {"seed": 1}), ("/gan/discriminate", {"images": LARGE.tolist()}),
        ("/gan/invert", {"images": [[0]]}), ("/vae/kl", {}), ("/em/register", {}),
    ):  # fmt: skip
        response = client.post(path, content=json.dumps(body), headers={"content-type": kind})
        assert response.status_code == (200 if path in {"/gan/generate", "/gan/discriminate"} else 422)
