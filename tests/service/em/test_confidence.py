"""Covariances are inverse Hessians of the likelihood, and confidence regions have their nominal coverage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from service.em.choices import Normalize, Transform
from service.em.kernel.definite import inverse, small_sample_inflation
from service.em.outcome import Outcome
from service.em.problem import Pose, Problem
from service.em.register import register
from tests.problems.clouds import box, direct, pose_of, posed
from tests.problems.tight import tight
from tests.service.em.test_climb import directions


def hessian(problem: Problem, outcome: Outcome, weight: float) -> Tensor:
    """Minus the Hessian in (motion, T, log σ): A → exp(Σ θ_k B_k) A, with σ if it is estimated."""
    pose, basis = pose_of(outcome), directions(problem.transform, problem.source.shape[1])
    K, D = len(basis), problem.source.shape[1]
    volume = max(box(problem.target), box(problem.source) * float(np.linalg.det(pose.linear)))
    A, T = torch.from_numpy(pose.linear), torch.from_numpy(pose.translation)
    estimated = problem.sigma is None

    def value(theta: Tensor) -> Tensor:
        B = (theta[:K, None, None] * basis).sum(0)
        # exp to second order is exact for second derivatives at 0.
        turn = torch.eye(D, dtype=torch.float64) + B + B @ B / 2
        sigma = outcome.sigma * torch.exp(theta[-1]) if estimated else torch.tensor(outcome.sigma, dtype=torch.float64)
        return direct(problem, turn @ A, T + theta[K : K + D], sigma, outliers=weight, volume=volume)

    zero = torch.zeros(K + D + estimated, dtype=torch.float64)
    found: Tensor = -torch.autograd.functional.hessian(value, zero)  # type: ignore[no-untyped-call]
    return found


@pytest.mark.parametrize("kind", ["translation", "rigid", "similarity", "affine"])
@pytest.mark.parametrize("normalize", ["rows", "columns"])
@pytest.mark.parametrize("sigma", [None, 0.09])
@pytest.mark.parametrize("weight", [0.0, 0.05])
@pytest.mark.parametrize("dimension", [2, 3])
def test_covariances_are_those_of_the_inverse_hessian(
    kind: Transform, normalize: Normalize, sigma: float | None, weight: float, dimension: int
) -> None:
    if weight and kind in {"similarity", "affine"}:
        weight = 0.0  # the outliers' box grows with the start's scale, which only the engine knows
    instance = posed(40, kind=kind, dimension=dimension, sigma=0.05, angle=1.0, shift=3.0, seed=8)
    init: Any = instance.pose.translation if kind == "translation" else instance.pose
    problem = tight(
        instance.source, instance.target, transform=kind, normalize=normalize, sigma=sigma, outlier_weight=weight,
        init=init, prior="uniform", max_iterations=3000, tolerance=1e-11, responsibilities=True,
    )  # fmt: skip
    # A start that is a pose selects the climbing engine for a translation.
    outcome = register(problem._replace(init=instance.pose))
    assert outcome.translation_covariance is not None
    expected = np.linalg.inv(hessian(problem, outcome, weight).numpy())
    numbers = expected.shape[0] - (sigma is None)
    if sigma is None:
        count = len(problem.target if normalize == "columns" else problem.source)
        # The last E-step's mass: all of it without outliers, and nearly so of each row with them.
        assert outcome.responsibilities is not None
        mass = float(count) if weight == 0 else outcome.responsibilities.sum()
        degrees = mass * dimension - numbers
        expected = expected * mass * dimension / (degrees - 2)
    K = numbers - dimension
    T = expected[K:numbers, K:numbers]
    np.testing.assert_allclose(outcome.translation_covariance, T, rtol=1e-4, atol=1e-9 * np.abs(T).max())
    if kind in {"rigid", "similarity"}:
        turns = 1 if dimension == 2 else 3
        R = expected[:turns, :turns]
        assert outcome.rotation_covariance is not None
        np.testing.assert_allclose(outcome.rotation_covariance, R, rtol=1e-4, atol=1e-9 * np.abs(R).max())
    else:
        assert outcome.rotation_covariance is None


def test_confidence_regions_contain_the_truth_at_their_nominal_rate() -> None:
    within = np.zeros(2)
    limit, problems = chi2.ppf(0.95, 3), 300
    for seed in range(problems):
        instance = posed(30, sigma=0.03, angle=0.1, shift=0.05, seed=seed)
        problem = tight(instance.source, instance.target, transform="rigid", init="centroid", outlier_weight=0.0)
        outcome = register(problem)
        assert outcome.translation_covariance is not None
        assert outcome.rotation_covariance is not None
        off = pose_of(outcome).linear @ instance.pose.linear.T
        skew = (off - off.T) / 2
        turn = np.array([skew[2, 1], skew[0, 2], skew[1, 0]])
        shift = outcome.translation - instance.pose.translation
        for k, (error, covariance) in enumerate(
            ((shift, outcome.translation_covariance), (turn, outcome.rotation_covariance))
        ):
            within[k] += error @ np.linalg.solve(covariance, error) <= limit
    assert ((within / problems >= 0.91) & (within / problems <= 0.98)).all()


def test_a_certain_matching_has_the_covariance_of_known_pairs_and_an_ambiguous_one_more() -> None:
    instance = posed(60, kind="translation", seed=1)
    ratios = []
    for sigma in (1e-3, 0.06, 0.12):
        problem = tight(
            instance.source, instance.target, sigma=sigma, prior="uniform", init=instance.pose, max_iterations=300
        )
        outcome = register(problem)
        assert outcome.translation_covariance is not None
        ratios.append((outcome.translation_covariance / (sigma**2 / 60)).trace() / 3)
    assert ratios[0] == pytest.approx(1, rel=1e-6)
    assert 1.05 < ratios[1] < ratios[2] / 1.1


def test_far_from_the_origin_the_covariance_of_the_translation_includes_the_lever_of_the_rotation() -> None:
    instance = posed(60, sigma=0.01, seed=2)
    near = register(tight(instance.source, instance.target, transform="rigid", init=instance.pose))
    offset = np.array([100.0, 0.0, 0.0])
    moved = Pose(instance.pose.linear, instance.pose.translation - instance.pose.linear @ offset)
    far = register(tight(instance.source + offset, instance.target, transform="rigid", init=moved))
    assert near.rotation_covariance is not None
    assert far.rotation_covariance is not None
    assert far.translation_covariance is not None
    np.testing.assert_allclose(far.rotation_covariance, near.rotation_covariance, rtol=1e-4, atol=0)
    # T' = T - R·offset, and R turns by ω: T' moves by [R·offset]× ω, which outweighs all else.
    a = pose_of(far).linear @ offset
    cross = np.array([[0, -a[2], a[1]], [a[2], 0, -a[0]], [-a[1], a[0], 0]])
    lever = cross @ far.rotation_covariance @ cross.T
    np.testing.assert_allclose(far.translation_covariance.trace(), lever.trace(), rtol=0.05, atol=0)


def test_without_a_peak_of_the_likelihood_there_is_a_warning_and_no_covariance() -> None:
    source = np.array([[0.0, 0.0], [0.0, 1.0]])
    target = np.array([[-1.0, 0.0], [1.0, 0.0], [-1.0, 1.0], [1.0, 1.0]])
    identity = Pose(np.eye(2), np.zeros(2))
    # Halfway between two targets, with σ so wide that this is a saddle between two peaks.
    outcome = register(tight(source, target, sigma=0.4, init=identity, prior="uniform", max_iterations=1))
    assert outcome.translation_covariance is None
    assert any("covariance" in warning for warning in outcome.warnings)


def test_the_inverse_is_right_in_any_units_or_absent() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 3, 7):
        root = rng.normal(size=(size, size + 2))
        matrix = root @ root.T
        units = 10.0 ** rng.uniform(-40, 40, size=size)
        found = inverse(matrix * np.outer(units, units))
        assert found is not None
        assert found * np.outer(units, units) == pytest.approx(np.linalg.inv(matrix), rel=1e-9)
    for bad in ([[1.0, 2.0], [2.0, 1.0]], [[0.0]], [[np.nan]], [[-1.0]], [[1.0, 1.0], [1.0, 1.0]]):
        assert inverse(np.array(bad)) is None


def test_an_estimated_sigma_widens_by_the_t_distribution() -> None:
    rng = np.random.default_rng(1)
    numbers, parameters = 12, 3
    design = rng.normal(size=(numbers, parameters))
    gram = np.linalg.inv(design.T @ design)
    growth = small_sample_inflation(numbers, parameters)
    assert growth is not None
    # Σ r²/numbers is the estimate; scaled by `growth` its mean is the variance's times ν/(ν - 2).
    residuals = rng.normal(size=(20_000, numbers)) @ (np.eye(numbers) - design @ gram @ design.T)
    mean = (residuals**2).sum(1).mean() / numbers * growth
    left = numbers - parameters
    assert mean == pytest.approx(left / (left - 2), rel=0.02)
    assert small_sample_inflation(5, 3) is None
