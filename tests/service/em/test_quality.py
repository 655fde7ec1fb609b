"""The block `quality`: sound answers are good, unrelated clouds fail, and the measures mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.em.outcome import Outcome, Quality
from service.em.problem import Pose, Problem
from service.em.register import register, register_batch
from tests.problems.poses import posed, rotation
from tests.problems.registration import bijection, overlapping
from tests.problems.scenes import DEGENERATE, SOUND
from tests.problems.scenes.scene import Scene


def quality(outcome: Outcome) -> Quality:
    assert outcome.quality is not None
    return outcome.quality


def at_truth(scene: Scene, **options: Any) -> Quality:
    """The quality of the answer that begins at the true motion."""
    start = Pose(scene.rotation, scene.translation)
    return quality(register(Problem(scene.source, scene.target, transform="rigid", init=start, **options)))


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_a_noisy_bijection_is_good_and_its_rmse_is_that_of_the_noise(dimension: int) -> None:
    instance = bijection(400, dimension, sigma=1e-4, shift=3.0)
    found = quality(register(Problem(instance.source, instance.target)))
    assert (found.verdict, found.reasons, found.degenerate) == ("good", (), ())
    assert found.rmse == pytest.approx(1e-4 * dimension**0.5, rel=0.2)
    assert min(found.overlap) > 0.95
    # σ/√N in each coordinate.
    assert found.centroid_standard_error == pytest.approx(1e-4 * (dimension / 400) ** 0.5, rel=0.2)


@pytest.mark.parametrize("transform", ["translation", "rigid", "similarity", "affine", "nonrigid"])
def test_unrelated_clouds_fail_for_every_transform(transform: Any) -> None:
    rng = np.random.default_rng(4)
    source, target = rng.uniform(size=(120, 2)), rng.uniform(size=(130, 2))
    outcome = register(Problem(source, target, transform=transform))
    assert quality(outcome).verdict == "failed"
    assert quality(outcome).reasons[0] in outcome.warnings
    assert abs(quality(outcome).evidence) < 0.3


def test_the_literal_model_is_assessed_as_well() -> None:
    instance = bijection(50, 3, sigma=0.002, shift=0.5)
    problem = Problem(instance.source, instance.target, sigma=0.002, init=instance.translation)
    assert quality(register(problem)).verdict == "good"
    other = np.random.default_rng(0).uniform(size=(50, 3))
    assert quality(register(problem._replace(target=other))).verdict != "good"


def test_overlap_is_the_share_of_points_with_a_partner() -> None:
    instance = overlapping(100, 200, 300, 3, sigma=0.001, shift=1.0, seed=3)
    problem = Problem(instance.source, instance.target, transform="rigid")
    found = quality(register(problem))
    assert found.verdict == "good"
    assert found.overlap.source == pytest.approx(200 / 300, abs=0.07)
    assert found.overlap.target == pytest.approx(200 / 500, abs=0.1)


def test_the_standard_error_is_at_the_centroid_wherever_the_origin_is() -> None:
    pair = posed("cube", 200, noise=0.01, seed=2)
    near = quality(register(Problem(pair.source, pair.target, transform="rigid"))).centroid_standard_error
    away = np.array([5e5, 5e6, 100.0])
    far = quality(register(Problem(pair.source + away, pair.target + away, transform="rigid"))).centroid_standard_error
    assert near is not None
    assert far == pytest.approx(near, rel=1e-3)


def test_points_without_a_partner_that_pull_the_answer_are_a_doubt() -> None:
    rng = np.random.default_rng(0)
    both = rng.uniform(size=(60, 2))
    source = np.concatenate([both, rng.uniform([1.2, 0], [1.6, 1], (20, 2))])
    problem = Problem(source, both + 0.001 * rng.normal(size=both.shape), init=np.zeros(2))
    pulled, free = register_batch([problem, problem._replace(outlier_weight=0.2)])
    assert quality(pulled).verdict != "good"
    assert quality(free).verdict == "good"


def test_an_iteration_that_has_not_converged_is_a_doubt() -> None:
    pair = posed("cube", 100, seed=1)
    found = quality(register(Problem(pair.source, pair.target, transform="rigid", max_iterations=1, tolerance=0.0)))
    assert found.verdict == "doubtful"
    assert "converged" in found.reasons[0]


def test_a_square_is_doubtful_because_of_its_other_poses() -> None:
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    found = quality(register(Problem(square, square + 3, transform="rigid")))
    assert found.verdict == "doubtful"
    assert any("runner_up" in reason for reason in found.reasons)


def test_what_another_transform_would_explain_is_named() -> None:
    rng = np.random.default_rng(1)
    cloud = rng.normal(size=(150, 3)) * [1, 2, 3]
    turned = cloud @ rotation(3, 1.2, rng).T
    for target, transform, text in (
        (turned, "translation", "rotation"),
        (cloud * [-1, 1, 1], "rigid", "mirror image"),
        (2 * turned, "rigid", "scale of 2"),
    ):
        noisy = target + 0.01 * rng.normal(size=target.shape)
        outcome = register(Problem(cloud, noisy, transform=transform))  # type: ignore[arg-type]
        assert quality(outcome).verdict != "good"
        assert any(text in warning for warning in outcome.warnings), transform


@pytest.mark.parametrize("kind", ["indoors", "flight", "views", "drive"])
def test_scans_at_the_true_motion_are_good(kind: str) -> None:
    found = at_truth(SOUND[kind](2))
    assert (found.verdict, found.reasons) == ("good", ())


@pytest.mark.parametrize("kind", DEGENERATE)
def test_the_free_motions_of_a_scene_are_found(kind: str) -> None:
    """An endless corridor's step, a floor's turn, a pipe's turn and step, and all turns of a ball."""
    scene = DEGENERATE[kind](1)
    found = at_truth(scene)
    assert found.verdict == "doubtful"
    for free in scene.free if kind != "floor" else scene.free[-1:]:
        axes = [one.axis for one in found.degenerate if one.kind == free.kind]
        # Its axis lies in the span of those that are found.
        span = np.linalg.qr(np.stack(axes, 1))[0]
        assert np.linalg.norm(span.T @ free.axis) > 0.97


def test_a_batch_has_the_bytes_of_its_problems_alone() -> None:
    instances = [bijection(n, 2, sigma=0.01 * (n % 3), shift=2.0, seed=n) for n in (3, 12, 100, 130)]
    rng = np.random.default_rng(2)
    problems = [Problem(one.source, one.target) for one in instances]
    problems += [Problem(rng.uniform(size=(100, 2)), rng.uniform(size=(100, 2))) for _ in range(3)]
    for together, problem in zip(register_batch(problems), problems, strict=True):
        assert together.quality == register(problem).quality
