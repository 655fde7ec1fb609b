"""The form of an answer: the choice by Accept, the bodies, and the headers of files and pictures."""

from __future__ import annotations

import io
import json
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from service.em.iterations import Iterations
from service.em.representations import MEDIA_TYPES, Representation, encode, headers, negotiate
from service.errors import InvalidInput, NotAcceptable
from service.formats.clouds.reading import read_cloud

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_every_form_is_selected_by_its_media_type(media_type: str) -> None:
    for accept in (media_type, media_type.upper(), f"{media_type};q=0.1", f'{media_type}; a="x,y" ;q=1'):
        assert negotiate(accept) == Representation(media_type, MEDIA_TYPES[media_type])


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "json"),
        ("", "json"),
        ("*/*", "json"),
        ("application/*", "json"),
        ("application/json, text/plain, */*", "json"),
        (CHROME, "json"),
        ("image/*", "png"),
        ("model/*", "ply"),
        ("text/*", "csv"),
        ("image/png, */*", "png"),
        ("image/gif;q=0.9, image/png;q=0.8", "gif"),
        ("image/*;q=0.5, application/json;q=0.4", "png"),
        ("application/json;q=0, */*", "ply"),
        ("image/*, image/png;q=0", "gif"),
        ("text/*;q=0.3, text/plain", "xyz"),
        ("text/plain;q=0.2, text/*;q=0.9", "csv"),
        ("text/html, image/png;q=0.001", "png"),
        ("image/png;Q=0.7 , image/gif ; q=0.701", "gif"),
        ('text/x; a="image/png, b", image/gif', "gif"),
        ("nonsense, ;, /, image/png;q=5, image/gif", "gif"),
    ],
)
def test_the_best_form_is_that_of_rfc_9110(accept: str | None, kind: str) -> None:
    assert negotiate(accept).kind == kind


@pytest.mark.parametrize("accept", ["text/html", "image/webp", "*/*;q=0", "image/png;q=0", "nonsense", "x" * 10_000])
def test_an_accept_that_excludes_every_form_is_not_acceptable(accept: str) -> None:
    with pytest.raises(NotAcceptable) as caught:
        negotiate(accept)
    assert caught.value.allowed == list(MEDIA_TYPES)
    assert len(caught.value.detail) < 400


@pytest.mark.parametrize("accept", ["," * 60_000, '"' * 60_000, ';"\\' * 20_000, "a/b;" * 20_000, "image/png," * 6_000])
def test_long_headers_take_little_time(accept: str) -> None:
    with suppress(NotAcceptable):
        assert negotiate(accept).kind == "png"


def test_bodies_are_the_registered_cloud_or_a_picture_of_it() -> None:
    source = np.arange(12.0).reshape(4, 3)
    target, registered = source + 1, source + 0.9
    for media_type, kind in MEDIA_TYPES.items():
        if kind in {"json", "npz"}:
            continue
        body = encode(Representation(media_type, kind), source, target, registered, [source, registered])
        if media_type.startswith("image/"):
            with Image.open(io.BytesIO(body)) as picture:
                assert picture.format == kind.upper()
        else:
            assert np.array_equal(read_cloud(body, f"a.{kind}").points, registered)


@pytest.mark.parametrize("media_type", ["text/csv", "application/x-npy", "image/png", "image/gif"])
def test_a_registered_cloud_that_overflows_is_refused(media_type: str) -> None:
    good, bad = np.zeros((2, 2)), np.array([[0.0, np.inf], [0.0, 0.0]])
    with pytest.raises(InvalidInput, match="scale the clouds down"):
        encode(Representation(media_type, MEDIA_TYPES[media_type]), good, good, bad)


def test_formats_for_three_coordinates_refuse_more_before_the_computation() -> None:
    for media_type, kind in MEDIA_TYPES.items():
        form = Representation(media_type, kind)
        form.check_dimension(3)
        if kind in {"ply", "pcd"}:
            with pytest.raises(NotAcceptable, match="at most 3"):
                form.check_dimension(4)
        else:
            form.check_dimension(4)


def test_small_results_are_in_headers_and_parse_exactly() -> None:
    matrix = np.array([[1 / 3, 5e-324], [0, 1]])
    found = headers({"matrix": matrix, "log_likelihood": -1 / 3})
    assert json.loads(found["X-Transform"]) == matrix.tolist()
    assert float(found["X-Log-Likelihood"]) == -1 / 3
    assert headers({"matrix": None, "log_likelihood": None}) == {}
    assert headers({"matrix": np.eye(9), "log_likelihood": None}) == {}
    warned = {"matrix": None, "log_likelihood": None, "warnings": ("x [µm]",)}
    assert json.loads(headers(warned)["X-Warnings"]) == ["x [µm]"]
    assert headers(warned)["X-Warnings"].isascii()
    assert len(headers(warned | {"warnings": ("x" * 5000,)})["X-Warnings"]) < 5000


def test_frames_are_the_source_moved_by_each_transform() -> None:
    rng = np.random.default_rng(0)
    source, linear, translations = rng.normal(size=(5, 2)), rng.normal(size=(4, 2, 2)), rng.normal(size=(4, 2))
    frames, shifts = Iterations(source, translations, linear), Iterations(source, translations)
    assert len(frames) == len(shifts) == 4
    for k in range(4):
        assert np.allclose(frames[k], [linear[k] @ point + translations[k] for point in source])
        assert np.allclose(shifts[k], source + translations[k])
