"""Registration over HTTP: clouds as files, answers as files and pictures, and every transform and choice."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from service.em.representations import MEDIA_TYPES
from service.formats.clouds.reading import read_cloud
from service.formats.clouds.writing import WRITERS, Format, write_cloud
from tests.problems.clouds import posed, sliced
from tests.service.em.test_poses import square
from tests.service.http import assert_problem

INSTANCE = posed(40, sigma=0.005, seed=1)
SOURCE, TARGET = INSTANCE.source, INSTANCE.target
GOOD: dict[str, Any] = {"source": SOURCE.tolist(), "target": TARGET.tolist()}
RIGID = GOOD | {"transform": "rigid"}
KINDS = ["translation", "rigid", "similarity", "affine", "nonrigid"]


def files(kind: Format, other: Format | None = None) -> dict[str, tuple[str, bytes]]:
    return {
        "source": (f"a.{kind}", write_cloud(SOURCE, kind)),
        "target": (f"b.{other or kind}", write_cloud(TARGET, other or kind)),
    }


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_of_any_format_is_answered_as_the_same_numbers_in_json(client: TestClient, kind: Format) -> None:
    form = client.post("/em/register", files=files(kind, "npy"), data={"transform": "rigid", "include": "trace"})
    assert form.status_code == 200
    assert form.content == client.post("/em/register", json=RIGID | {"include": ["trace"]}).content


def test_a_form_takes_every_option_as_text(client: TestClient) -> None:
    options = {
        "transform": "similarity", "sigma": "0.01", "outlier_weight": "0.1", "normalize": "rows", "prior": "mixing",
        "init": '{"rotation": [[1,0,0],[0,1,0],[0,0,1]], "scale": 0.9}', "matching": "one_to_one", "refine": "true",
        "max_iterations": "30", "tolerance": "1e-5", "include": "registered,trace",
    }  # fmt: skip
    body = GOOD | {
        "transform": "similarity", "sigma": 0.01, "outlier_weight": 0.1, "normalize": "rows", "prior": "mixing",
        "init": {"rotation": np.eye(3).tolist(), "scale": 0.9}, "matching": "one_to_one", "refine": True,
        "max_iterations": 30, "tolerance": 1e-5, "include": ["registered", "trace"],
    }  # fmt: skip
    form = client.post("/em/register", files=files("ply"), data=options)
    assert form.status_code == 200
    assert form.content == client.post("/em/register", json=body).content


@pytest.mark.parametrize("media_type", [name for name, kind in MEDIA_TYPES.items() if kind in WRITERS])
def test_the_registered_cloud_comes_back_as_a_file(client: TestClient, media_type: str) -> None:
    plain = client.post("/em/register", json=RIGID | {"include": ["registered"]})
    response = client.post("/em/register", json=RIGID, headers={"Accept": media_type})
    assert response.headers["Content-Type"].startswith(media_type)
    assert response.headers["Vary"] == plain.headers["Vary"] == "Accept"
    cloud = read_cloud(response.content, f"a.{MEDIA_TYPES[media_type]}").points
    assert np.array_equal(cloud, np.array(plain.json()["registered"]))


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_drawn_of_every_transform(client: TestClient, kind: str) -> None:
    for accept, name in (("image/png", "PNG"), ("image/gif", "GIF")):
        response = client.post("/em/register", json=GOOD | {"transform": kind}, headers={"Accept": accept})
        assert response.status_code == 200
        assert response.headers["Content-Type"] == accept
        with Image.open(io.BytesIO(response.content)) as picture:
            picture.load()
            assert picture.format == name
            if name == "GIF":
                assert getattr(picture, "n_frames", 1) > 1


def test_an_unsupported_accept_is_406_before_the_body_is_read(client: TestClient) -> None:
    for accept in ("text/html", "image/webp", "application/json;q=0"):
        problem = client.post("/em/register", content=b"no json at all", headers={"Accept": accept})
        if accept == "application/json;q=0":
            assert problem.status_code == 406
        else:
            assert assert_problem(problem, 406)["errors"][0]["allowed"] == list(MEDIA_TYPES)
    flat = {"source": [[0.0] * 4, [1.0] * 4], "target": [[0.0] * 4, [1.0] * 4]}
    assert_problem(client.post("/em/register", json=flat, headers={"Accept": "model/ply"}), 406)


@pytest.mark.parametrize("kind", KINDS)
def test_the_fields_of_every_transform_agree_with_one_another(client: TestClient, kind: str) -> None:
    body = GOOD | {"transform": kind, "include": ["registered", "trace"]}
    answer = client.post("/em/register", json=body).json()
    matrix = np.array(answer["matrix"])
    assert matrix[-1].tolist() == [0, 0, 0, 1]
    assert matrix[:-1, -1].tolist() == answer["translation"]
    if kind == "affine":
        assert answer["rotation"] is None
        assert answer["scale"] is None
    else:
        rotation = np.array(answer["rotation"])
        assert rotation.T @ rotation == pytest.approx(np.eye(3), abs=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
        assert answer["scale"] * rotation == pytest.approx(matrix[:3, :3], abs=1e-14)
    moved = SOURCE @ matrix[:3, :3].T + matrix[:3, 3] + np.array(answer.get("displacement", 0.0))
    assert np.array(answer["registered"]) == pytest.approx(moved, abs=1e-13)
    assert ("displacement" in answer) == (kind == "nonrigid")
    assert (answer["rotation_covariance"] is not None) == (kind in {"rigid", "similarity"})
    assert (answer["outlier_probability"] is None) == (kind == "translation")
    trace = answer["trace"]
    assert len(trace["log_likelihood"]) == len(trace["sigma"]) == len(trace["translation"])
    assert trace["translation"][-1] == pytest.approx(answer["translation"])
    assert (trace["linear"] is None) == (kind == "translation")
    if kind != "translation":
        assert answer["matching"] == INSTANCE.partner.tolist()


def test_a_start_is_given_in_three_ways(client: TestClient) -> None:
    A, T = INSTANCE.pose.linear, INSTANCE.pose.translation
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = A, T
    ways = [{"matrix": matrix.tolist()}, {"rotation": A.tolist(), "translation": T.tolist()}]
    answers = [client.post("/em/register", json=RIGID | {"init": way}) for way in ways]
    assert answers[0].content == answers[1].content
    assert answers[0].json()["start"] == "given"
    near = {"source": (SOURCE @ A.T).tolist(), "target": TARGET.tolist(), "transform": "rigid"}
    shifts = [
        client.post("/em/register", json=near | {"init": way}) for way in (T.tolist(), {"translation": T.tolist()})
    ]
    assert shifts[0].content == shifts[1].content
    assert np.array(shifts[0].json()["translation"]) == pytest.approx(T, abs=0.02)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"transform": "rigid", "init": {"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, -1]]}}, "/init"),
        ({"transform": "rigid", "init": {"rotation": [[2, 0, 0], [0, 2, 0], [0, 0, 2]]}}, "/init"),
        ({"transform": "rigid", "init": {"scale": 2.0}}, "/init"),
        ({"transform": "rigid", "init": {"rotation": [[1, 0], [0, 1]]}}, "/init/rotation"),
        ({"transform": "rigid", "init": {"matrix": np.eye(4).tolist(), "scale": 2.0}}, "/init/matrix"),
        ({"transform": "rigid", "init": {"matrix": np.ones((4, 4)).tolist()}}, "/init/matrix"),
        ({"transform": "rigid", "init": {"quaternion": [1, 0, 0, 0]}}, "/init/quaternion"),
        ({"transform": "rigid", "source": [[0.0, 0, 0], [1, 1, 1], [2, 2, 2]]}, "/source"),
        ({"transform": "rigid", "target": [[0.0, 0, 0]]}, "/target"),
        ({"transform": "rigid", "source": [[0.0], [1]], "target": [[0.0], [1]]}, "/transform"),
        ({"transform": "wobbly"}, "/transform"),
        ({"outlier_weight": 1.0}, "/outlier_weight"),
        ({"outlier_weight": "some"}, "/outlier_weight"),
        ({"outlier_weight": True}, "/outlier_weight"),
        ({"normalize": "diagonals"}, "/normalize"),
        ({"prior": [[1.0]]}, "/prior"),
        ({"prior": "free", "sigma": 1.0, "outlier_weight": 0.1}, "/outlier_weight"),
        ({"prior": "free", "transform": "affine"}, "/prior"),
        ({"beta": 1.0}, "/beta"),
        ({"transform": "nonrigid", "refine": True}, "/refine"),
        ({"refine": 1}, "/refine"),
    ],
)
def test_a_choice_that_cannot_be_is_a_422_that_points(client: TestClient, change: dict[str, Any], pointer: str) -> None:
    problem = assert_problem(client.post("/em/register", json=GOOD | change), 422)
    assert problem["errors"][0]["pointer"] == pointer
    assert len(problem["detail"]) < 500


def test_a_square_is_told_to_have_other_answers(client: TestClient) -> None:
    corners = square(5)
    body = {"source": corners.tolist(), "target": (corners + 7).tolist(), "transform": "rigid"}
    answer = client.post("/em/register", json=body).json()
    assert answer["runner_up"]["log_likelihood_gap"] == pytest.approx(0, abs=1e-3)
    assert any("symmetric" in warning for warning in answer["warnings"])
    other = np.array(answer["runner_up"]["matrix"])
    assert np.abs(other - np.array(answer["matrix"])).max() > 0.5
    moved = corners @ other[:2, :2].T + other[:2, 2]
    distances = np.linalg.norm(moved[:, None] - (corners + 7), axis=2)
    assert distances.min(1).max() < 1e-3


def test_partial_overlap_is_found_and_outliers_are_null(client: TestClient) -> None:
    instance = sliced(120, 0.7, sigma=0.004, seed=3, angle=1.5)
    body = {"source": instance.source.tolist(), "target": instance.target.tolist(), "transform": "rigid"}
    answer = client.post("/em/register", json=body).json()
    expected = [None if j < 0 else j for j in instance.partner.tolist()]
    assert np.mean([a == b for a, b in zip(answer["matching"], expected, strict=True)]) > 0.95
    assert answer["outlier_weight"] == pytest.approx(0.3, abs=0.05)
    silent = [p for p, j in zip(answer["matching_probability"], answer["matching"], strict=True) if j is None]
    assert silent == [0] * len(silent)


def test_a_batch_may_mix_transforms_and_each_result_is_the_one_it_has_alone(client: TestClient) -> None:
    problems = [GOOD | {"transform": kind} for kind in KINDS]
    results = client.post("/em/register/batch", json={"problems": problems}).json()["results"]
    for problem, result in zip(problems, results, strict=True):
        assert result == client.post("/em/register", json=problem).json()


def test_a_permutation_as_prior_gives_its_answer_at_once(client: TestClient) -> None:
    prior = np.eye(40)[INSTANCE.partner]
    body = RIGID | {"prior": prior.tolist(), "outlier_weight": 0.0, "init": "identity", "include": ["responsibilities"]}
    answer = client.post("/em/register", json=body).json()
    assert answer["matching"] == INSTANCE.partner.tolist()
    assert np.array(answer["responsibilities"]) == pytest.approx(prior)
    assert np.abs(np.array(answer["rotation"]) - INSTANCE.pose.linear).max() < 0.02


def test_columns_and_warnings_of_files_pass_through_the_form(client: TestClient) -> None:
    coloured = np.hstack([SOURCE, np.full((len(SOURCE), 3), 200.0)])
    table = "\n".join(" ".join(map(repr, row)) for row in coloured.tolist())
    named = "a,b,c,frame\n" + "\n".join(",".join(map(repr, [*row, 7])) for row in TARGET.tolist())
    parts = {"source": ("a.xyz", table.encode()), "target": ("b.csv", named.encode())}
    assert_problem(client.post("/em/register", files=parts, data={"transform": "rigid"}), 422)
    form = client.post("/em/register", files=parts, data={"transform": "rigid", "target_columns": "a,b,c"}).json()
    plain = client.post("/em/register", json=RIGID).json()
    assert form["warnings"][0].startswith("source: of 6 columns")
    assert form | {"warnings": form["warnings"][1:]} == plain
    chosen = {"transform": "rigid", "source_columns": "0,1,2", "target_columns": '["a", "b", 2]'}
    assert client.post("/em/register", files=parts, data=chosen).json() == plain


def test_the_document_describes_columns_of_forms_and_json_refuses_them(client: TestClient) -> None:
    content = client.get("/openapi.json").json()["paths"]["/em/register"]["post"]["requestBody"]["content"]
    described = content["multipart/form-data"]["schema"]["properties"]
    for name in ("columns", "source_columns", "target_columns"):
        assert "counted from 0" in described[name]["description"]
        problem = assert_problem(client.post("/em/register", json=GOOD | {name: [0, 1, 2]}), 422)
        assert problem["errors"][0]["pointer"] == f"/{name}"


def with_holes(points: np.ndarray, holes: list[int]) -> np.ndarray:
    """The points, with NaN rows so that these have the indices `holes` in the result."""
    whole = np.full((len(points) + len(holes), points.shape[1]), np.nan)
    whole[np.setdiff1d(np.arange(len(whole)), holes)] = points
    return whole


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("before", "behind"), [([0, 3, 44], []), ([], [1, 2]), ([7], [0, 20])])
def test_points_without_coordinates_are_null_and_shift_no_index(
    client: TestClient, kind: str, before: list[int], behind: list[int]
) -> None:
    before = [hole for hole in before if hole < len(SOURCE)]
    source, target = with_holes(SOURCE, before), with_holes(TARGET, behind)
    parts = {"source": ("a.npy", write_cloud(source, "npy")), "target": ("b.csv", write_cloud(target, "csv"))}
    include = ["registered", "responsibilities"]
    form = client.post("/em/register", files=parts, data={"transform": kind, "include": ",".join(include)}).json()
    plain = client.post("/em/register", json=GOOD | {"transform": kind, "include": include}).json()
    rows, columns = np.isfinite(source[:, 0]), np.isfinite(target[:, 0])
    places = [*np.flatnonzero(columns).tolist(), None]
    expected = iter([places[-1 if j is None else j] for j in plain["matching"]])
    assert form["matching"] == [next(expected) if row else None for row in rows]
    for name in ("matching_probability", "outlier_probability", "registered", "displacement"):
        if plain.get(name) is not None:
            assert np.array_equal(np.array(form[name], float)[rows], np.array(plain[name])), name
            assert np.isnan(np.array(form[name], float)[~rows]).all(), name
    responsibilities = np.array(form["responsibilities"], float)
    assert np.array_equal(responsibilities[np.ix_(rows, columns)], np.array(plain["responsibilities"]))
    assert np.isnan(responsibilities[~rows]).all()
    assert np.isnan(responsibilities[:, ~columns]).all()
    for name in ("matrix", "sigma", "log_likelihood", "translation_covariance"):
        assert form[name] == plain[name]
    counts = [f"source: {len(before)} of"] * bool(before) + [f"target: {len(behind)} of"] * bool(behind)
    assert [warning[:12] for warning in form["warnings"][: len(counts)]] == [count[:12] for count in counts]


@pytest.mark.parametrize("media_type", ["model/ply", "application/x-npy", "text/csv", "text/plain", "image/png"])
def test_registered_files_keep_the_rows_of_points_without_coordinates(client: TestClient, media_type: str) -> None:
    source = with_holes(SOURCE, [2, 5])
    parts = {"source": ("a.ply", write_cloud(source, "ply")), "target": ("b.npy", write_cloud(TARGET, "npy"))}
    response = client.post("/em/register", files=parts, data={"transform": "rigid"}, headers={"Accept": media_type})
    assert response.status_code == 200
    assert "2 of 42 points" in json.loads(response.headers["X-Warnings"])[0]
    if media_type != "image/png":
        cloud = read_cloud(response.content).points
        assert np.array_equal(np.isnan(cloud[:, 0]), np.isnan(source[:, 0]))


def test_points_without_coordinates_leave_no_room_for_a_prior_matrix_nor_for_json(client: TestClient) -> None:
    parts: dict[str, Any] = {
        "source": ("a.npy", write_cloud(with_holes(SOURCE, [2]), "npy")),
        "target": (None, json.dumps(GOOD["target"])),
    }
    prior = json.dumps(np.full((41, 40), 1 / 40).tolist())
    problem = assert_problem(client.post("/em/register", files=parts, data={"prior": prior}), 422)
    assert problem["errors"][0]["pointer"] == "/prior"
    empty: dict[str, Any] = {
        "source": ("a.npy", write_cloud(np.full((9, 3), np.nan), "npy")),
        "target": parts["target"],
    }
    problem = assert_problem(client.post("/em/register", files=empty), 422)
    assert problem["errors"][0]["pointer"] == "/source"
    text = json.dumps([*GOOD["source"], [math.nan, 1.0, 2.0]])
    assert_problem(client.post("/em/register", files={"source": (None, text), "target": parts["target"]}), 400)


def test_errors_count_points_as_their_file_does(client: TestClient) -> None:
    source = with_holes(SOURCE, [1, 3])
    source[5, 2] = 1e80
    parts = {"source": ("a.npy", write_cloud(source, "npy")), "target": ("b.npy", write_cloud(TARGET, "npy"))}
    problem = assert_problem(client.post("/em/register", files=parts), 422)
    assert problem["errors"][0]["pointer"] == "/source"
    assert "[5, 2]" in problem["detail"]
