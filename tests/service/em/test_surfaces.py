"""The mixture of patches: its E-step by the written formula, its gradients by differences, its climb upwards."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.em.climbing.climb import climb
from service.em.kernel.fitting import rms_distance
from service.em.kinds import RIGID
from service.em.model import Model, Parameters
from service.em.problem import Pose, Problem
from service.em.register import register
from service.em.surfaces.candidates import Candidate, Contest
from service.em.surfaces.consensus import _similarities, proposals
from service.em.surfaces.equations import Equations, add
from service.em.surfaces.features import even_side, keys, similar
from service.em.surfaces.mixture import SurfaceMixture
from service.em.surfaces.motion import no_sums, turned, turning
from service.em.surfaces.patches import patches
from service.em.surfaces.scene import Scene, of_patches
from tests.problems.scenes.scene import Float64, any_rotation, direction, turn
from tests.problems.scenes.solids import figure, normals, sampled


def _random_scene(dimension: int, seed: int = 0) -> Scene:
    """Random points with random normals, a fifth of them without one, near enough to see one another."""
    rng = np.random.default_rng([seed, dimension])
    clouds = []
    for count in 30, 40:
        points, directions = np.zeros((2, 3, count))
        points[:dimension] = 0.5 * rng.normal(size=(dimension, count))
        directions[:dimension] = rng.normal(size=(dimension, count))
        directions /= np.linalg.norm(directions, axis=0)
        directions[:, rng.random(count) < 0.2] = 0
        clouds += [points, directions]
    scene = of_patches(clouds[0], clouds[1], clouds[2], clouds[3], dimension, 1e-9)
    return scene._replace(tangential=1.0)


def _model() -> Model:
    return Model(kind=RIGID, estimate_outliers=True)


def _pose(dimension: int, seed: int) -> Float64:
    rng = np.random.default_rng([seed, 1])
    out = np.eye(dimension, dimension + 1)
    out[:, :dimension] = turn(0.3 * direction(rng))[:3, :3] if dimension == 3 else turn(np.array([0, 0, 0.3]))[:2, :2]
    out[:, dimension] = 0.1 * rng.normal(size=dimension)
    return out


def _written_out(scene: Scene, at: Parameters) -> tuple[float, Float64]:
    """The log-likelihood, and R (N, M), by the formula with all covariances."""
    D, targets = scene.dimension, scene.target.shape[1]
    A, t = at.transform[:, :D], at.transform[:, D]
    densities = np.empty((scene.source.shape[1], targets))
    for i in range(len(densities)):
        x, m = A @ scene.source[:D, i] + t, A @ scene.source_normals[:D, i]
        for j in range(targets):
            n = scene.target_normals[:D, j]
            C = (at.sigma**2 + scene.tangential**2) * np.eye(D)
            C -= scene.tangential**2 / 2 * (np.outer(n, n) + np.outer(m, m))
            d = scene.target[:D, j] - x
            densities[i, j] = math.exp(-d @ np.linalg.solve(C, d) / 2) / math.sqrt(
                (2 * math.pi) ** D * np.linalg.det(C)
            )
    terms = (1 - at.outliers) / targets * densities
    whole = terms.sum(1) + at.outliers * np.exp(scene.background)
    return float(np.log(whole).sum()), terms / whole[:, None]


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_the_e_step_is_the_formula(dimension: int, sigma: float) -> None:
    scene = _random_scene(dimension)
    at = Parameters(_pose(dimension, 0), sigma, 0.2)
    step = SurfaceMixture(scene, _model(), 10.0).step(at)
    value, R = _written_out(scene, at)
    # Pairs beyond the cutoff are left out: less than e^-9 of a row.
    assert step.log_likelihood == pytest.approx(value, abs=30 * 1e-3)
    np.testing.assert_allclose(step.matches.mass, R.sum(1), atol=2e-3)
    np.testing.assert_allclose(step.matches.peak, R.max(1), atol=2e-3)
    assert (step.matches.best == R.argmax(1)).mean() > 0.9


def _likelihood_equations(mixture: SurfaceMixture, at: Parameters) -> tuple[Equations, Float64]:
    """The equations of the likelihood with all C held, and the torque (3,) of the turning C."""
    found, turns = Equations(np.zeros((1, 6)), np.zeros((1, 6, 6))), np.zeros(3)
    for block in mixture.blocks(at):
        add(found, block, np.zeros(block.moved.shape[1], np.int64), along=1.0)
        parts = block.moments.precision, block.moments.spread
        for i in range(block.moved.shape[1]):
            turns += turning(block.normals, *parts, i, mixture.scene.tangential**2 / 2)
    return found, turns


@pytest.mark.parametrize("dimension", [2, 3])
def test_scores_and_information_of_a_translation_are_derivatives(dimension: int) -> None:
    scene = _random_scene(dimension, 1)
    mixture, pose, width = SurfaceMixture(scene, _model(), 10.0), _pose(dimension, 1), 1e-3

    def value(shift: Float64) -> float:
        moved = pose.copy()
        moved[:, dimension] += shift
        return _written_out(scene, Parameters(moved, 0.8, 0.2))[0]

    axes = np.eye(dimension) * width
    slope = [(value(axis) - value(-axis)) / (2 * width) for axis in axes]
    found, _ = _likelihood_equations(mixture, Parameters(pose, 0.8, 0.2))
    some = slice(3, 3 + dimension)
    np.testing.assert_allclose(found.scores[0, some], slope, rtol=0.02, atol=0.05)
    bend = [
        [-(value(a + b) - value(a - b) - value(b - a) + value(-a - b)) / (4 * width**2) for b in axes] for a in axes
    ]
    np.testing.assert_allclose(found.slopes[0, some, some], bend, rtol=0.05, atol=0.3)


@pytest.mark.parametrize("dimension", [2, 3])
def test_scores_of_a_rotation_are_derivatives(dimension: int) -> None:
    scene, pose, width = _random_scene(dimension, 1), _pose(dimension, 1), 1e-3
    found, turns = _likelihood_equations(SurfaceMixture(scene, _model(), 10.0), Parameters(pose, 0.8, 0.2))

    def value(turn: Float64) -> float:
        return _written_out(scene, Parameters(turned(turn)[:dimension, :dimension] @ pose, 0.8, 0.2))[0]

    axes = np.eye(3)[[2] if dimension == 2 else [0, 1, 2]] * width
    slope = [(value(axis) - value(-axis)) / (2 * width) for axis in axes]
    np.testing.assert_allclose((found.scores[0, :3] + turns)[-len(axes) :], slope, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_score_of_the_noise_is_a_derivative(dimension: int) -> None:
    scene, at, width = _random_scene(dimension, 1), Parameters(_pose(dimension, 1), 0.8, 0.2), 1e-4
    mixture, sums = SurfaceMixture(scene, _model(), 10.0), no_sums()
    for block in mixture.blocks(at):
        mixture.gather(sums, block)
    values = [_written_out(scene, at._replace(sigma=math.sqrt(0.64 + off)))[0] for off in (-width, width)]
    assert (sums.noise[0] - sums.noise[1]) / 2 == pytest.approx((values[1] - values[0]) / (2 * width), rel=0.02)
    # Σ r tr C⁻² by the inequality of Cauchy and Schwarz, and by the largest eigenvalue of any C⁻¹, 1/σ².
    _, traces, trace_squares = sums.noise
    assert traces**2 / (dimension * sums.within[3, 3]) < trace_squares < traces / at.sigma**2


def test_blocks_of_the_e_step_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, at = _random_scene(3), Parameters(_pose(3, 0), 0.8, 0.2)
    whole = SurfaceMixture(scene, _model(), 10.0).step(at)
    monkeypatch.setattr("service.em.surfaces.mixture.BLOCK", 7)
    assert scene.source.shape[1] > 3 * 7
    step = SurfaceMixture(scene, _model(), 10.0).step(at)
    for one, other in zip(step.matches, whole.matches, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(step.after.transform, whole.after.transform, rtol=1e-12)
    np.testing.assert_allclose(step.within, whole.within, rtol=1e-12)
    assert step.after.sigma == pytest.approx(whole.after.sigma, rel=1e-12)
    assert step.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-12)


def _object(count: int = 1500) -> tuple[Float64, Float64]:
    """Two samples of one surface, with noise."""
    rng = np.random.default_rng(4)
    whole = rng.permutation(sampled(figure(rng), 2 * count, rng))
    return tuple(part + 0.001 * rng.normal(size=part.shape) for part in (whole[::2], whole[1::2]))  # type: ignore[return-value]


def _surface_scene(source: Float64, target: Float64) -> Scene:
    found = [patches(np.ascontiguousarray(cloud.T), 3).normals for cloud in (source, target)]
    clouds = [np.ascontiguousarray(cloud.T) for cloud in (source, target)]
    return of_patches(clouds[0], found[0], clouds[1], found[1], 3, 1e-9)


def test_the_climb_never_descends_and_finds_the_motion() -> None:
    source, target = _object()
    motion = turn(np.array([0.03, -0.02, 0.04]))
    scene = _surface_scene(source, target @ motion.T + [0.01, 0.02, -0.01])
    mixture = SurfaceMixture(scene, _model(), scene.tangential)
    values: list[float] = []

    def accept(_at: Parameters, value: float) -> bool:
        values.append(value)
        return True

    start = Parameters(np.eye(3, 4), scene.tangential / 2, 0.3)
    end = climb(mixture, start, tolerance=1e-4, max_iterations=100, floor=1e-9, accept=accept)
    assert end.converged
    steps = np.diff(values)
    # The M-step of the pose is one step of Gauss and Newton, so the last digits may oscillate.
    assert steps.min() > -1e-3 * abs(values[-1] - values[0])
    np.testing.assert_allclose(end.parameters.transform[:, :3], motion, atol=2e-3)
    assert end.parameters.sigma < 0.003


def test_the_score_of_a_right_pose_exceeds_that_of_wrong_ones() -> None:
    scene = _surface_scene(*_object())
    mixture, rng = SurfaceMixture(scene, _model(), scene.tangential), np.random.default_rng(8)
    right = mixture.score(mixture.step(Parameters(np.eye(3, 4), 0.001, 0.05)))
    for _ in range(10):
        pose = np.hstack([any_rotation(rng), np.zeros((3, 1))])
        end = climb(mixture, Parameters(pose, scene.tangential / 2, 0.5), tolerance=0.02, max_iterations=30, floor=1e-5)
        assert mixture.score(end.last) < right - 0.3


def test_a_candidate_stops_where_it_meets_an_earlier_end() -> None:
    scene, steps = _surface_scene(*_object()), [0]

    def poll() -> bool:
        steps[0] += 1
        return True

    def climbed(contest: Contest, rotation: Float64) -> int:
        before, start = steps[0], np.hstack([rotation, np.zeros((3, 1))])
        contest.add([Candidate("given", Parameters(start, scene.tangential / 2, 0.3))])
        return steps[0] - before

    near, far = turn(np.array([0.04, -0.03, 0.02])), turn(np.array([0, 0, 2.0]))
    both, alone = (Contest(scene, _model(), scene.tangential, poll) for _ in range(2))
    first = climbed(both, np.eye(3))
    assert 0 < climbed(both, near) < climbed(alone, near)
    assert climbed(both, np.eye(3)) == 0
    assert len(both.best_first()) == 1
    assert climbed(both, far) > 0
    assert first > 0
    assert len(both.best_first()) == 2
    # Both ways lead to one pose.
    ends = [contest.best_first()[0].parameters.transform for contest in (both, alone)]
    assert rms_distance(scene.source, *ends) < 0.5 * scene.tangential


def test_patches_know_their_normals_and_solids_have_none() -> None:
    rng = np.random.default_rng(5)
    body = figure(rng)
    points = sampled(body, 6000, rng)
    found = patches(np.ascontiguousarray(points.T), 3)
    assert found.flat > 0.8
    alike = np.abs((found.normals.T * normals(body, points)).sum(1))[(found.normals != 0).any(0)]
    assert np.median(alike) > 0.98
    assert patches(rng.normal(size=(3, 3000)), 3).flat < 0.05
    curve = np.zeros((3, 600))
    curve[:2] = np.stack([np.cos(np.linspace(0, 6, 600)), np.sin(np.linspace(0, 6, 600))])
    in_plane = patches(curve, 2)
    assert in_plane.flat > 0.95
    np.testing.assert_allclose(np.abs((in_plane.normals * curve).sum(0)), 1, atol=0.02)


def test_features_find_the_partners_of_a_turned_surface() -> None:
    rng = np.random.default_rng(6)
    points = sampled(figure(rng), 5000, rng)
    clouds = [np.ascontiguousarray(cloud.T) for cloud in (points, points @ any_rotation(rng).T)]
    side = even_side((clouds[0],))
    # The voxels of the two are different, so the keys are different points of one surface.
    source, target = (keys(cloud, patches(cloud, 3).normals, side) for cloud in clouds)
    mine, others = similar(source, target, side)
    back = np.linalg.lstsq(clouds[0].T, clouds[1].T, rcond=None)[0]
    off = np.linalg.norm(source.points[:, mine].T @ back - target.points[:, others].T, axis=1)
    right = float((off < 2 * side).mean())
    assert right > 0.1
    assert right > 20 * (math.pi * 4 * side**2) / 3  # chance, on a surface of about 3


def test_the_pose_that_a_tenth_of_the_pairs_agree_on_is_proposed() -> None:
    rng = np.random.default_rng(7)
    source, rotation, shift = rng.uniform(-1, 1, (3, 400)), any_rotation(rng), rng.normal(size=3)
    target = rotation @ source + shift[:, None] + 0.01 * rng.normal(size=source.shape)
    target[:, 40:] = rng.uniform(-1, 1, (3, 360)) + shift[:, None]
    best = proposals(source, target, 0.03, 0.1)[0]
    np.testing.assert_allclose(best.transform[:, :3], rotation, atol=0.05)
    assert 35 <= best.support <= 80
    assert proposals(source[:, :3], target[:, :3], 0.03, 0.1) == []


def test_the_similarity_of_pairs_counts_those_that_fit_both() -> None:
    rng = np.random.default_rng(11)
    source, target = rng.uniform(-1, 1, (2, 3, 150))
    target[:, :70] = source[:, :70]
    one, other = (np.linalg.norm(cloud[:, :, None] - cloud[:, None], axis=0) for cloud in (source, target))
    fits = ((np.abs(one - other) < 0.1) & (np.minimum(one, other) > 0.3)).astype(int)
    np.testing.assert_array_equal(_similarities(source, target, 0.1, 0.3), fits * (fits @ fits))
    assert fits.sum() > 70 * 50


def test_an_exact_start_is_kept_in_the_plane() -> None:
    rng = np.random.default_rng(9)
    angle = np.sort(rng.uniform(0, 2 * math.pi, 2400))
    radius = 1 + 0.2 * np.cos(3 * angle) + 0.1 * np.sin(5 * angle + 1)
    outline = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    motion = turn(np.array([0, 0, 0.05]))[:2, :2]
    target = outline[1::2] @ motion.T + [0.03, -0.02] + 0.001 * rng.normal(size=(1200, 2))
    problem = Problem(
        outline[::2], target, transform="rigid", noise="surface", init=Pose(motion, np.array([0.03, -0.02]))
    )
    found = register(problem)
    assert found.noise == "surface"
    assert found.linear is not None
    np.testing.assert_allclose(found.linear, motion, atol=2e-3)
    assert found.rotation_covariance is not None
    assert found.rotation_covariance.shape == (1, 1)
