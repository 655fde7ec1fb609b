"""Hard matchings of poses: no target is matched twice, outliers stay unmatched, and the pairs refine the transform."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from service.em import slices
from service.em.choices import Transform
from service.em.climbing import correspondence
from service.em.kernel.truncated import UNMATCHED
from service.em.matching import cost_of_none, one_to_one_sparse
from service.em.outcome import Outcome
from service.em.problem import Pose, Problem
from service.em.register import register, register_batch
from service.em.worker import EmWorker, cancel, cost, effort, key, registration
from tests.problems import registration as translations
from tests.problems.clouds import Posed, posed
from tests.problems.tight import tight

Float64 = NDArray[np.float64]


def noisy(seed: int = 0, **options: Any) -> Posed:
    """A problem with so much noise that the nearest matching contains some targets twice."""
    return posed(60, sigma=0.06, angle=0.3, seed=seed, **options)


@pytest.mark.parametrize("seed", range(20))
def test_the_sparse_matching_costs_what_the_dense_one_costs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 30, size=2)
    costs, out = rng.exponential(size=(n, m)), rng.exponential(size=n) * 2
    there = rng.uniform(size=(n, m)) < 0.4
    starts = np.concatenate([[0], np.cumsum(there.sum(1))])
    match = one_to_one_sparse(starts, np.nonzero(there)[1], costs[there], out, int(m))
    # The dense problem has one column for each unmatched point, and a prohibitive cost for pairs that are not given.
    full = np.full((n, m + n), 1e6)
    full[:, :m][there] = costs[there]
    full[np.arange(n), m + np.arange(n)] = out
    rows, columns = linear_sum_assignment(full)
    mine = np.where(match == UNMATCHED, out, costs[np.arange(n), np.maximum(match, 0)])
    assert mine.sum() == pytest.approx(full[rows, columns].sum())
    assert match.tolist() == np.where(columns < m, columns, UNMATCHED).tolist()


def test_the_sparse_matching_pauses_between_points_and_is_the_same_wherever_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    n, m, partners = 50, 40, 6
    starts = np.arange(n + 1) * partners
    columns = np.concatenate([rng.choice(m, partners, replace=False) for _ in range(n)])
    costs, out = rng.exponential(size=n * partners), np.full(n, 2.0)
    whole = one_to_one_sparse(starts, columns, costs, out, m)
    pauses: list[None] = []
    monkeypatch.setattr(slices, "SLICE_PAIRS", 1)
    with slices.sliced(lambda: pauses.append(None)):
        parts = one_to_one_sparse(starts, columns, costs, out, m)
    assert parts.tolist() == whole.tolist()
    assert len(pauses) == n - 1


def alone(match: NDArray[np.int64]) -> bool:
    taken = match[match >= 0]
    return len(set(taken.tolist())) == len(taken)


@pytest.mark.parametrize("weight", [0.0, 0.2, "auto"])
@pytest.mark.parametrize("normalize", ["rows", "columns", "sinkhorn"])
@pytest.mark.parametrize("kind", ["rigid", "affine"])
def test_no_target_is_matched_twice(weight: Any, normalize: Any, kind: Transform) -> None:
    if normalize == "sinkhorn" and weight == 0:
        normalize = "rows"
    twice = 0
    for source_only, target_only in ((0, 0), (15, 5), (5, 15)):
        instance = noisy(1, source_only=source_only, target_only=target_only)
        problem = tight(
            instance.source, instance.target, transform=kind, init=instance.pose, normalize=normalize,
            outlier_weight=weight, responsibilities=True,
        )  # fmt: skip
        nearest, best = register(problem), register(problem._replace(matching="one_to_one"))
        twice += not alone(nearest.matching)
        assert alone(best.matching)
        if weight == 0:
            assert (best.matching >= 0).sum() == min(len(instance.source), len(instance.target))
        assert best.responsibilities is not None
        chosen = best.responsibilities[np.arange(len(best.matching)), np.maximum(best.matching, 0)]
        expected = np.where(best.matching >= 0, np.minimum(chosen, 1), 0.0)
        np.testing.assert_allclose(best.matching_probability, expected, rtol=1e-9, atol=1e-12)
    assert twice


def test_one_to_one_is_the_cheapest_injection_with_unmatched_points() -> None:
    """Brute force over all ways to match four points with three targets, each with a way out."""
    rng = np.random.default_rng(0)
    costs, out = rng.exponential(size=(4, 3)), np.full(4, 0.7)
    starts, columns = np.arange(5) * 3, np.tile(np.arange(3), 4)
    match = one_to_one_sparse(starts, columns, costs.ravel(), out, 3)
    ways = [
        way
        for way in itertools.product((-1, 0, 1, 2), repeat=4)
        if len({j for j in way if j >= 0}) == sum(j >= 0 for j in way)
    ]
    best = min(ways, key=lambda way: sum(out[i] if j < 0 else costs[i, j] for i, j in enumerate(way)))
    assert match.tolist() == list(best)
    assert cost_of_none(np.exp(-3.0)) == pytest.approx(3)


@pytest.mark.parametrize("matching", ["nearest", "one_to_one"])
def test_outliers_are_left_alone(matching: Any) -> None:
    instance = posed(40, source_only=12, sigma=0.004, angle=0.3, seed=2)
    source = np.concatenate([instance.source[:12] + 3, instance.source[12:]])
    problem = tight(source, instance.target, transform="rigid", init=instance.pose, matching=matching)
    outcome = register(problem)
    assert np.array_equal(outcome.matching, instance.partner)
    assert (outcome.matching_probability[:12] == 0).all()


def test_large_clouds_are_matched_as_small_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for n_extra, m_extra in ((0, 0), (20, 0), (0, 20)):
        instance = posed(150, source_only=n_extra, target_only=m_extra, sigma=0.02, angle=0.2, seed=3)
        problem = tight(
            instance.source, instance.target, transform="rigid", init=instance.pose, outlier_weight=0.0,
            matching="one_to_one",
        )  # fmt: skip
        dense = register(problem)
        with monkeypatch.context() as patched:
            patched.setattr(correspondence, "DENSE_PAIRS", 0)
            sparse = register(problem)
        both = (dense.matching >= 0) & (sparse.matching >= 0)
        assert alone(sparse.matching)
        assert (dense.matching == sparse.matching)[both].mean() > 0.97
        assert (sparse.matching >= 0).sum() >= 0.97 * (dense.matching >= 0).sum()


@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine"])
def test_refine_gives_the_least_squares_fit_of_the_matched_pairs(kind: Transform) -> None:
    instance = posed(60, kind=kind, sigma=0.03, angle=0.3, seed=4)
    problem = tight(
        instance.source, instance.target, transform=kind, init=instance.pose, matching="one_to_one", refine=True
    )
    outcome = register(problem)
    assert outcome.linear is not None
    rows = np.flatnonzero(outcome.matching >= 0)
    p, q = instance.source[rows], instance.target[outcome.matching[rows]]
    if kind == "affine":
        h = np.hstack([p, np.ones((len(p), 1))])
        expected = np.linalg.lstsq(h, q)[0].T
        A, T = expected[:, :3], expected[:, 3]
    else:
        x, y = p - p.mean(0), q - q.mean(0)
        u, s, vt = np.linalg.svd(y.T @ x)
        assert np.linalg.det(u @ vt) > 0
        A = u @ vt * (s.sum() / np.square(x).sum() if kind == "similarity" else 1)
        T = q.mean(0) - A @ p.mean(0)
    np.testing.assert_allclose(outcome.linear, A, rtol=0, atol=1e-9)
    np.testing.assert_allclose(outcome.translation, T, rtol=0, atol=1e-9)


def test_under_a_bijection_a_refined_translation_is_the_difference_of_the_means() -> None:
    instance = translations.bijection(80, 3, sigma=0.02, shift=0.3)
    problem = tight(instance.source, instance.target, sigma=0.05, matching="one_to_one", refine=True)
    oracle = instance.target.mean(0) - instance.source.mean(0)
    for prior in ("free", "uniform", "mixing"):
        outcome = register(problem._replace(prior=prior))
        np.testing.assert_allclose(outcome.translation, oracle, rtol=0, atol=1e-12)


def test_zeros_of_a_prior_forbid_their_pairs() -> None:
    instance = posed(30, sigma=0.01, angle=0.2, seed=5)
    allowed = np.random.default_rng(0).random((30, 30)) < 0.5
    allowed[np.arange(30), (instance.partner + 1) % 30] = True
    prior = allowed / allowed.sum(1, keepdims=True)
    problem = tight(
        instance.source, instance.target, transform="rigid", prior=prior, init=instance.pose, sigma=0.1,
        outlier_weight=0.0, responsibilities=True,
    )  # fmt: skip
    for matching in ("nearest", "one_to_one"):
        outcome = register(problem._replace(matching=matching))
        assert outcome.responsibilities is not None
        assert (outcome.responsibilities[~allowed] == 0).all()
        np.testing.assert_allclose(outcome.responsibilities.sum(1), np.ones(30))
        if matching == "nearest":
            assert allowed[np.arange(30), outcome.matching].all()
    even = np.full((30, 30), 1 / 30)
    plain, given = register(problem._replace(prior="uniform")), register(problem._replace(prior=even))
    assert given.linear is not None
    assert plain.linear is not None
    np.testing.assert_allclose(given.linear, plain.linear, rtol=0, atol=1e-6)
    assert given.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-6)


def test_a_permutation_as_prior_gives_the_answer_of_known_pairs_at_once() -> None:
    instance = posed(30, sigma=0.05, angle=2.5, seed=6)
    prior = np.eye(30)[instance.partner]
    away = Pose(np.eye(3), np.full(3, 0.2))
    outcome = register(
        tight(
            instance.source,
            instance.target,
            transform="rigid",
            prior=prior,
            init=away,
            sigma=0.5,
            outlier_weight=0.0,
            max_iterations=1,
        )
    )
    x, y = instance.source, instance.target[instance.partner]
    u, _, vt = np.linalg.svd((y - y.mean(0)).T @ (x - x.mean(0)))
    assert outcome.linear is not None
    np.testing.assert_allclose(outcome.linear, u @ vt, rtol=0, atol=1e-10)
    assert np.array_equal(outcome.matching, instance.partner)


def test_the_registration_of_a_cancelled_job_stops() -> None:
    instance = posed(60, sigma=0.02, seed=7)
    for kind in ("rigid", "affine", "nonrigid"):
        job = registration(tight(instance.source, instance.target, transform=kind))
        cancel(job)
        (outcome,) = EmWorker()([job])
        assert isinstance(outcome, Outcome)
        assert (outcome.stop_reason, outcome.converged) == ("cancelled", False)
        assert outcome.registered is None
    polls = iter([False] * 6 + [True])
    problem = tight(instance.source, instance.target, transform="rigid", init="identity", tolerance=0, trace=True)
    stopped, mate = register_batch([problem._replace(cancelled=lambda: next(polls)), problem])
    assert stopped.stop_reason == "cancelled"
    assert mate.stop_reason == "max_iterations"


def test_poses_are_computed_one_by_one_and_cost_what_their_neighbours_cost() -> None:
    def large(n: int, **options: Any) -> Problem:
        return tight(*np.random.default_rng(0).random((2, n, 3)), **options)

    one, other = (registration(large(50, transform="rigid")) for _ in range(2))
    assert key(one) != key(other)
    assert key(registration(large(50))) == key(registration(large(50)))
    small, many = (registration(large(n, transform="rigid")) for n in (10_000, 100_000))
    assert cost(many) == pytest.approx(10 * cost(small))
    assert cost(many) < 2e-2 * 100_000**2
    # A kernel as wide as the cloud reaches all points.
    wide = registration(large(10_000, transform="rigid", sigma=1.0))
    assert cost(wide) == pytest.approx(20_000 * 10_000)
    assert effort(wide) > effort(small)
    longer = registration(small.plan.problem._replace(max_iterations=10_000))
    assert effort(longer) > 10 * effort(small)


def log_weights(problem: Problem, outcome: Outcome, prior: Float64) -> Float64:
    """log(Π_ij exp(-‖x_i - y_j‖²/2σ²)) at the outcome, up to a constant."""
    assert outcome.linear is not None
    x = problem.source @ outcome.linear.T + outcome.translation
    return np.log(prior) - cdist(x, problem.target) ** 2 / (2 * outcome.sigma**2)


def gained(weights: Float64, match: NDArray[np.int64], unmatched: float = 0.0) -> float:
    """Σ log w_i,match(i), and `unmatched` for each point without a partner."""
    taken = match >= 0
    return float(weights[taken, match[taken]].sum()) + unmatched * int((~taken).sum())


@pytest.mark.parametrize("extra", [(12, 0), (0, 12), (0, 0)])
def test_a_prior_matrix_counts_in_a_matching_one_to_one(extra: tuple[int, int]) -> None:
    instance = noisy(3, source_only=extra[0], target_only=extra[1])
    n, m = len(instance.source), len(instance.target)
    prior = np.random.default_rng(0).dirichlet(np.full(m, 0.3), n)
    prior = (prior + 1e-6) / (prior + 1e-6).sum(1, keepdims=True)
    problem = tight(
        instance.source, instance.target, transform="rigid", init=instance.pose, prior=prior, outlier_weight=0.0,
        matching="one_to_one", tolerance=1e-10, max_iterations=400,
    )  # fmt: skip
    outcome = register(problem)
    weights = log_weights(problem, outcome, prior)
    rows, columns = linear_sum_assignment(-weights)
    best = np.full(n, UNMATCHED)
    best[rows] = columns
    assert alone(outcome.matching)
    assert gained(weights, outcome.matching) == pytest.approx(gained(weights, best), abs=1e-3)


def test_a_prior_matrix_with_outliers_leaves_points_without_a_partner() -> None:
    instance = noisy(4, source_only=15)
    n, m = len(instance.source), len(instance.target)
    problem = tight(
        instance.source, instance.target, transform="rigid", init=instance.pose, matching="one_to_one",
        prior=np.full((n, m), 1 / m), outlier_weight=0.3,
    )  # fmt: skip
    given, even = register(problem), register(problem._replace(prior="uniform"))
    assert 0 < (given.matching == UNMATCHED).sum() < n
    assert (given.matching == even.matching).mean() > 0.9


@pytest.mark.parametrize(("normalize", "extra"), [("rows", (0, 12)), ("columns", (12, 0))])
def test_mixing_weights_count_in_a_matching_one_to_one(normalize: Any, extra: tuple[int, int]) -> None:
    instance = noisy(5, source_only=extra[0], target_only=extra[1])
    problem = tight(
        instance.source, instance.target, transform="rigid", init=instance.pose, prior="mixing", normalize=normalize,
        outlier_weight=0.0, matching="one_to_one", responsibilities=True, max_iterations=4,
    )  # fmt: skip
    outcome = register(problem)
    assert outcome.responsibilities is not None
    # Everybody in the smaller cloud is matched, so that its normalisers change nothing, and the weights do.
    logs = np.log(outcome.responsibilities)
    rows, columns = linear_sum_assignment(-logs)
    assert gained(logs, outcome.matching) == pytest.approx(float(logs[rows, columns].sum()))


def test_a_trace_ends_before_the_refinement_and_never_falls() -> None:
    for options in ({"prior": "free", "sigma": 0.06}, {"outlier_weight": 0.1}):
        instance = noisy(6)
        problem = tight(instance.source, instance.target, transform="rigid", init=instance.pose, trace=True, **options)
        plain, refined = register(problem), register(problem._replace(refine=True))
        assert plain.trace is not None
        assert refined.trace is not None
        assert refined.trace.log_likelihood == pytest.approx(plain.trace.log_likelihood, abs=1e-9)
        assert np.array_equal(refined.trace.translation, plain.trace.translation)
        assert (np.diff(refined.trace.log_likelihood) >= -1e-9).all()
        assert not np.array_equal(refined.translation, plain.translation)
