"""Uploaded images over HTTP: the forms of uploads, and the bodies that are refused."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.formats.images import animate, encode
from service.formats.json_numbers.reading import LARGE_BYTES
from service.formats.png import SIGNATURE
from tests.service.gan.conftest import levels
from tests.service.http import assert_problem

LARGE = np.zeros((32, 32), np.uint8)
ENDPOINTS = ["/gan/discriminate", "/gan/invert"]


def animation(kind: str) -> bytes:
    return animate(np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8), kind, 10)


def test_uploads_arrays_and_raw_pictures_get_the_same_scores(client: TestClient) -> None:
    png = client.get("/gan/generate?seed=4").content
    other = client.get("/gan/generate?seed=5&format=webp").content
    expected = client.post("/gan/discriminate", json={"images": levels(png).tolist()}).json()["probability"]
    raw = client.post("/gan/discriminate", content=png, headers={"content-type": "image/png"})
    form = client.post("/gan/discriminate", files=[("images", png), ("images", other)])
    assert raw.json()["probability"] == expected
    assert form.json()["probability"][:1] == expected
    assert len(form.json()["probability"]) == 2


def test_discriminate_names_the_digit_as_generate_does(rich: TestClient) -> None:
    answer = rich.get("/gan/generate?seed=5&count=3&format=json").json()
    judged = rich.post("/gan/discriminate", json={"images": answer["images"]}).json()
    assert judged == {name: answer[name] for name in ("probability", "class_probabilities", "digit")} | {"warnings": []}


def test_damaged_pictures_and_other_sizes_are_refused(client: TestClient) -> None:
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


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize(("kind", "allowed"), [("apng", "one frame"), ("webp", "one frame"), ("gif", "PNG or WebP")])
def test_an_animated_upload_is_refused_with_the_cure(client: TestClient, path: str, kind: str, allowed: str) -> None:
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
def test_unsuitable_parts_of_a_form_are_refused(client: TestClient, path: str) -> None:
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
        endless = client.post(path, files=[("images", png)], data={"prior_weight": "1" * (LARGE_BYTES + 1)})
        assert assert_problem(endless, 413)["errors"][0]["pointer"] == "/prior_weight"


def test_mixed_and_huge_sizes_are_refused_with_the_allowed_sizes(client: TestClient) -> None:
    small = encode(np.zeros((28, 28), np.uint8), "png")
    mixed = client.post("/gan/discriminate", files=[("images", small), ("images", encode(LARGE, "png"))])
    assert assert_problem(mixed, 422)["errors"][0]["allowed"] == ["all 32 x 32", "all 28 x 28"]
    for side in (10_000, 30_000):
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        huge = SIGNATURE + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        huge += struct.pack(">I4s", 0, b"IDAT") + struct.pack(">I", zlib.crc32(b"IDAT"))
        problem = assert_problem(client.post("/gan/discriminate", files=[("images", huge)]), 422)
        assert problem["errors"][0]["allowed"] == ["32 x 32", "28 x 28"]


def test_arrays_of_two_sizes_are_refused_with_both_sizes(client: TestClient) -> None:
    images = [[[0] * 28] * 28, [[0] * 32] * 32]
    (error,) = assert_problem(client.post("/gan/discriminate", json={"images": images}), 422)["errors"]
    assert error["pointer"] == "/images"
    assert "1 is 32 x 32" in error["detail"]
    assert "0 is 28 x 28" in error["detail"]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_compressed_pictures_are_refused_like_compressed_json(client: TestClient, path: str) -> None:
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
def test_every_endpoint_reads_all_media_types_of_json(client: TestClient, kind: str) -> None:
    for path, body in (
        ("/gan/generate", {"seed": 1}), ("/gan/discriminate", {"images": LARGE.tolist()}),
        ("/gan/invert", {"images": [[0]]}), ("/vae/kl", {}), ("/em/register", {}),
    ):  # fmt: skip
        response = client.post(path, content=json.dumps(body), headers={"content-type": kind})
        assert response.status_code == (200 if path in {"/gan/generate", "/gan/discriminate"} else 422)


def test_an_inversion_does_not_depend_on_how_the_image_is_sent(rich: TestClient) -> None:
    png = rich.get("/gan/generate?seed=4").content
    answer = rich.post("/gan/invert", json={"images": levels(png).tolist(), "prior_weight": 50}).json()
    form = rich.post("/gan/invert", files=[("images", png)], data={"prior_weight": "50"}).json()
    assert form == answer
    raw = rich.post("/gan/invert", content=png, headers={"content-type": "image/png"}).json()
    assert raw.keys() == answer.keys()
    drawn = rich.post("/gan/generate", json={"latents": answer["latents"], "format": "json"}).json()
    assert drawn["images"] == answer["reconstructions"]
    difference = np.subtract(answer["reconstructions"][0], levels(png).astype(float))
    assert answer["residual"][0] == pytest.approx(np.sqrt(np.square(difference).mean()), abs=0.5)


def test_invalid_inversions_are_refused(rich: TestClient) -> None:
    image = np.zeros((28, 28), int).tolist()
    for body, pointer in (
        ({"images": [image] * 17}, "/images"),
        ({"images": [[[0] * 31] * 31]}, "/images"),
        ({"images": image, "prior_weight": -1}, "/prior_weight"),
        ({"images": image, "prior_weight": "1"}, "/prior_weight"),
        ({"images": image, "steps": 3}, "/steps"),
    ):
        assert assert_problem(rich.post("/gan/invert", json=body), 422)["errors"][0]["pointer"] == pointer
    png = rich.get("/gan/generate?seed=4").content
    for files, data, pointer in (
        ([("images", png)] * 17, {}, "/images"),
        ([("images", png)], {"prior_weight": "x"}, "/prior_weight"),
        ([("images", png)], {"steps": "3"}, "/steps"),
        ([("prior_weight", png)], {}, "/images"),
    ):
        problem = assert_problem(rich.post("/gan/invert", files=files, data=data), 422)
        assert problem["errors"][0]["pointer"] == pointer
    assert_problem(rich.post("/gan/invert", content=b"x", headers={"content-type": "text/plain"}), 415)
