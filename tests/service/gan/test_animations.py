"""/gan/interpolate over HTTP."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence
from starlette.testclient import TestClient

from tests.service.gan.conftest import levels
from tests.service.http import assert_problem


@pytest.mark.parametrize("kind", ["gif", "webp", "apng"])
@pytest.mark.parametrize("loop", ["true", "false"])
def test_an_animation_contains_the_pictures_of_its_seeds(rich: TestClient, kind: str, loop: str) -> None:
    response = rich.get(
        f"/gan/interpolate?seeds=1,2,3&frames=4&loop={loop}&format={kind}&fps=10&scale=2&truncation=0.9"
    )
    assert response.headers["content-type"] == f"image/{kind}"
    assert response.headers["cache-control"] == "no-cache"
    animation = Image.open(io.BytesIO(response.content))
    assert len(list(ImageSequence.Iterator(animation))) == (12 if loop == "true" else 9)
    assert animation.size == (64, 64)
    for place, seed in ((0, 1), (4, 2), (8, 3)):
        animation.seek(place)
        animation.load()
        still = levels(rich.get(f"/gan/generate?seed={seed}&scale=2&truncation=0.9").content)
        assert np.array_equal(np.asarray(animation.convert("L")), still)
        assert animation.info["duration"] == 100
    etag = {"if-none-match": response.headers["etag"]}
    assert rich.get(str(response.url), headers=etag).status_code == 304


def test_an_animation_of_a_digit_reports_the_choices_of_its_key_images(hopeless: TestClient) -> None:
    stills = [hopeless.get(f"/gan/generate?seed={seed}&digit=1").headers for seed in (1, 2)]
    animation = hopeless.get("/gan/interpolate?seeds=1,2&frames=2&digit=1").headers
    for name in ("x-attempts", "x-accepted"):
        assert animation[name] == ",".join(still[name] for still in stills)
    assert animation["x-accepted"] == "false,false"
    assert "x-attempts" not in hopeless.get("/gan/interpolate?seeds=1,2&frames=2").headers


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("", "/seeds"), ("seeds=1", "/seeds"), ("seeds=1,", "/seeds"), ("seeds=1,x", "/seeds"), ("seeds=1,1", "/seeds"),
        ("seeds=1,-2", "/seeds"), ("seeds=1,9223372036854775808", "/seeds"),
        ("seeds=" + ",".join(map(str, range(17))), "/seeds"),
        ("seeds=1,2&frames=0", "/frames"), ("seeds=1,2&frames=121", "/frames"), ("seeds=1,2&fps=0.5", "/fps"),
        ("seeds=1,2&frames=120&scale=8&seeds=", "/seeds"), ("seeds=1,2,3&frames=120&scale=8", "/frames"),
        ("seeds=1,2&format=png", "/format"), ("seeds=1,2&loop=1", "/loop"), ("seeds=1,2&digit=10", "/digit"),
        ("seeds=1,2&truncation=0", "/truncation"),
    ],
)  # fmt: skip
def test_an_invalid_animation_is_a_422_with_a_pointer(rich: TestClient, query: str, pointer: str) -> None:
    assert assert_problem(rich.get(f"/gan/interpolate?{query}"), 422)["errors"][0]["pointer"] == pointer


def test_an_animation_longer_than_600_seconds_is_refused(client: TestClient) -> None:
    query = "seeds=1,2,3,4,5,6&frames=110&fps=1&truncation=1e-6"
    (error,) = assert_problem(client.get(f"/gan/interpolate?{query}"), 422)["errors"]
    assert error["pointer"] == "/frames"
    assert error["allowed"] == "at most 600 seconds"
    assert client.get(f"/gan/interpolate?{query.replace('110', '100')}").status_code == 200
