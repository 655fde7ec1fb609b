"""Covariances are wide along the motions that the clouds leave undetermined, and stay narrow along all others."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.em.choices import Noise
from service.em.outcome import Freedom, Outcome
from service.em.problem import Problem
from service.em.quality.undetermined import ANY_ANGLE, widened
from service.em.register import register
from tests.problems.scenes import DEGENERATE, SOUND
from tests.problems.scenes.scene import Float64

# Standard deviations that count as undetermined: of an angle in rad, of a step in extents of the target.
WIDE_ANGLE, WIDE_STEP = 1.0, 0.1


@pytest.mark.parametrize("kind", DEGENERATE)
@pytest.mark.parametrize("noise", ["surface", "isotropic"])
def test_free_motions_have_a_wide_covariance(kind: str, noise: Noise) -> None:
    scene = DEGENERATE[kind](4)
    found = register(Problem(scene.source, scene.target, transform="rigid", noise=noise))
    extent = float(np.ptp(scene.target, axis=0).max())
    for free in scene.free:
        if free.kind == "rotation":
            assert _error(found.rotation_covariance, free.axis) > WIDE_ANGLE
        else:
            assert _error(found.translation_covariance, free.axis) > WIDE_STEP * extent
    if any(free.kind == "translation" for free in scene.free):
        assert found.quality is not None
        assert (
            found.quality.centroid_standard_error is None or found.quality.centroid_standard_error > WIDE_STEP * extent
        )


@pytest.mark.parametrize("noise", ["surface", "isotropic"])
def test_the_axis_of_a_pipe_is_known(noise: Noise) -> None:
    scene = DEGENERATE["pipe"](4)
    found = register(Problem(scene.source, scene.target, transform="rigid", noise=noise))
    axis = scene.free[0].axis
    across = np.linalg.svd(axis[None])[2][1:]
    assert all(_error(found.rotation_covariance, one) < 0.1 for one in across)


def test_a_scene_that_determines_the_motion_has_narrow_covariances() -> None:
    scene = SOUND["cut"](1)
    found = register(Problem(scene.source, scene.target, transform="rigid"))
    assert found.quality is not None
    assert found.quality.degenerate == ()
    assert all(_error(found.rotation_covariance, axis) < 0.05 for axis in np.eye(3))


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_turn_moves_the_origin_and_not_the_centroid(dimension: int) -> None:
    """The covariance of R c + T, the moved centroid, stays as it was: linearised, ω × (R c) + δT does not change."""
    rng = np.random.default_rng(dimension)
    problem = Problem(rng.uniform(5, 9, (20, dimension)), rng.uniform(5, 9, (20, dimension)), transform="rigid")
    before = register(problem)
    axis = np.zeros(2) if dimension == 2 else np.array([0.6, 0, 0.8])
    after = _with(problem, before, Freedom("rotation", axis))
    assert before.translation_covariance is not None
    assert after.translation_covariance is not None
    assert before.linear is not None
    added = after.translation_covariance - before.translation_covariance
    arm = before.linear @ problem.source.mean(0)
    moved = np.array([arm[1], -arm[0]]) if dimension == 2 else np.cross(arm, axis)
    np.testing.assert_allclose(added, ANY_ANGLE * np.outer(moved, moved), rtol=1e-6)
    assert after.quality is not None
    assert before.quality is not None
    assert after.quality.centroid_standard_error == before.quality.centroid_standard_error


def test_a_step_is_uniform_over_the_length_of_the_target() -> None:
    rng = np.random.default_rng(0)
    problem = Problem(rng.uniform(size=(20, 3)), rng.uniform(size=(20, 3)) * [12, 1, 1], transform="translation")
    before = register(problem)
    after = _with(problem, before, Freedom("translation", np.array([1.0, 0, 0])))
    assert before.translation_covariance is not None
    assert after.translation_covariance is not None
    added = after.translation_covariance - before.translation_covariance
    expected = np.ptp(problem.target[:, 0]) ** 2 / 12
    np.testing.assert_allclose(added, np.diag([expected, 0, 0]), atol=1e-12)
    assert after.rotation_covariance is None


def _with(problem: Problem, outcome: Outcome, free: Freedom) -> Outcome:
    assert outcome.quality is not None
    return widened(problem, outcome._replace(quality=outcome.quality._replace(degenerate=(free,))))


def _error(covariance: Float64 | None, axis: Float64) -> float:
    """The standard error along an axis; infinite without a covariance."""
    return math.inf if covariance is None else math.sqrt(float(axis @ covariance @ axis))
