"""The literal model for any transform, Π ← R, against the recursion with Π kept as an N x M matrix."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from service.em.checks import check
from service.em.outcome import Outcome
from service.em.problem import Pose, Problem, Transform
from service.em.register import register
from service.em.solving.poses import register_pose
from tests.problems import registration
from tests.problems.clouds import log_terms, moved, pose_of, posed
from tests.problems.tight import tight
from tests.service.em.test_recursion import agrees
from tests.service.em.test_recursion import literal as literal_translation


class Step(NamedTuple):
    """The recursion's state after one E- and M-step."""

    R: Tensor
    pose: Pose
    sigma: float
    log_likelihood: float


def best(kind: Transform, p: Tensor, q: Tensor, R: Tensor) -> Pose:
    """The transform that minimises Σ r_ij ‖A p_i + T - q_j‖², by weighted regression and Kabsch's algorithm."""
    weight = R.sum()
    p_mean, q_mean = R.sum(1) @ p / weight, R.sum(0) @ q / weight
    x, y = p - p_mean, q - q_mean
    if kind == "affine":
        pairs = [(i, j) for i in range(len(p)) for j in range(len(q))]
        root = torch.stack([R[i, j].sqrt() for i, j in pairs])[:, None]
        left = torch.stack([x[i] for i, _ in pairs]) * root
        right = torch.stack([y[j] for _, j in pairs]) * root
        A = torch.linalg.lstsq(left, right, driver="gelsd").solution.T
    else:
        u, s, vt = torch.linalg.svd(y.T @ R.T @ x)
        signs = torch.ones(len(s), dtype=torch.float64)
        signs[-1] = torch.sign(torch.linalg.det(u @ vt))
        A = u * signs @ vt
        if kind == "similarity":
            A = A * ((s * signs).sum() / (R.sum(1) @ x.square().sum(1)))
    return Pose(A, q_mean - A @ p_mean)


def literal(problem: Problem, pose: Pose, sigma: float, iterations: int) -> list[Step]:
    """E-step and M-step, over and over, with all N x M numbers."""
    p, q = problem.source, problem.target
    (n, D), m = p.shape, len(q)
    log_prior = torch.full((n, m), -math.log(m), dtype=torch.float64)
    history = []
    for _ in range(iterations):
        scale = torch.tensor(sigma, dtype=torch.float64)
        log_prior = torch.log_softmax(log_prior + log_terms(moved(p, pose), q, scale, D), 1)
        R = log_prior.exp()
        pose = best(problem.transform, p, q, R)
        if problem.sigma is None:
            squares = (moved(p, pose)[:, None] - q).square().sum(-1)
            sigma = math.sqrt((R * squares).sum().item() / (n * D))
        scale, exponent = torch.tensor(sigma, dtype=torch.float64), D if problem.sigma is None else 1
        value = torch.logsumexp(log_prior + log_terms(moved(p, pose), q, scale, exponent), 1).sum().item()
        history.append(Step(R, pose, sigma, value))
    return history


def check_against(outcome: Outcome, history: list[Step], within: float) -> None:
    last = history[-1]
    assert outcome.iterations == len(history)
    assert outcome.responsibilities is not None
    assert outcome.trace is not None
    assert outcome.trace.linear is not None
    torch.testing.assert_close(pose_of(outcome).linear, last.pose.linear, rtol=0, atol=within)
    torch.testing.assert_close(outcome.translation, last.pose.translation, rtol=0, atol=within)
    torch.testing.assert_close(outcome.responsibilities, last.R, rtol=0, atol=within)
    linears = torch.stack([step.pose.linear for step in history])
    torch.testing.assert_close(outcome.trace.linear, linears, rtol=0, atol=within)
    assert outcome.sigma == pytest.approx(last.sigma, rel=within)
    values = [step.log_likelihood for step in history]
    assert outcome.trace.log_likelihood.tolist() == pytest.approx(values, rel=10 * within, abs=10 * within)
    assert outcome.log_likelihood == outcome.trace.log_likelihood[-1].item()
    best_of = last.R.max(1)
    assert torch.equal(outcome.matching, best_of.indices)


@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine"])
@pytest.mark.parametrize("iterations", [1, 2, 12])
@pytest.mark.parametrize(("n", "m", "dimension"), [(14, 9, 2), (25, 32, 3)])
def test_a_known_sigma_gives_the_literal_recursion(
    kind: Transform, n: int, m: int, dimension: int, iterations: int
) -> None:
    instance = posed(n, kind=kind, dimension=dimension, sigma=0.02, angle=0.5, seed=n)
    target = torch.cat([instance.target, instance.target + 0.3])[:m]
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
    squares = (moved(instance.source, start)[:, None] - instance.target).square()
    problem = tight(
        instance.source, instance.target, transform=kind, prior="free", normalize="rows", init=start,
        max_iterations=10, tolerance=0.0, responsibilities=True, trace=True,
    )  # fmt: skip
    check_against(register(problem), literal(problem, start, squares.mean().sqrt().item(), 10), 1e-8)


@pytest.mark.parametrize("iterations", [1, 2, 10, 100])
@pytest.mark.parametrize(("n", "m", "dimension"), [(1, 1, 1), (1, 2, 1), (7, 4, 2), (40, 55, 3), (30, 30, 5)])
def test_a_translation_by_the_engine_without_pairs_is_the_literal_one(
    n: int, m: int, dimension: int, iterations: int
) -> None:
    generator = torch.Generator().manual_seed(n)
    p, q = registration.cloud(n, dimension, generator), registration.cloud(m, dimension, generator) + 0.2
    start = torch.full((dimension,), 0.1, dtype=torch.float64)
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
    torch.testing.assert_close(sparse.translation, dense.translation, rtol=0, atol=1e-10)
    assert torch.equal(sparse.matching, dense.matching)
    assert sparse.log_likelihood == pytest.approx(dense.log_likelihood, rel=1e-10)
    assert sparse.trace is not None
    assert dense.trace is not None
    torch.testing.assert_close(sparse.trace.log_likelihood, dense.trace.log_likelihood, rtol=1e-10, atol=0)
    assert sparse.translation_covariance is not None
    assert dense.translation_covariance is not None
    torch.testing.assert_close(sparse.translation_covariance, dense.translation_covariance, rtol=1e-6, atol=1e-15)


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
    log_prior, sigma = outcome.responsibilities.log(), torch.tensor(0.06, dtype=torch.float64)

    def value(T: Tensor) -> Tensor:
        x = moved(problem.source, Pose(pose_of(outcome).linear, T))
        return torch.logsumexp(log_prior + log_terms(x, problem.target, sigma, 1), 1).sum()

    block = -torch.autograd.functional.hessian(value, outcome.translation)  # type: ignore[no-untyped-call]
    excess = outcome.translation_covariance - torch.linalg.inv(block)
    assert np.linalg.eigvalsh(excess.numpy()).min() > -1e-9
    assert outcome.log_likelihood == pytest.approx(value(outcome.translation).item(), rel=1e-9)
