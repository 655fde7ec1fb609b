"""One step and its likelihood, for every choice, equal those of the mixture with all N x M terms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from service.em.choices import Normalize
from service.em.climbing import plain
from service.em.climbing.mixture import Mixture
from service.em.coordinates import Frame, frame
from service.em.model import MOST_OUTLIERS, Model, Parameters, bin_weight
from service.em.problem import Problem
from service.em.register import register
from tests.problems.clouds import log_likelihood, log_terms, posed
from tests.problems.codes import CODES
from tests.service.em.test_fitting import sums as direct_sums

Float64 = NDArray[np.float64]
ROOM = 3.0


def case(n: int, m: int, dimension: int, seed: int = 0) -> tuple[Frame, Parameters]:
    instance = posed(min(n, m), source_only=max(n - m, 0), target_only=max(m - n, 0), dimension=dimension, seed=seed)
    points = frame(instance.source, instance.target, one_unit=False)
    rng = np.random.default_rng(seed)
    start = np.eye(dimension, dimension + 1) + 0.2 * rng.normal(size=(dimension, dimension + 1))
    return points, Parameters(start, 0.3, 0.15)


def weights(count: int) -> Float64:
    out = np.random.default_rng(count).exponential(size=count)
    out[0] = 0.0
    return np.asarray(out / out.sum())


def direct(points: Frame, at: Parameters, normalize: Normalize, log_prior: Float64 | None) -> tuple[Float64, float]:
    """R (N, M) and the log-likelihood."""
    D = points.dimension
    x = torch.from_numpy(np.ascontiguousarray((at.transform[:, :D] @ points.source[:D] + at.transform[:, D:]).T))
    y = torch.from_numpy(np.ascontiguousarray(points.target[:D].T))
    if normalize == "columns":
        x, y = y, x
    prior = torch.full((len(y),), -math.log(len(y)), dtype=torch.float64)
    if log_prior is not None:
        prior = torch.from_numpy(log_prior)
    sigma = torch.tensor(at.sigma, dtype=torch.float64)
    value = log_likelihood(x, y, sigma, exponent=D, outliers=at.outliers, volume=ROOM, log_prior=prior)
    terms = (prior + log_terms(x, y, sigma, D)).numpy() + math.log(1 - at.outliers)
    bins = np.full((len(x), 1), math.log(at.outliers / ROOM) if at.outliers > 0 else -math.inf)
    R = softmax(np.hstack([terms, bins]), 1)[:, :-1]
    return (R.T if normalize == "columns" else R), value.item()


@pytest.mark.parametrize("normalize", ["rows", "columns"])
@pytest.mark.parametrize("prior", ["even", "weights", "matrix"])
@pytest.mark.parametrize("outliers", [0.0, 0.15])
@pytest.mark.parametrize(("n", "m", "dimension"), [(30, 40, 2), (40, 30, 3), (25, 25, 5), (900, 800, 3)])
@pytest.mark.parametrize("kind", ["translation", "affine"])
def test_a_step_equals_that_of_the_explicit_mixture(
    normalize: Normalize, prior: str, outliers: float, n: int, m: int, dimension: int, kind: str
) -> None:
    if prior == "matrix":
        normalize = "rows"
    points, at = case(n, m, dimension)
    count, data = (n, m) if normalize == "columns" else (m, n)
    given: Any = None
    sigma = 0.3 if n < 100 else 0.05
    model = Model(CODES[kind], normalize, mixing=prior == "weights", estimate_outliers=outliers > 0)
    at = at._replace(outliers=outliers, sigma=sigma)
    with np.errstate(divide="ignore"):
        if prior == "weights":
            at = at._replace(weights=weights(count))
            given = np.log(at.weights)
        if prior == "matrix":
            matrix = np.random.default_rng(1).exponential(size=(n, m))
            matrix[:, 0] = 0
            given = np.log(matrix / matrix.sum(1, keepdims=True))
            model = model._replace(log_prior=given)
    mixture = Mixture(points, model, ROOM)
    step = mixture.step(at)
    R, value = direct(points, at, normalize, given)
    assert step.log_likelihood == pytest.approx(value, rel=1e-11, abs=1e-9)
    assert step.matched == pytest.approx(R.sum(), rel=1e-11)
    D = dimension
    expected = direct_sums(points.source[:D], points.target[:D], R, at.transform)
    assert step.sums.within == pytest.approx(expected.within, rel=1e-10, abs=1e-10)
    assert step.sums.across == pytest.approx(expected.across, rel=1e-10, abs=1e-10)
    assert step.sums.residual == pytest.approx(expected.residual, rel=1e-10)
    after = step.after
    x = after.transform[:, :D] @ points.source[:D] + after.transform[:, D:]
    squares = ((x[:, :, None] - points.target[:D][:, None, :]) ** 2).sum(0)
    assert after.sigma == pytest.approx(math.sqrt((R * squares).sum() / (R.sum() * D)), rel=1e-9)
    expected_outliers = min(1 - R.sum() / data, MOST_OUTLIERS) if outliers else 0.0
    assert after.outliers == pytest.approx(expected_outliers, abs=1e-12)
    if prior == "weights":
        mass = R.sum(1 if normalize == "columns" else 0)
        assert after.weights == pytest.approx(mass / mass.sum(), abs=1e-12)
        assert after.weights[0] == pytest.approx(0, abs=1e-200)


@pytest.mark.parametrize("normalize", ["rows", "columns"])
def test_the_view_from_the_source_has_the_same_responsibilities(normalize: Normalize) -> None:
    points, at = case(30, 40, 3)
    mixture = Mixture(points, Model(CODES["rigid"], normalize), ROOM)
    view = mixture.view(mixture.step(at))
    R, _ = direct(points, at, normalize, None)
    squares = ((view.moved[:, :, None] - points.target[:, None, :]) ** 2).sum(0)
    offset = view.offset if len(view.offset) else 0.0
    assert np.exp(view.log_factor[:, None] - view.precision * squares - offset) == pytest.approx(R, abs=1e-12)
    assert view.best.tolist() == R.argmax(1).tolist()
    assert view.peak == pytest.approx(R.max(1))
    assert view.mass == pytest.approx(np.minimum(R.sum(1), 1))


@pytest.mark.parametrize("outliers", [0.05, 0.3])
def test_sinkhorn_balances_rows_and_columns_with_their_bins(outliers: float) -> None:
    points, at = case(30, 36, 2)
    at = at._replace(outliers=outliers)
    mixture = Mixture(points, Model(CODES["rigid"], "sinkhorn", estimate_sigma=False), ROOM)
    for _ in range(399):
        mixture.step(at)
    view = mixture.view(mixture.step(at))
    squares = ((view.moved[:, :, None] - points.target[:, None, :]) ** 2).sum(0)
    R = np.exp(view.log_factor[:, None] - view.precision * squares - view.offset)
    K = np.exp(-view.precision * squares)
    # Alternating divisions of K with a bin in every row and column, written down.
    rows, columns = (bin_weight(at.outliers, at.sigma, 2, math.log(ROOM), largest) for largest in (1 / 36, 1 / 30))
    u = np.ones(30)
    for _ in range(400):
        v = 1 / (K.T @ u + columns)
        u = 1 / (K @ v + rows)
    assert pytest.approx(u[:, None] * K * v, abs=1e-9) == R
    assert R.sum(0).max() < 1 + 1e-6
    assert view.mass == pytest.approx(R.sum(1))


@pytest.mark.parametrize("normalize", ["rows", "columns", "sinkhorn", "given"])
def test_a_step_keeps_its_arrays_during_other_steps(normalize: Any) -> None:
    points, at = case(30, 36, 2)
    given = normalize == "given"
    log_prior = np.full((30, 36), -math.log(36)) if given else np.empty(0)
    mixture = Mixture(points, Model(CODES["rigid"], "rows" if given else normalize, log_prior=log_prior), ROOM)
    first = mixture.step(at)
    before = [array.copy() for array in (first.expectation.moved, *first.expectation.found)]
    view = mixture.view(first)
    other = mixture.step(first.after)
    assert not np.array_equal(other.expectation.moved, first.expectation.moved)
    for kept, array in zip(before, (first.expectation.moved, *first.expectation.found), strict=True):
        assert np.array_equal(kept, array)
    again = mixture.view(first)
    assert np.array_equal(view.log_factor, again.log_factor)
    assert np.array_equal(view.mass, again.mass)


@pytest.mark.parametrize("normalize", ["rows", "columns", "sinkhorn", "given"])
def test_a_step_that_overwrites_a_spare_one_has_the_bits_of_a_step_in_new_arrays(normalize: Any) -> None:
    points, at = case(30, 36, 2)
    given = normalize == "given"
    log_prior = np.full((30, 36), -math.log(36)) if given else np.empty(0)
    model = Model(CODES["rigid"], "rows" if given else normalize, log_prior=log_prior)
    new, reused = Mixture(points, model, ROOM), Mixture(points, model, ROOM)
    new.step(at)
    spare = reused.step(at)
    expected = new.step(at._replace(sigma=0.2))
    step = reused.step(at._replace(sigma=0.2), spare)
    assert np.shares_memory(step.expectation.moved, spare.expectation.moved)
    assert np.array_equal(step.expectation.moved, expected.expectation.moved)
    for one, other in zip(step.expectation.found, expected.expectation.found, strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(step.after.transform, expected.after.transform)
    assert (step.log_likelihood, step.after.sigma) == (expected.log_likelihood, expected.after.sigma)


def test_a_tolerance_that_is_a_whole_number_needs_no_other_machine_code() -> None:
    source, target = np.random.default_rng(0).normal(size=(2, 30, 2))
    problem = Problem(source, target, transform="rigid", init="identity")
    compiled: Any = plain.ascend
    one = register(problem._replace(tolerance=0.0))
    before = len(compiled.signatures)
    assert before > 0
    other = register(problem._replace(tolerance=0))
    assert len(compiled.signatures) == before
    assert one.log_likelihood == other.log_likelihood
