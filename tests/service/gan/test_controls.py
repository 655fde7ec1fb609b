"""Parameters of /gan/generate that choose latents or judge images: digit, digits, sampler, truncation, scores."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from tests.service.gan.conftest import levels
from tests.service.http import assert_problem


@pytest.mark.parametrize(
    "query",
    ["digit=3", "digits=2026", "sampler=rejection", "truncation=0.5", "digit=3&sampler=rejection&truncation=0.5"],
)
def test_the_latents_of_a_json_answer_reproduce_it(rich: TestClient, query: str) -> None:
    answer = rich.get(f"/gan/generate?seed=5&format=json&{query}").json()
    again = rich.post("/gan/generate", json={"latents": answer["latents"], "format": "json"}).json()
    for name in ("images", "latents", "probability", "class_probabilities", "digit"):
        assert again[name] == answer[name]
    assert len(answer["accepted"]) == len(answer["attempts"]) == answer["count"]


@pytest.mark.parametrize("query", ["digit=3", "sampler=rejection", "truncation=0.5"])
def test_image_i_is_the_same_for_every_count_and_method(rich: TestClient, query: str) -> None:
    many = rich.get(f"/gan/generate?seed=3&count=6&format=json&{query}").json()
    few = rich.get(f"/gan/generate?seed=3&count=2&format=json&{query}").json()
    assert few["images"] == many["images"][:2]
    assert few["attempts"] == many["attempts"][:2]
    fields = {name: value for name, _, value in (part.partition("=") for part in query.split("&"))}
    numbers = {name: value if name == "sampler" else float(value) for name, value in fields.items()}
    if "digit" in numbers:
        numbers["digit"] = 3
    posted = rich.post("/gan/generate", json={"seed": 3, "count": 2, "format": "json", **numbers}).json()
    assert posted == few


def test_digits_give_one_row_with_one_image_per_character(rich: TestClient) -> None:
    sheet = levels(rich.get("/gan/generate?seed=1&digits=2026").content)
    assert sheet.shape == (32, 128)
    assert levels(rich.get("/gan/generate?seed=1&digits=2026&columns=2").content).shape == (64, 64)
    alone = rich.get("/gan/generate?seed=1&count=3&digit=2&format=json").json()["images"]
    assert np.array_equal(sheet[:, 64:96], alone[2])
    assert levels(rich.post("/gan/generate", json={"seed": 1, "digits": "2026"}).content).shape == (32, 128)


def test_rejection_reports_the_number_of_tries(rich: TestClient) -> None:
    picture = rich.get("/gan/generate?seed=1&count=4&sampler=rejection")
    answer = rich.get("/gan/generate?seed=1&count=4&sampler=rejection&format=json").json()
    assert picture.headers["x-attempts"] == ",".join(map(str, answer["attempts"]))
    assert picture.headers["x-accepted"] == ",".join(str(kept).lower() for kept in answer["accepted"])
    assert "x-attempts" not in rich.get("/gan/generate?seed=1").headers


def test_the_count_of_accepted_images_includes_images_that_headers_do_not_list(rich: TestClient) -> None:
    query = "/gan/generate?seed=1&count=80&digit=3&sampler=rejection&truncation=0.01"
    answer = rich.get(query)
    accepted = rich.get(f"{query}&format=json").json()["accepted"]
    assert int(answer.headers["x-accepted-count"]) == sum(accepted)
    assert len(answer.headers["x-accepted"].split(",")) == 64


@pytest.mark.parametrize("form", ["png", "webp", "npy"])
def test_scores_are_optional_and_change_no_pixel(rich: TestClient, form: str) -> None:
    plain = rich.get(f"/gan/generate?seed=7&count=2&format={form}")
    scored = rich.get(f"/gan/generate?seed=7&count=2&format={form}&scores=true")
    answer = rich.get("/gan/generate?seed=7&count=2&format=json").json()
    assert not {"x-probability", "x-digit", "x-class-probability"} & set(plain.headers)
    assert [float(p) for p in scored.headers["x-probability"].split(",")] == pytest.approx(
        answer["probability"], rel=1e-5
    )
    assert [int(digit) for digit in scored.headers["x-digit"].split(",")] == answer["digit"]
    assert [float(p) for p in scored.headers["x-class-probability"].split(",")] == pytest.approx(
        np.max(answer["class_probabilities"], axis=1), rel=1e-5
    )
    assert np.argmax(answer["class_probabilities"], axis=1).tolist() == answer["digit"]
    assert plain.headers["etag"] != scored.headers["etag"]
    if form == "npy":
        assert plain.content == scored.content
    else:
        assert np.array_equal(levels(plain.content), levels(scored.content))


def test_a_scored_png_contains_the_parameters_that_reproduce_it(rich: TestClient) -> None:
    response = rich.get("/gan/generate?seed=7&digits=42&truncation=0.9&sampler=rejection&columns=1&scale=2&scores=true")
    text = Image.open(io.BytesIO(response.content)).info
    assert (text["seed"], text["digits"], text["truncation"], text["sampler"]) == ("7", "42", "0.9", "rejection")
    for name in ("probability", "class-probability", "attempts", "accepted"):
        assert text[name.replace("-", "_")] == response.headers[f"x-{name}"]
    assert text["class"] == response.headers["x-digit"]
    models = rich.get("/v2/models/gan").json()
    assert text["checkpoint"].startswith(models["versions"][0])
    fields = {name: text[name] for name in ("seed", "digits", "truncation", "sampler", "columns", "scale")}
    assert np.array_equal(levels(rich.get("/gan/generate", params=fields).content), levels(response.content))
    assert not Image.open(io.BytesIO(rich.get("/gan/generate?seed=7").content)).info
    threes = rich.get("/gan/generate?seed=7&digit=3&count=5&scores=true").content
    text = Image.open(io.BytesIO(threes)).info
    assert (text["digit"], text["count"]) == ("3", "5")


@pytest.mark.parametrize(
    ("query", "pointer", "allowed"),
    [
        ("digit=10", "/digit", "<= 9"),
        ("digit=-1", "/digit", ">= 0"),
        ("digits=", "/digits", "1 to 64 characters of 0 to 9"),
        ("digits=12a", "/digits", "1 to 64 characters of 0 to 9"),
        ("digits=" + "1" * 65, "/digits", "1 to 64 characters of 0 to 9"),
        ("digits=12&digit=1", "/digits", "digits or digit"),
        ("digits=12&count=2", "/digits", "digits or count"),
        ("truncation=0", "/truncation", "> 0.0"),
        ("truncation=1.1", "/truncation", "<= 1.0"),
        ("truncation=nan", "/truncation", "a finite number"),
        ("sampler=best", "/sampler", ["plain", "rejection"]),
        ("scores=yes", "/scores", ["true", "false"]),
    ],
)
def test_an_invalid_control_is_a_422_with_the_allowed_values(
    rich: TestClient, query: str, pointer: str, allowed: object
) -> None:
    (error,) = assert_problem(rich.get(f"/gan/generate?seed=1&{query}"), 422)["errors"]
    assert (error["pointer"], error["allowed"]) == (pointer, allowed)


def test_digits_given_as_a_number_are_refused(rich: TestClient) -> None:
    (error,) = rich.post("/gan/generate", json={"digits": 2026}).json()["errors"]
    assert (error["pointer"], error["allowed"]) == ("/digits", 'a string, as "2026"')


@pytest.mark.parametrize(
    "field", [{"digit": 1}, {"digits": "12"}, {"truncation": 0.5}, {"sampler": "rejection"}, {"count": 1}, {"seed": 1}]
)
def test_latents_exclude_all_controls(rich: TestClient, field: dict[str, object]) -> None:
    problem = assert_problem(rich.post("/gan/generate", json={"latents": [[0.0] * 128], **field}), 422)
    assert problem["errors"][0]["allowed"] == f"latents or {next(iter(field))}"


@pytest.mark.parametrize("query", ["digit=3", "digits=34", "sampler=rejection"])
def test_without_companions_choices_are_refused(client: TestClient, query: str) -> None:
    problem = assert_problem(client.get(f"/gan/generate?seed=1&{query}"), 422)
    assert "needs companions" in problem["detail"]
    assert problem["errors"][0]["pointer"] == "/" + query.partition("=")[0]
    assert_problem(client.get("/gan/interpolate?seeds=1,2&digit=3"), 422)
    answer = client.get("/gan/generate?seed=1&format=json").json()
    assert answer["class_probabilities"] is answer["digit"] is None
    scored = client.get("/gan/generate?seed=1&scores=true")
    assert "x-probability" in scored.headers
    assert "x-digit" not in scored.headers
