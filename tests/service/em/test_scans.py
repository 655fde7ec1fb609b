"""Scans with a known motion at the defaults: from the identity, from any pose, with little overlap, on the wire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.em.choices import Noise
from service.em.problem import Problem
from service.em.register import register, register_batch
from service.formats.clouds.reading import read_cloud
from tests.problems.scenes import HOPELESS, SOUND
from tests.problems.scenes.scene import Float64, Scene, any_rotation, direction, displaced, error, turn


def _turned(scene: Scene, seed: int) -> Scene:
    """The scene with its target at any rotation about its centroid."""
    rng = np.random.default_rng([seed, 61])
    rotation, centre = any_rotation(rng), scene.target.mean(0)
    return displaced(scene, rotation, centre - rotation @ centre + direction(rng))


def _check(scene: Scene, init: Any, degrees: float, length: float) -> None:
    found = register(Problem(scene.source, scene.target, transform="rigid", init=init, registered=True))
    assert found.linear is not None
    off = error(scene, found.linear, found.translation)
    assert off.degrees < degrees
    assert off.length < length
    assert found.noise == "surface"
    assert found.registered is not None
    assert len(found.matching) == len(scene.source)
    pairs = np.flatnonzero(found.matching >= 0)
    assert len(pairs) > 0.2 * len(scene.source)
    # Matches are near in space, in the order of the caller.
    apart = np.linalg.norm(found.registered[pairs] - scene.target[found.matching[pairs]], axis=1)
    extent = np.linalg.norm(np.ptp(scene.target, 0))
    assert np.median(apart) < 0.02 * extent


@pytest.mark.parametrize(
    ("kind", "degrees", "length"),
    [
        ("drive", 0.05, 0.03),
        ("mapped", 0.05, 0.03),
        ("robot", 0.05, 0.01),
        ("indoors", 0.3, 0.015),
        ("flight", 0.05, 0.05),
    ],
)
def test_scans_near_the_identity_and_from_any_pose(kind: str, degrees: float, length: float) -> None:
    scene = SOUND[kind](2)
    _check(scene, "identity", degrees, length)
    _check(_turned(scene, 2), "auto", degrees, length)


@pytest.mark.parametrize(("kind", "seed"), [("cut", 1), ("cut", 2), ("cut", 16), ("views", 0), ("views", 3)])
def test_little_overlap_from_any_start(kind: str, seed: int) -> None:
    _check(SOUND[kind](seed), "auto", 1, 0.01)


def test_no_start_that_is_known_beats_the_answer() -> None:
    scene = SOUND["cut"](1)
    auto, named = (
        register(Problem(scene.source, scene.target, transform="rigid", init=init)) for init in ("auto", "identity")
    )
    assert auto.log_likelihood >= named.log_likelihood - 1e-3 * abs(named.log_likelihood)


def test_a_scan_has_the_same_bytes_alone_and_in_a_batch() -> None:
    scenes = [SOUND["mapped"](seed) for seed in range(2)]
    problems = [Problem(s.source, s.target, transform="rigid", init="identity") for s in scenes]
    together = register_batch(problems[::-1])[::-1]
    for one, other in zip(map(register, problems), together, strict=True):
        assert one.translation.tobytes() == other.translation.tobytes()
        assert one.matching.tobytes() == other.matching.tobytes()


def test_a_one_to_one_matching_between_surfaces_uses_no_target_twice() -> None:
    scene = SOUND["views"](0)
    found = register(
        Problem(scene.source, scene.target, transform="rigid", noise="surface", matching="one_to_one", init="auto")
    )
    pairs = found.matching[found.matching >= 0]
    assert len(pairs) == len(set(pairs.tolist()))
    assert len(pairs) > 0.3 * len(scene.source)


def test_the_region_of_a_scan_is_that_of_correlated_residuals() -> None:
    """The true motion lies within a few deviations, in most of a few scans."""
    within = []
    for seed in range(5):
        scene = SOUND["mapped"](seed)
        found = register(Problem(scene.source, scene.target, transform="rigid", init="identity"))
        assert found.linear is not None
        assert found.rotation_covariance is not None
        chord = found.linear.T @ scene.rotation
        vector = np.array([chord[2, 1], chord[0, 2], chord[1, 0]])
        within.append(float(vector @ np.linalg.solve(found.rotation_covariance, vector)) < 30)
    assert sum(within) >= 4


def test_the_answer_names_the_noise_and_the_voxels(client: TestClient) -> None:
    scene = SOUND["mapped"](0)
    body = {"source": scene.source.tolist(), "target": scene.target.tolist(), "transform": "rigid", "init": "identity"}
    found = client.post("/em/register", json=body).json()
    assert found["noise"] == "surface"
    assert 0.3 < found["sampling"] < 3
    plain = client.post("/em/register", json={"source": [[0, 0], [1, 0]], "target": [[0, 0], [1, 0]]}).json()
    assert (plain["noise"], plain["sampling"]) == ("isotropic", None)
    given = client.post("/em/register", json={**body, "sampling": 2, "noise": "isotropic"}).json()
    assert (given["noise"], given["sampling"]) == ("isotropic", pytest.approx(2))
    wrong = client.post("/em/register", json={**body, "sampling": "some"})
    assert wrong.status_code in {400, 422}
    assert wrong.json()["errors"][0]["pointer"] == "/sampling"


def _real(folder: Path, name: str) -> tuple[Float64, Float64]:
    scans = folder / "registration" / "scans"
    if name == "room":
        first, second = (read_cloud((scans / f"room_scan{n}.pcd").read_bytes()).points for n in (2, 1))
        return first, second
    first, second = (np.loadtxt(scans / f"bunny_part{n}.xyz")[:, :3] for n in (2, 1))
    return first, second


# Their files' description has three or four digits.
ROOM = np.array([[0.7567, -0.6536, 0.0176], [0.6534, 0.7569, 0.0144], [-0.0227, 0.0006, 0.9997]])


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "degrees", "rotation", "translation", "length"),
    [
        ("room", 0.3, ROOM, [1.97, 0.0573, 0.0319], 0.03),
        ("bunny", 0.1, turn(np.array([0, 0, np.radians(10)])), [0, 0, 0], 0.01),
    ],
)
def test_real_scans(real_data: Path, name: str, degrees: float, rotation: Any, translation: Any, length: float) -> None:
    source, target = map(np.ascontiguousarray, _real(real_data, name))
    scene = Scene(name, "sound", source, target, np.asarray(rotation, float), np.asarray(translation, float))
    _check(scene, "auto", degrees, length)


def test_where_the_equations_fail_the_climb_begins_anew_on_all_points(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = SOUND["indoors"](2)
    problem = Problem(scene.source, scene.target, transform="rigid", init="identity", trace=True, path=True)
    monkeypatch.setattr("service.em.surfaces.equations.MOST_STEPS", 0)
    anew = register(problem)
    monkeypatch.setattr("service.em.solving.scans.CLIMBED_POINTS", len(scene.source))
    whole = register(problem)
    assert anew.trace is not None
    assert whole.trace is not None
    assert anew.iterations == whole.iterations == len(anew.trace.sigma)
    np.testing.assert_allclose(anew.trace.log_likelihood, whole.trace.log_likelihood, rtol=1e-9)
    np.testing.assert_allclose(anew.translation, whole.translation, rtol=1e-9)
    assert len(anew.path) == len(whole.path)


@pytest.mark.parametrize("seed", [14011, 14022])
def test_a_mirrored_scan_is_not_good(seed: int) -> None:
    """Its walls or its ground fit, but its mirror image fits far better."""
    scene = HOPELESS["mirrored"](seed)
    found = register(Problem(scene.source, scene.target, transform="rigid"))
    assert found.quality is not None
    assert found.quality.verdict != "good"
    mirrored = register(Problem(scene.source * np.array([-1.0, 1, 1]), scene.target, transform="rigid"))
    assert mirrored.quality is not None
    assert mirrored.quality.verdict == "good"
    assert mirrored.quality.evidence > 1.5 * found.quality.evidence


def test_little_overlap_is_good_although_its_evidence_is_little() -> None:
    scene = SOUND["views"](14006)
    found = register(Problem(scene.source, scene.target, transform="rigid"))
    assert found.quality is not None
    assert found.quality.evidence < 0.7
    assert found.quality.verdict == "good"


@pytest.mark.parametrize("noise", ["surface", "isotropic"])
def test_the_trace_of_voxels_changes_with_the_unit_as_the_log_likelihood_does(noise: Noise) -> None:
    scene = SOUND["drive"](2)
    problem = Problem(
        scene.source, scene.target, transform="rigid", init="identity", noise=noise, sampling=0.5, trace=True
    )
    metres = register(problem)
    millimetres = register(problem._replace(source=1000 * problem.source, target=1000 * problem.target, sampling=500.0))
    assert metres.trace is not None
    assert millimetres.trace is not None
    offset = millimetres.log_likelihood - metres.log_likelihood
    assert offset < -1000
    np.testing.assert_allclose(millimetres.trace.log_likelihood - metres.trace.log_likelihood, offset, rtol=1e-3)
