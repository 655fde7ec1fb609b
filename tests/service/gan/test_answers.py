"""Answers: their digits, and their pictures, arrays and JSON."""

from __future__ import annotations

import io

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.formats.images import decode, grid
from service.gan import sampling
from service.gan.answers import classes
from service.gan.jobs import Result

IMAGES = np.zeros((3, 32, 32), np.uint8)


def test_the_digit_is_the_most_likely_one_and_on_a_tie_the_smaller_one() -> None:
    by_class = np.zeros((3, 10), np.float32)
    by_class[0, 7] = 1
    by_class[1, [4, 6]] = 0.5
    by_class[2] = 0.1
    assert np.array_equal(classes(Result(IMAGES, class_probabilities=by_class))["digit"], [7, 4, 0])  # type: ignore[arg-type]


def test_json_of_many_images_is_that_of_each(client: TestClient) -> None:
    count = 80
    many = client.get(f"/gan/generate?seed=7&count={count}&format=json").json()
    few = client.get("/gan/generate?seed=7&count=2&format=json").json()
    levels = np.load(io.BytesIO(client.get(f"/gan/generate?seed=7&count={count}&format=npy").content))
    assert np.array_equal(many["images"], levels)
    assert many["latents"][:2] == few["latents"]
    assert np.array_equal(np.float32(many["latents"]), sampling.latents(7, count))


@pytest.mark.parametrize("query", ["count=64", "count=65", "count=4&scale=4", "count=4&scale=5", "count=5&columns=2"])
def test_a_picture_has_the_levels_of_its_images_whichever_thread_encodes_it(client: TestClient, query: str) -> None:
    """The limit of the pictures that are encoded with their batch lies between these sizes."""
    fields = dict(field.split("=") for field in query.split("&"))
    count, scale = int(fields["count"]), int(fields.get("scale", 1))
    levels = np.load(io.BytesIO(client.get(f"/gan/generate?seed=3&count={count}&format=npy").content))
    sheet = grid(levels, int(fields["columns"]) if "columns" in fields else None)
    for kind in ("png", "webp"):
        picture = client.get(f"/gan/generate?seed=3&{query}&format={kind}").content
        assert np.array_equal(decode(picture, 2**20), sheet.repeat(scale, 0).repeat(scale, 1))


def test_without_class_probabilities_there_is_no_digit() -> None:
    assert classes(Result(IMAGES)) == {"class_probabilities": None, "digit": None}
