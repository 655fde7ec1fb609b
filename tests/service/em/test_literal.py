"""The literal model for any transform, Π ← R, against the recursion with Π kept as an N x M matrix."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp
from torch import Tensor

from service.em.checks import check
from service.em.choices import Transform
from service.em.outcome import Outcome
from service.em.problem import Pose, Problem
from service.em.register import register
from service.em.solving.poses import register_pose
from tests.problems import registration
from tests.problems.clouds import log_terms, moved, pose_of, posed
from tests.problems.tight import tight
from tests.service.em.test_recursion import agrees
from tests.service.em.test_recursion import literal as literal_translation

Float64 = NDArray[np.float64]


class Step(NamedTuple):
    """The recursion's state after one E- and M-step."""

    R: Float64
    pose: Pose
    sigma: float
    log_likelihood: float


def best(kind: Transform, p: Float64, q: Float64, R: Float64) -> Pose:
    """The transform that minimises Σ r_ij ‖A p_i + T - q_j‖², by weighted regression and Kabsch's algorithm."""
    weight = R.sum()
    p_mean, q_mean = R.sum(1) @ p / weight, R.sum(0) @ q / weight
    x, y = p - p_mean, q - q_mean
    if kind == "affine":
        pairs = [(i, j) for i in range(len(p)) for j in range(len(q))]
        root = np.stack([np.sqrt(R[i, j]) for i, j in pairs])[:, None]
        left = np.stack([x[i] for i, _ in pairs]) * root
        right = np.stack([y[j] for _, j in pairs]) * root
        A = np.linalg.lstsq(left, right)[0].T
    else:
        u, s, vt = np.linalg.svd(y.T @ R.T @ x)
        signs = np.ones(len(s))
        signs[-1] = np.sign(np.linalg.det(u @ vt))
        A = u * signs @ vt
        if kind == "similarity":
            A = A * ((s * signs).sum() / (R.sum(1) @ np.square(x).sum(1)))
    return Pose(A, q_mean - A @ p_mean)


def terms(x: Float64, y: Float64, sigma: float, exponent: int) -> Float64:
    """`log_terms` of arrays."""
    scale = torch.tensor(sigma, dtype=torch.float64)
    return log_terms(torch.from_numpy(x), torch.from_numpy(y), scale, exponent).numpy()


def literal(problem: Problem, pose: Pose, sigma: float, iterations: int) -> list[Step]:
    """The given number of E-steps and M-steps, with all N x M numbers."""
    p, q = problem.source, problem.target
    (n, D), m = p.shape, len(q)
    log_prior = np.full((n, m), -math.log(m))
    history = []
    for _ in range(iterations):
        log_prior = log_softmax(log_prior + terms(moved(p, pose), q, sigma, D), 1)
        R = np.exp(log_prior)
        pose = best(problem.transform, p, q, R)
        if problem.sigma is None:
            squares = np.square(moved(p, pose)[:, None] - q).sum(-1)
            sigma = math.sqrt((R * squares).sum().item() / (n * D))
        exponent = D if problem.sigma is None else 1
        value = float(logsumexp(log_prior + terms(moved(p, pose), q, sigma, exponent), 1).sum())
        history.append(Step(R, pose, sigma, value))
    return history


def check_against(outcome: Outcome, history: list[Step], within: float) -> None:
    last = history[-1]
    assert outcome.iterations == len(history)
    assert outcome.responsibilities is not None
    assert outcome.trace is not None
    assert outcome.trace.linear is not None
    np.testing.assert_allclose(pose_of(outcome).linear, last.pose.linear, rtol=0, atol=within)
    np.testing.assert_allclose(outcome.translation, last.pose.translation, rtol=0, atol=within)
    np.testing.assert_allclose(outcome.responsibilities, last.R, rtol=0, atol=within)
    linears = np.stack([step.pose.linear for step in history])
    np.testing.assert_allclose(outcome.trace.linear, linears, rtol=0, atol=within)
    assert outcome.sigma == pytest.approx(last.sigma, rel=within)
    values = [step.log_likelihood for step in history]
    assert outcome.trace.log_likelihood.tolist() == pytest.approx(values, rel=10 * within, abs=10 * within)
    assert outcome.log_likelihood == outcome.trace.log_likelihood[-1].item()
    assert np.array_equal(outcome.matching, last.R.argmax(1))


@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine"])
@pytest.mark.parametrize("iterations", [1, 2, 12])
@pytest.mark.parametrize(("n", "m", "dimension"), [(14, 9, 2), (25, 32, 3)])
def test_a_known_sigma_gives_the_literal_recursion(
    kind: Transform, n: int, m: int, dimension: int, iterations: int
) -> None:
    instance = posed(n, kind=kind, dimension=dimension, sigma=0.02, angle=0.5, seed=n)
    target = np.concatenate([instance.target, instance.target + 0.3])[:m]
    start = Pose(instance.pose.linear, instance.pose.translation + 0.05)
    problem = tight(
        instance.source, target, sigma=0.15, transform=kind, prior="free", normalize="rows", init=start,
        max_iterations=iterations, tolerance=0.0, responsibilities=True, trace=True,
    )  # fmt: skip
    check_against(register(problem), literal(problem, start, 0.15, iterations), 1e-9)


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_an_estimated_sigma_gives_the_literal_recursion(kind: Transform) -> None:
    instance = posed(20, kind=kind, sigma=0.05, angle=0.3, seed=3)
    start = Pose(instance.pose.linear, instance.pose.translation + 0.05)
    squares = np.square(moved(instance.source, start)[:, None] - instance.target)
    problem = tight(
        instance.source, instance.target, transform=kind, prior="free", normalize="rows", init=start,
        max_iterations=10, tolerance=0.0, responsibilities=True, trace=True,
    )  # fmt: skip
    check_against(register(problem), literal(problem, start, math.sqrt(squares.mean()), 10), 1e-8)


@pytest.mark.parametrize("iterations", [1, 2, 10, 100])
@pytest.mark.parametrize(("n", "m", "dimension"), [(1, 1, 1), (1, 2, 1), (7, 4, 2), (40, 55, 3), (30, 30, 5)])
def test_a_translation_by_the_engine_without_pairs_is_the_literal_one(
    n: int, m: int, dimension: int, iterations: int
) -> None:
    generator = np.random.default_rng(n)
    p, q = registration.cloud(n, dimension, generator), registration.cloud(m, dimension, generator) + 0.2
    start = np.full(dimension, 0.1)
    full: dict[str, Any] = {"tolerance": 0.0, "responsibilities": True, "trace": True}
    problem = check(tight(p, q, sigma=0.15, prior="free", init=start, max_iterations=iterations, **full))
    agrees(register_pose(problem), literal_translation(problem, start, 0.15))


def test_both_engines_agree_on_large_clouds_in_cells() -> None:
    instance = registration.overlapping(100, 900, 300, 3, sigma=0.002)
    start = instance.translation + 0.001
    problem = check(
        tight(instance.source, instance.target, sigma=0.01, init=start, max_iterations=15, tolerance=0, trace=True)
    )
    dense, sparse = register(problem), register_pose(problem)
    np.testing.assert_allclose(sparse.translation, dense.translation, rtol=0, atol=1e-10)
    assert np.array_equal(sparse.matching, dense.matching)
    assert sparse.log_likelihood == pytest.approx(dense.log_likelihood, rel=1e-10)
    assert sparse.trace is not None
    assert dense.trace is not None
    np.testing.assert_allclose(sparse.trace.log_likelihood, dense.trace.log_likelihood, rtol=1e-10, atol=0)
    assert sparse.translation_covariance is not None
    assert dense.translation_covariance is not None
    np.testing.assert_allclose(sparse.translation_covariance, dense.translation_covariance, rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_the_covariance_is_that_of_the_returned_prior(kind: Transform) -> None:
    """Minus the Hessian in T alone is its block of the information, whose inverse bounds the covariance from below."""
    instance = posed(25, kind=kind, sigma=0.05, seed=4)
    problem = tight(
        instance.source, instance.target, sigma=0.06, transform=kind, prior="free", normalize="rows",
        init=instance.pose, max_iterations=8, tolerance=0, responsibilities=True,
    )  # fmt: skip
    outcome = register(problem)
    assert outcome.responsibilities is not None
    assert outcome.translation_covariance is not None
    log_prior = torch.from_numpy(outcome.responsibilities).log()
    rotated = torch.from_numpy(problem.source @ pose_of(outcome).linear.T)
    target, sigma = torch.from_numpy(problem.target), torch.tensor(0.06, dtype=torch.float64)

    def value(T: Tensor) -> Tensor:
        return torch.logsumexp(log_prior + log_terms(rotated + T, target, sigma, 1), 1).sum()

    T = torch.from_numpy(outcome.translation)
    block = -torch.autograd.functional.hessian(value, T)  # type: ignore[no-untyped-call]
    excess = outcome.translation_covariance - np.linalg.inv(block.numpy())
    assert np.linalg.eigvalsh(excess).min() > -1e-9
    assert outcome.log_likelihood == pytest.approx(value(T).item(), rel=1e-9)
