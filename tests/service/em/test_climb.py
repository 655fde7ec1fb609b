"""Law 5: the likelihood never decreases, is stationary at the end, and acceleration does not change the end."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from service.em.checks import check
from service.em.choices import Normalize, Prior, Transform
from service.em.climbing.climb import climb
from service.em.climbing.mixture import Mixture
from service.em.coordinates import frame
from service.em.model import Model, Parameters
from service.em.problem import Pose
from service.em.solving.poses import register_pose
from tests.problems.clouds import box, direct, pose_of, posed
from tests.problems.codes import CODES
from tests.problems.tight import tight
from tests.service.em.test_poses import LINEAR, near

WAYS = [
    (normalize, prior, weight)
    for normalize, prior, weight in itertools.product(
        ("rows", "columns"), ("uniform", "mixing", "free"), (0.0, 0.2, "auto")
    )
    if (prior != "free" or (normalize, weight) == ("rows", 0.0))
]


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize(("normalize", "prior", "weight"), WAYS)
@pytest.mark.parametrize("sigma", [None, 0.08])
def test_the_likelihood_never_decreases(
    kind: Transform, normalize: Normalize, prior: Prior, sigma: float | None, weight: Any
) -> None:
    for dimension, seed in itertools.product((2, 3), range(2)):
        instance = posed(
            25, kind=kind, source_only=8, target_only=5, dimension=dimension, sigma=0.04, angle=0.4, seed=seed
        )
        problem = tight(
            instance.source,
            instance.target,
            transform=kind,
            normalize=normalize,
            prior=prior,
            sigma=sigma,
            outlier_weight=weight,
            init=near(instance, kind),
            max_iterations=60,
            tolerance=0.0 if seed else 1e-6,
            trace=True,
        )
        outcome = register_pose(check(problem))
        assert outcome.trace is not None
        likelihoods = outcome.trace.log_likelihood
        assert len(likelihoods) >= 1
        slack = 1e-10 * (np.abs(likelihoods).max() + 1)
        assert (np.diff(likelihoods) >= -slack).all()
        assert likelihoods[-1] == outcome.log_likelihood


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("normalize", ["rows", "columns"])
@pytest.mark.parametrize("sigma", [None, 0.06])
@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_the_likelihood_is_stationary_where_the_climb_converges(
    kind: Transform, normalize: Normalize, sigma: float | None, weight: float
) -> None:
    instance = posed(30, kind=kind, sigma=0.03, seed=5)
    problem = tight(
        instance.source, instance.target, transform=kind, normalize=normalize, sigma=sigma, outlier_weight=weight,
        init=near(instance, kind), prior="uniform", max_iterations=2000, tolerance=1e-10,
    )  # fmt: skip
    outcome = register_pose(check(problem))
    assert outcome.converged
    pose = pose_of(outcome)
    volume = max(box(problem.target), box(problem.source) * float(np.linalg.det(pose.linear)))
    generators = directions(kind, 3)
    theta = torch.zeros(len(generators) + 4, dtype=torch.float64, requires_grad=True)
    turn = torch.eye(3, dtype=torch.float64) + (theta[:-4, None, None] * generators).sum(0)
    A, T = turn @ torch.from_numpy(pose.linear), torch.from_numpy(pose.translation) + theta[-4:-1]
    # The likelihood has no slope in a known σ.
    scale = outcome.sigma * torch.exp(theta[-1]) if sigma is None else torch.tensor(sigma, dtype=torch.float64)
    value = direct(problem, A, T, scale, outliers=weight, volume=volume)
    # The box of the source grows with the scale of the start, which only the engine knows.
    if weight == 0 or kind in {"translation", "rigid"}:
        assert value.item() == pytest.approx(outcome.log_likelihood, abs=1e-9)
        (slope,) = torch.autograd.grad(value, theta)
        assert slope.abs().max().item() * outcome.sigma < 1e-6 * len(problem.source)


def directions(kind: Transform, dimension: int) -> Tensor:
    """The matrices (K, D, D) by which the A of a transform of its kind may change, rotations in axis-angle order."""
    if kind == "translation":
        return torch.zeros(0, dimension, dimension, dtype=torch.float64)
    if kind == "affine":
        return torch.eye(dimension**2, dtype=torch.float64).reshape(-1, dimension, dimension)
    out = []
    for a, b in ((1, 2), (2, 0), (0, 1)) if dimension == 3 else ((0, 1),):
        skew = torch.zeros(dimension, dimension, dtype=torch.float64)
        skew[a, b], skew[b, a] = -1, 1
        out.append(skew)
    return torch.stack(out + ([torch.eye(dimension, dtype=torch.float64)] if kind == "similarity" else []))


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("outliers", [False, True])
def test_accelerated_and_plain_steps_end_at_the_same_place_and_acceleration_is_not_slower(
    kind: Transform, outliers: bool
) -> None:
    instance = posed(100, kind=kind, source_only=6, sigma=0.03, seed=6)
    points = frame(instance.source, instance.target, one_unit=kind in {"translation", "rigid"})
    model = Model(CODES[kind], "rows", estimate_outliers=outliers)
    A, T = instance.pose
    start = Parameters(points.from_caller(Pose(A, T + 0.01)), 0.1, 0.1 if outliers else 0.0)
    quick = climb(Mixture(points, model, 8.0), start, tolerance=1e-9, max_iterations=5000, floor=points.floor)
    plain, slow = start, 0
    while slow < 5000:
        slow += 1
        after = Mixture(points, model, 8.0).step(plain).after
        still = np.abs(after.transform - plain.transform).max() < 1e-10 and abs(after.sigma - plain.sigma) < 1e-10
        plain = after
        if still:
            break
    assert quick.converged
    assert quick.iterations <= 1.25 * slow + 3
    assert quick.parameters.transform == pytest.approx(plain.transform, abs=1e-6)
    assert quick.parameters.sigma == pytest.approx(plain.sigma, rel=1e-5)
    assert quick.parameters.outliers == pytest.approx(plain.outliers, abs=1e-5)


def test_accept_receives_rising_likelihoods_and_ends_the_climb() -> None:
    instance = posed(40, sigma=0.08, seed=7)
    points = frame(instance.source, instance.target, one_unit=True)
    A, T = instance.pose
    start = Parameters(points.from_caller(Pose(A, T + 0.1)), 0.5)
    received: list[float] = []

    def accept(at: Parameters, likelihood: float) -> bool:
        again = Mixture(points, Model(CODES["rigid"]), 8.0).step(at)
        assert again.log_likelihood == pytest.approx(likelihood, rel=1e-13)
        received.append(likelihood)
        return len(received) < 7

    end = climb(
        Mixture(points, Model(CODES["rigid"]), 8.0), start, tolerance=0, max_iterations=100, floor=1e-9, accept=accept
    )
    assert len(received) == 7
    assert 7 <= end.iterations < 14
    assert not end.converged
    assert received == sorted(received)


@pytest.mark.parametrize("normalize", ["rows", "columns"])
def test_the_last_step_of_a_climb_equals_a_separate_step_at_the_same_parameters(normalize: Normalize) -> None:
    instance = posed(40, sigma=0.08, seed=8)
    points = frame(instance.source, instance.target, one_unit=True)
    A, T = instance.pose
    start = Parameters(points.from_caller(Pose(A, T + 0.1)), 0.5)
    model = Model(CODES["rigid"], normalize)
    end = climb(Mixture(points, model, 8.0), start, tolerance=1e-9, max_iterations=300, floor=points.floor)
    again = Mixture(points, model, 8.0).step(end.last.expectation.at)
    assert end.iterations > 5
    assert np.array_equal(end.last.expectation.moved, again.expectation.moved)
    assert end.last.expectation.found.best.tolist() == again.expectation.found.best.tolist()
    assert end.last.expectation.found.mass == pytest.approx(again.expectation.found.mass, rel=1e-12)
