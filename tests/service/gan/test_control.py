"""The controls over HTTP: digits, numbers, truncation, rejection, scores, animations, inversions, and refusals."""

from __future__ import annotations

import io
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from starlette.testclient import TestClient

from service.errors import WorkerFailed
from service.gan.inversion import Inversion, Inverter
from service.gan.jobs import Job
from service.gan.networks import LATENT_DIM
from tests.service.test_app import assert_problem


def wait_until_idle(client: TestClient, lane: str, seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while client.app.state.gan.lanes[lane].running_seconds > 0:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def hopeless(rich: TestClient, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """`rich`, whose latents pass for no digit: every choice of one looks at 2,048."""
    worker = rich.app.state.gan.lanes["gan"]._worker  # type: ignore[attr-defined]
    monkeypatch.setattr(worker, "_companions", worker._companions._replace(thresholds=(2.0,) * 10))
    return rich


def levels(content: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize(
    "query",
    ["digit=3", "digits=2026", "sampler=rejection", "truncation=0.5", "digit=3&sampler=rejection&truncation=0.5"],
)
def test_what_json_answers_can_be_posted_back(rich: TestClient, query: str) -> None:
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


def test_a_number_is_one_row_of_one_image_for_each_character(rich: TestClient) -> None:
    sheet = levels(rich.get("/gan/generate?seed=1&digits=2026").content)
    assert sheet.shape == (32, 128)
    assert levels(rich.get("/gan/generate?seed=1&digits=2026&columns=2").content).shape == (64, 64)
    alone = rich.get("/gan/generate?seed=1&count=3&digit=2&format=json").json()["images"]
    assert np.array_equal(sheet[:, 64:96], alone[2])
    assert levels(rich.post("/gan/generate", json={"seed": 1, "digits": "2026"}).content).shape == (32, 128)


def test_rejection_says_how_many_it_tried(rich: TestClient) -> None:
    picture = rich.get("/gan/generate?seed=1&count=4&sampler=rejection")
    answer = rich.get("/gan/generate?seed=1&count=4&sampler=rejection&format=json").json()
    assert picture.headers["x-attempts"] == ",".join(map(str, answer["attempts"]))
    assert picture.headers["x-accepted"] == ",".join(str(kept).lower() for kept in answer["accepted"])
    assert "x-attempts" not in rich.get("/gan/generate?seed=1").headers


@pytest.mark.parametrize("form", ["png", "webp", "npy"])
def test_scores_come_on_request_and_change_no_pixel(rich: TestClient, form: str) -> None:
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


def test_a_scored_png_says_how_to_make_it_again(rich: TestClient) -> None:
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


def test_discriminate_names_the_digit_as_generate_does(rich: TestClient) -> None:
    answer = rich.get("/gan/generate?seed=5&count=3&format=json").json()
    judged = rich.post("/gan/discriminate", json={"images": answer["images"]}).json()
    assert judged == {name: answer[name] for name in ("probability", "class_probabilities", "digit")}


def test_etags_tell_the_controls_apart(rich: TestClient) -> None:
    queries = ["", "&digit=1", "&digits=1", "&sampler=rejection", "&truncation=0.5", "&scores=true"]
    assert len({rich.get(f"/gan/generate?seed=7{query}").headers["etag"] for query in queries}) == len(queries)


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
def test_a_bad_control_is_a_422_that_says_what_is_allowed(
    rich: TestClient, query: str, pointer: str, allowed: object
) -> None:
    (error,) = assert_problem(rich.get(f"/gan/generate?seed=1&{query}"), 422)["errors"]
    assert (error["pointer"], error["allowed"]) == (pointer, allowed)


@pytest.mark.parametrize(
    "field", [{"digit": 1}, {"digits": "12"}, {"truncation": 0.5}, {"sampler": "rejection"}, {"count": 1}, {"seed": 1}]
)
def test_latents_leave_nothing_to_choose(rich: TestClient, field: dict[str, object]) -> None:
    problem = assert_problem(rich.post("/gan/generate", json={"latents": [[0.0] * 128], **field}), 422)
    assert problem["errors"][0]["allowed"] == f"latents or {next(iter(field))}"


@pytest.mark.parametrize("query", ["digit=3", "digits=34", "sampler=rejection"])
def test_without_companions_it_says_so(client: TestClient, query: str) -> None:
    problem = assert_problem(client.get(f"/gan/generate?seed=1&{query}"), 422)
    assert "no companions" in problem["detail"]
    assert problem["errors"][0]["pointer"] == "/" + query.partition("=")[0]
    assert_problem(client.get("/gan/interpolate?seeds=1,2&digit=3"), 422)
    answer = client.get("/gan/generate?seed=1&format=json").json()
    assert answer["class_probabilities"] is answer["digit"] is None
    scored = client.get("/gan/generate?seed=1&scores=true")
    assert "x-probability" in scored.headers
    assert "x-digit" not in scored.headers


@pytest.mark.parametrize("kind", ["gif", "webp", "apng"])
@pytest.mark.parametrize("loop", ["true", "false"])
def test_an_animation_goes_through_the_pictures_of_its_seeds(rich: TestClient, kind: str, loop: str) -> None:
    response = rich.get(
        f"/gan/interpolate?seeds=1,2,3&frames=4&loop={loop}&format={kind}&fps=10&scale=2&truncation=0.9"
    )
    assert response.headers["content-type"] == f"image/{kind}"
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
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
def test_a_bad_animation_is_a_422_that_points(rich: TestClient, query: str, pointer: str) -> None:
    assert assert_problem(rich.get(f"/gan/interpolate?{query}"), 422)["errors"][0]["pointer"] == pointer


def test_an_animation_of_a_digit_says_how_its_key_images_were_chosen(hopeless: TestClient) -> None:
    stills = [hopeless.get(f"/gan/generate?seed={seed}&digit=1").headers for seed in (1, 2)]
    animation = hopeless.get("/gan/interpolate?seeds=1,2&frames=2&digit=1").headers
    for name in ("x-attempts", "x-accepted"):
        assert animation[name] == ",".join(still[name] for still in stills)
    assert animation["x-accepted"] == "false,false"
    assert "x-attempts" not in hopeless.get("/gan/interpolate?seeds=1,2&frames=2").headers


def test_the_number_of_accepted_images_counts_also_those_that_headers_do_not_list(rich: TestClient) -> None:
    query = "/gan/generate?seed=1&count=80&digit=3&sampler=rejection&truncation=0.01"
    answer = rich.get(query)
    accepted = rich.get(f"{query}&format=json").json()["accepted"]
    assert int(answer.headers["x-accepted-count"]) == sum(accepted)
    assert len(answer.headers["x-accepted"].split(",")) == 64


def test_digits_that_are_a_number_are_told_to_be_a_string(rich: TestClient) -> None:
    (error,) = rich.post("/gan/generate", json={"digits": 2026}).json()["errors"]
    assert (error["pointer"], error["allowed"]) == ("/digits", 'a string, as "2026"')


def test_words_for_booleans_are_read_in_any_case(rich: TestClient) -> None:
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


def test_an_image_is_inverted_alike_however_it_is_sent(rich: TestClient) -> None:
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


def test_inversions_are_bounded(rich: TestClient) -> None:
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


def test_an_inversion_that_nobody_waits_for_ends(rich: TestClient) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 28, 28)).tolist()
    late = rich.post("/gan/invert", json={"images": noise}, headers={"X-Timeout-Seconds": "0.5"})
    assert_problem(late, 504)
    wait_until_idle(rich, "gan-inversions")  # all of it would take a minute


@pytest.mark.parametrize("query", ["digit=1", "digit=1&sampler=rejection"])
def test_a_choice_that_nobody_waits_for_ends(hopeless: TestClient, query: str) -> None:
    late = hopeless.get(f"/gan/generate?count=1024&{query}", headers={"X-Timeout-Seconds": "0.3"})
    assert_problem(late, 504)
    wait_until_idle(hopeless, "gan-large")  # all of it would take half a minute


def test_inversions_take_turns_image_by_image(rich: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> Inversion:
        time.sleep(0.1)
        return Inversion(torch.zeros(LATENT_DIM), 0.0, 1, True)

    monkeypatch.setattr(Inverter, "invert", slow)
    ends: list[str] = []

    def send(name: str, images: int) -> None:
        rich.post("/gan/invert", json={"images": np.zeros((images, 28, 28), int).tolist()}).raise_for_status()
        ends.append(name)

    many, one = (threading.Thread(target=send, args=args) for args in (("many", 16), ("one", 1)))
    many.start()
    while not rich.app.state.gan.lanes["gan-inversions"].running_seconds:  # type: ignore[attr-defined]
        time.sleep(0.001)
    one.start()
    for thread in (many, one):
        thread.join(120)
    assert ends == ["one", "many"]


def test_plain_pictures_and_choices_and_animations_and_inversions_do_not_wait_for_one_another(
    rich: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def stand_still(jobs: list[Job]) -> list[Exception]:
        release.wait(60)
        return [WorkerFailed("it stood still") for _ in jobs]

    lanes = rich.app.state.gan.lanes  # type: ignore[attr-defined]
    for name in ("gan-large", "gan-inversions"):
        monkeypatch.setattr(lanes[name], "_worker", stand_still)
    image = np.zeros((28, 28), int).tolist()
    stuck = [
        threading.Thread(target=rich.get, args=("/gan/generate?count=64&digit=1",)),
        threading.Thread(target=rich.post, args=("/gan/invert",), kwargs={"json": {"images": image}}),
    ]
    try:
        for thread in stuck:
            thread.start()
        for path in ("generate?seed=1", "generate?seed=1&digit=3", "interpolate?seeds=1,2", "generate?count=1024"):
            assert rich.get(f"/gan/{path}", headers={"X-Timeout-Seconds": "20"}).status_code == 200
        monkeypatch.setattr(lanes["gan-choices"], "_worker", stand_still)
        stuck.append(threading.Thread(target=rich.get, args=("/gan/generate?seed=1&digit=3",)))
        stuck[-1].start()
        assert rich.get("/gan/generate?seed=2", headers={"X-Timeout-Seconds": "20"}).status_code == 200
    finally:
        release.set()
        for thread in stuck:
            thread.join(60)


def test_an_animation_that_would_outlast_a_gif_is_refused(client: TestClient) -> None:
    query = "seeds=1,2,3,4,5,6&frames=110&fps=1&truncation=1e-6"
    (error,) = assert_problem(client.get(f"/gan/interpolate?{query}"), 422)["errors"]
    assert error["pointer"] == "/frames"
    assert error["allowed"] == "at most 600 seconds"
    assert client.get(f"/gan/interpolate?{query.replace('110', '100')}").status_code == 200
