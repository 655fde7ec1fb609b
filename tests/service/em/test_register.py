"""Laws of a registration: likelihood, symmetries, covariance, how it ends, and what rounding may do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from service.em.checks import check
from service.em.choices import Prior
from service.em.register import register
from tests.problems import registration
from tests.problems.tight import tight

FULL: dict[str, Any] = {"tolerance": 0.0, "responsibilities": True, "trace": True}


@given(
    n=st.integers(1, 12),
    m=st.integers(1, 12),
    dimension=st.integers(1, 4),
    sigma=st.one_of(st.none(), st.floats(1e-3, 10.0)),
    prior=st.sampled_from(["free", "uniform"]),
    init=st.sampled_from(["auto", "identity", "centroid"]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=120, deadline=None, derandomize=True)
def test_the_likelihood_never_decreases(
    n: int, m: int, dimension: int, sigma: float | None, prior: Prior, init: Any, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    p, q = registration.cloud(n, dimension, generator), registration.cloud(m, dimension, generator)
    problem = tight(p, q + 0.3, sigma=sigma, prior=prior, init=init, max_iterations=25, **FULL)
    outcome = register(problem)
    assert outcome.trace is not None
    assert outcome.responsibilities is not None
    likelihoods = outcome.trace.log_likelihood
    # The free prior's likelihood is a difference of sums that grow with every iteration: that much rounding, no more.
    energy = float(np.square(p[:, None] + 0.3 - q).max()) / min(outcome.trace.sigma.tolist()) ** 2
    slack = 1e-14 * (n * energy * 25 + np.abs(likelihoods).max().item() + 1)
    assert (np.diff(likelihoods) >= -slack).all()
    np.testing.assert_allclose(outcome.responsibilities.sum(1), np.ones(n), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
@pytest.mark.parametrize("sigma", [None, 1e-4, 1.0])
def test_under_an_exact_bijection_the_difference_of_means_is_the_answer(dimension: int, sigma: float | None) -> None:
    instance = registration.bijection(60, dimension, shift=100.0)
    outcome = register(tight(instance.source, instance.target, sigma=sigma))
    oracle = instance.target.mean(0) - instance.source.mean(0)
    # Soft responsibilities draw T off by a small fraction of σ.
    np.testing.assert_allclose(outcome.translation, oracle, rtol=0, atol=max(1e-12, 1e-2 * (sigma or 0)))
    if sigma != 1.0:
        assert np.array_equal(outcome.matching, instance.partner)


@pytest.mark.parametrize("prior", ["free", "uniform"])
@pytest.mark.parametrize("sigma", [None, 0.05])
def test_moving_the_clouds_moves_the_translation_and_nothing_else(prior: Prior, sigma: float | None) -> None:
    instance = registration.overlapping(10, 40, 15, 3, sigma=0.02)
    problem = tight(instance.source, instance.target, sigma=sigma, prior=prior, init="auto", tolerance=0)
    a, b = np.array([8.0, -16.0, 1024.0]), np.array([1.0, 4.0, 65536.0])
    here = register(problem)
    there = register(problem._replace(source=instance.source + a, target=instance.target + b))
    # Moving the points rounds them: by 1e-11 at 65,536.
    np.testing.assert_allclose(there.translation, here.translation + b - a, rtol=0, atol=1e-9)
    assert np.array_equal(there.matching, here.matching)
    assert there.log_likelihood == pytest.approx(here.log_likelihood, rel=1e-7)


def test_the_order_of_the_points_only_orders_the_matching() -> None:
    instance = registration.overlapping(0, 50, 20, 2, sigma=0.01)
    generator = np.random.default_rng(1)
    rows, columns = generator.permutation(50), generator.permutation(70)
    twenty: dict[str, Any] = {"max_iterations": 20, "tolerance": 0}
    for sigma in (None, 0.01):
        problem = tight(instance.source, instance.target, sigma=sigma, responsibilities=True, init="centroid", **twenty)
        plain = register(problem)
        mixed = register(problem._replace(source=instance.source[rows], target=instance.target[columns]))
        np.testing.assert_allclose(mixed.translation, plain.translation, rtol=0, atol=1e-11)
        assert np.array_equal(columns[mixed.matching], plain.matching[rows])
        assert plain.responsibilities is not None
        assert mixed.responsibilities is not None
        np.testing.assert_allclose(mixed.responsibilities, plain.responsibilities[rows][:, columns], rtol=0, atol=1e-9)


@pytest.mark.parametrize("prior", ["free", "uniform"])
@pytest.mark.parametrize("sigma", [None, 0.08])
@pytest.mark.parametrize("dimension", [1, 3])
def test_the_covariance_is_the_inverse_hessian_of_the_likelihood(
    prior: Prior, sigma: float | None, dimension: int
) -> None:
    instance = registration.bijection(40, dimension, sigma=0.05, shift=3.0)
    problem = tight(instance.source, instance.target, sigma=sigma, prior=prior, responsibilities=True, max_iterations=9)
    outcome = register(problem._replace(tolerance=0))
    assert outcome.responsibilities is not None
    assert outcome.translation_covariance is not None
    prior_matrix = outcome.responsibilities if prior == "free" else np.full((40, 40), 1 / 40)

    source, target = torch.from_numpy(instance.source), torch.from_numpy(instance.target)
    log_prior = torch.from_numpy(prior_matrix).log()

    def likelihood(translation: Tensor) -> Tensor:
        squares = (source[:, None] + translation - target).square().sum(-1)
        return torch.logsumexp(log_prior - squares / (2 * outcome.sigma**2), 1).sum()

    T = torch.from_numpy(outcome.translation)
    hessian = torch.autograd.functional.hessian(likelihood, T).numpy()  # type: ignore[no-untyped-call]
    # An estimated sigma makes it the covariance of a t distribution with the degrees of freedom that are left.
    numbers = 40 * dimension
    growth = 1.0 if sigma else numbers / (numbers - dimension - 2)
    expected = growth * np.linalg.inv(-hessian)
    np.testing.assert_allclose(outcome.translation_covariance, expected, rtol=1e-7, atol=0)


def test_information_that_is_not_positive_definite_gives_no_covariance() -> None:
    p, q = np.zeros((3, 1)), np.array([[-1.0], [1.0]])
    assert register(tight(p, q, sigma=0.5, prior="uniform", init="centroid")).translation_covariance is None


def test_tolerance_zero_never_stops_and_a_tolerance_stops_at_the_first_small_step() -> None:
    instance = registration.bijection(30, 2, sigma=0.05)
    problem = tight(instance.source, instance.target, sigma=0.05, prior="uniform", trace=True, init="identity")
    full = register(problem._replace(tolerance=0.0, max_iterations=80))
    assert (full.iterations, full.converged, full.stop_reason) == (80, False, "max_iterations")
    assert full.trace is not None
    translations = np.concatenate([np.zeros((1, 2)), full.trace.translation])
    steps = np.linalg.norm(np.diff(translations, axis=0), axis=1)
    early = register(problem._replace(tolerance=1e-4, max_iterations=80))
    assert (early.converged, early.stop_reason) == (True, "tolerance")
    assert early.iterations == 1 + int(np.flatnonzero(steps < 1e-4 * 0.05)[0])
    assert np.array_equal(early.translation, full.trace.translation[early.iterations - 1])


def test_registered_points_are_the_source_moved() -> None:
    instance = registration.bijection(20, 3)
    outcome = register(tight(instance.source, instance.target, registered=True))
    assert outcome.registered is not None
    assert np.array_equal(outcome.registered, instance.source + outcome.translation)


def test_a_cancelled_problem_ends_at_once() -> None:
    polls = iter([False, False, True])
    instance = registration.bijection(20, 3, sigma=0.1)
    outcome = register(
        tight(instance.source, instance.target, tolerance=0, cancelled=lambda: next(polls), registered=True)
    )
    assert (outcome.iterations, outcome.stop_reason, outcome.converged) == (2, "cancelled", False)
    assert math.isnan(outcome.log_likelihood)
    assert (outcome.matching == -1).all()
    assert outcome.registered is None


def test_clouds_far_from_the_origin_lose_nothing_but_the_coordinates_own_rounding() -> None:
    near = registration.bijection(50, 3, shift=0.25)
    grid = 2.0**-20  # so that the points stay exact at 1e9
    p, q = (np.round(x / grid) * grid for x in (near.source, near.target))
    here = register(tight(p, q, sigma=0.01))
    for offset in (2.0**20, 2.0**30):
        there = register(tight(p + offset, q + offset, sigma=0.01))
        np.testing.assert_allclose(there.translation, here.translation, rtol=0, atol=1e-14)
        assert there.log_likelihood == pytest.approx(here.log_likelihood, rel=1e-12)


def test_clouds_without_extent_have_an_exact_translation_and_the_least_sigma() -> None:
    p = np.array([[3.0, 4.0]])
    for n, m in ((1, 1), (4, 4), (2, 5)):
        outcome = register(tight(np.tile(p, (n, 1)), np.tile(p, (m, 1)) + 2))
        assert outcome.translation.tolist() == [2, 2]
        assert outcome.sigma == pytest.approx(6 * np.finfo(float).eps)  # the rounding of the largest coordinate
        assert math.isfinite(outcome.log_likelihood)


@pytest.mark.parametrize("scale", [1e-40, 1e70])
def test_units_do_not_matter(scale: float) -> None:
    instance = registration.bijection(30, 2, sigma=0.01)
    plain = register(tight(instance.source, instance.target))
    scaled = register(tight(instance.source * scale, instance.target * scale))
    np.testing.assert_allclose(scaled.translation / scale, plain.translation, rtol=1e-12, atol=0)
    assert scaled.sigma / scale == pytest.approx(plain.sigma, rel=1e-9)


@pytest.mark.real_data
def test_real_clouds(real_data: Path) -> None:
    load = {
        name: np.loadtxt(real_data / "registration" / f"{name}.txt")
        for name in ("bunny_source", "bunny_target", "fish_source", "fish_target")
    }
    for sigma in (None, 0.01):
        bunny = register(tight(load["bunny_source"], load["bunny_target"], sigma=sigma))
        np.testing.assert_allclose(bunny.translation, np.full((3,), -1.0), rtol=0, atol=1e-6)
        assert np.array_equal(bunny.matching, np.arange(453))
    fish = tight(load["fish_source"], load["fish_target"], trace=True)
    auto, identity = register(fish), register(fish._replace(init="identity"))
    assert auto.trace is not None
    assert (np.diff(auto.trace.log_likelihood) >= -1e-9).all()
    assert auto.log_likelihood >= identity.log_likelihood - 1e-6


def test_check_leaves_a_good_problem_as_it_is() -> None:
    instance = registration.bijection(3, 2)
    problem = tight(instance.source.astype(np.float32), instance.target, init=np.zeros(2))
    checked = check(problem)
    assert checked.source.dtype == np.float64
    assert isinstance(checked.init, np.ndarray)
    assert checked.init.dtype == np.float64
