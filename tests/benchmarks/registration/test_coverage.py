"""95 % regions: normal errors of the stated covariance lie within them 95 % of the time, along every axis alike."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.registration.coverage import CHI_SQUARED, rotation_held, translation_held
from benchmarks.registration.tasks import Answer
from tests.problems.scenes.objects import cut
from tests.problems.scenes.scene import Float64, direction, turn

SCENE = cut(1)
DRAWS = 2000


def _covariance() -> Float64:
    factor = 0.01 * np.array([[3, 0, 0], [1, 0.5, 0], [-2, 0.3, 0.2]])
    return factor @ factor.T


def _answer(off_translation: Float64, off_rotation: Float64) -> Answer:
    # R = exp(δ) R̂, the perturbation of which the answer's covariance is.
    return Answer(
        rotation=turn(-off_rotation) @ SCENE.rotation,
        translation=SCENE.translation + off_translation,
        translation_covariance=_covariance(),
        rotation_covariance=_covariance(),
    )


def test_normal_errors_are_within_the_region_95_percent_of_the_time() -> None:
    rng = np.random.default_rng(0)
    errors = rng.multivariate_normal(np.zeros(3), _covariance(), (DRAWS, 2))
    answers = [_answer(*pair) for pair in errors]
    for held in (translation_held, rotation_held):
        share = np.mean([held(SCENE, answer) for answer in answers])
        # The standard error of the share is √(.95 · .05/2000) = .005.
        assert share == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize(("length", "within"), [(0.999, True), (1.001, False)])
def test_the_region_ends_at_the_quantile_in_every_direction(length: float, within: bool) -> None:
    rng = np.random.default_rng(1)
    factor = np.linalg.cholesky(_covariance())
    for _ in range(20):
        edge = length * np.sqrt(CHI_SQUARED) * factor @ direction(rng)
        answer = _answer(edge, edge)
        assert translation_held(SCENE, answer) is within
        assert rotation_held(SCENE, answer) is within


def test_without_a_covariance_no_region_holds_the_truth() -> None:
    answer = Answer(SCENE.rotation, SCENE.translation)
    assert not translation_held(SCENE, answer)
    assert not rotation_held(SCENE, answer)
