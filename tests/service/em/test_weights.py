"""Weights of single points: their likelihood with all N x M terms, equal weights, weights of 0, and repeated points."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from service.em.checks import check
from service.em.choices import Normalize, Transform
from service.em.climbing.mixture import Mixture
from service.em.coordinates import frame
from service.em.kernel.fitting import fit
from service.em.model import Known, Model, Parameters
from service.em.outcome import Outcome
from service.em.problem import Pose, Problem
from service.em.register import register
from service.em.weights import effective_count, importance
from service.errors import InvalidInput
from tests.problems.clouds import linear, log_terms, moved, pose_of, posed
from tests.problems.codes import CODES
from tests.service.em.test_climb import directions
from tests.service.em.test_fitting import sums as direct_sums

Float64 = NDArray[np.float64]
ROOM = 3.0
NORMALIZES: list[Normalize] = ["rows", "columns"]


def random_weights(count: int, seed: int = 0) -> Float64:
    return np.random.default_rng(seed).gamma(2.0, size=count)


def scene(**options: Any) -> Problem:
    """A rigid pair in which some points of either cloud have no partner, and a weight for each point."""
    pair = posed(60, source_only=12, target_only=15, sigma=0.01, angle=0.4, shift=0.1, seed=3)
    weights = {"source_weights": random_weights(72, 1), "target_weights": random_weights(75, 2)}
    return Problem(pair.source, pair.target, **{"transform": "rigid", **weights, **options})


def same_fit(one: Outcome, other: Outcome) -> bool:
    """Whether two answers have the same bits, but for their points."""
    return np.array_equal(numbers(one), numbers(other)) and one.iterations == other.iterations


def numbers(out: Outcome) -> Float64:
    """The numbers of the fit."""
    A = np.eye(len(out.translation)) if out.linear is None else out.linear
    return np.array([*out.translation, *A.ravel(), out.sigma, out.log_likelihood, out.outlier_weight])


@pytest.mark.parametrize("normalize", NORMALIZES)
@pytest.mark.parametrize("transform", ["translation", "rigid", "affine"])
def test_equal_weights_give_the_answer_without_weights(normalize: Normalize, transform: Transform) -> None:
    plain = scene(transform=transform, normalize=normalize, source_weights=None, target_weights=None, init="identity")
    equal = plain._replace(source_weights=np.full(72, 0.3), target_weights=np.full(75, 7))
    assert same_fit(register(equal), register(plain))


@pytest.mark.parametrize("normalize", NORMALIZES)
@pytest.mark.parametrize("transform", ["translation", "rigid", "similarity", "affine"])
@pytest.mark.parametrize("outliers", [0.0, "auto"])
def test_a_weight_of_zero_leaves_the_point_out_of_the_fit(
    normalize: Normalize, transform: Transform, outliers: Any
) -> None:
    whole = scene(transform=transform, normalize=normalize, init="identity", registered=True, outlier_weight=outliers)
    source, target = np.arange(72) % 5 > 0, np.arange(75) % 7 > 0
    assert whole.source_weights is not None
    assert whole.target_weights is not None
    zero = whole._replace(source_weights=source * whole.source_weights, target_weights=target * whole.target_weights)
    without = whole._replace(
        source=whole.source[source],
        target=whole.target[target],
        source_weights=whole.source_weights[source],
        target_weights=whole.target_weights[target],
    )
    answer, expected = register(zero), register(without)
    assert same_fit(answer, expected)
    places = np.append(np.flatnonzero(target), -1)
    assert np.array_equal(answer.matching[source], places[expected.matching])
    assert answer.registered is not None
    assert expected.registered is not None
    assert np.array_equal(answer.registered[source], expected.registered)
    A = np.eye(3) if answer.linear is None else answer.linear
    assert answer.registered == pytest.approx(whole.source @ A.T + answer.translation, abs=1e-12)


def test_a_source_point_of_weight_zero_is_matched_where_it_lies() -> None:
    pair = posed(60, source_only=12, target_only=15, sigma=0.003, angle=0.4, shift=0.1, seed=3)
    weights = np.ones(72)
    weights[::3] = 0
    for normalize in NORMALIZES:
        problem = Problem(pair.source, pair.target, transform="rigid", normalize=normalize, source_weights=weights)
        answer = register(problem._replace(responsibilities=True))
        assert answer.outlier_probability is not None
        assert answer.responsibilities is not None
        # Of the points without a weight those with a partner have it, the others have none.
        assert np.array_equal(answer.matching[::3], pair.partner[::3])
        partnered = pair.partner[::3] >= 0
        assert (answer.outlier_probability[::3] < 0.5).tolist() == partnered.tolist()
        R = answer.responsibilities[::3]
        assert R.sum(1) == pytest.approx(1 - answer.outlier_probability[::3], abs=1e-9)
        found = R[partnered, pair.partner[::3][partnered]]
        assert found == pytest.approx(answer.matching_probability[::3][partnered], abs=1e-9)


def test_one_to_one_gives_a_point_of_weight_zero_no_target_of_another_point() -> None:
    pair = posed(40, sigma=0.001, angle=0.2, shift=0.1, seed=5)
    source = np.vstack([pair.source, pair.source[:6] + 1e-4, pair.source[:6] - 2e-4])
    weights = np.append(np.ones(40), np.zeros(12))
    # Two targets lose their source points: of the two copies of each, the nearer one takes the place.
    weights[:2] = 0
    source[:2] += 10.0
    problem = Problem(source, pair.target, transform="rigid", source_weights=weights, matching="one_to_one")
    answer = register(problem)
    assert np.array_equal(answer.matching[2:40], pair.partner[2:])
    assert answer.matching[:2].tolist() == [-1, -1]
    assert answer.matching[40:42].tolist() == pair.partner[:2].tolist()
    assert answer.matching[42:].tolist() == [-1] * 10


def test_a_target_of_weight_zero_is_no_ones_partner() -> None:
    pair = posed(50, sigma=0.005, angle=0.3, shift=0.1, seed=4)
    for normalize in NORMALIZES:
        weights = np.ones(50)
        weights[pair.partner[:5]] = 0
        problem = Problem(pair.source, pair.target, transform="rigid", normalize=normalize, target_weights=weights)
        answer = register(problem)
        assert answer.matching[:5].tolist() == [-1] * 5
        assert np.array_equal(answer.matching[5:], pair.partner[5:])


def test_all_points_are_used_with_isotropic_noise() -> None:
    rng = np.random.default_rng(0)
    # The density of a wall grows along it, so that it would be thinned and taken for a surface.
    wall = np.stack([rng.uniform(size=6000) ** 4 * 10, rng.uniform(size=6000), 0.001 * rng.normal(size=6000)], 1)
    plain = Problem(wall, wall[::-1] + 0.01, transform="rigid", init="identity", max_iterations=2)
    assert (register(plain).noise, register(plain).sampling is None) != ("isotropic", True)
    some = np.arange(6000.0) % 3
    for options in (
        {"source_weights": some},
        {"target_weights": np.minimum(some, 1)},
        {"pairs": np.array([[0.0, 5999.0]])},
    ):
        answer = register(plain._replace(**options))
        assert (answer.noise, answer.sampling) == ("isotropic", None)


@pytest.mark.parametrize("normalize", NORMALIZES)
def test_the_answer_does_not_depend_on_the_unit_of_the_weights(normalize: Normalize) -> None:
    problem = scene(normalize=normalize, init="identity")
    assert problem.source_weights is not None
    assert problem.target_weights is not None
    scaled = problem._replace(
        source_weights=1024.0 * problem.source_weights, target_weights=problem.target_weights / 4096.0
    )
    assert same_fit(register(scaled), register(problem))


def terms(
    points: Any, transform: Float64, sigma: float, normalize: Normalize, share: Float64, outliers: float
) -> tuple[Float64, Float64]:
    """log((1 - w) π N) of each pair and log(w / V), data by components, (n, m) and (n, 1)."""
    D = points.dimension
    x = torch.from_numpy(np.ascontiguousarray((transform[:, :D] @ points.source[:D] + transform[:, D:]).T))
    y = torch.from_numpy(np.ascontiguousarray(points.target[:D].T))
    x, y = (y, x) if normalize == "columns" else (x, y)
    logs = log_terms(x, y, torch.tensor(sigma, dtype=torch.float64), D).numpy()
    none = math.log(outliers / ROOM) if outliers > 0 else -math.inf
    return logs + np.log(share) + math.log(1 - outliers), np.full((len(x), 1), none)


@pytest.mark.parametrize("normalize", NORMALIZES)
@pytest.mark.parametrize("outliers", [0.0, 0.15])
@pytest.mark.parametrize(("n", "m", "dimension"), [(30, 40, 2), (40, 30, 3), (25, 25, 5), (900, 800, 3)])
@pytest.mark.parametrize("kind", ["translation", "affine"])
def test_a_step_equals_that_of_the_explicit_mixture(
    normalize: Normalize, outliers: float, n: int, m: int, dimension: int, kind: str
) -> None:
    D, sigma = dimension, 0.3 if n < 100 else 0.05
    rng = np.random.default_rng(n)
    points = frame(rng.normal(size=(n, D)), rng.normal(size=(m, D)), one_unit=False)
    data, components = (m, n) if normalize == "columns" else (n, m)
    alpha, share = random_weights(data, 5), random_weights(components, 6)
    share /= share.sum()
    model = Model(CODES[kind], normalize, estimate_outliers=outliers > 0, known=Known(alpha))
    at = Parameters(np.eye(D, D + 1) + 0.2 * rng.normal(size=(D, D + 1)), sigma, outliers, share)
    step = Mixture(points, model, ROOM).step(at)
    pairs, none = terms(points, at.transform, sigma, normalize, share, outliers)
    R = softmax(np.hstack([pairs, none]), 1)[:, :-1] * alpha[:, None]
    value = float(alpha @ np.logaddexp.reduce(np.hstack([pairs, none]), 1))
    assert step.log_likelihood == pytest.approx(value, rel=1e-11)
    assert step.matched == pytest.approx(R.sum(), rel=1e-11)
    R = R.T if normalize == "columns" else R
    expected = direct_sums(points.source[:D], points.target[:D], R, at.transform)
    after = fit(CODES[kind], at.transform, expected)
    assert step.after.transform == pytest.approx(after, rel=1e-9, abs=1e-9)
    assert step.sums.residual == pytest.approx(expected.residual, rel=1e-10)
    assert step.sums.across == pytest.approx(expected.across, rel=1e-10, abs=1e-10)
    if kind == "affine":
        assert step.sums.within == pytest.approx(expected.within, rel=1e-10, abs=1e-10)
    x = after[:, :D] @ points.source[:D] + after[:, D:]
    squares = ((x[:, :, None] - points.target[:D][:, None, :]) ** 2).sum(0)
    assert step.after.sigma == pytest.approx(math.sqrt((R * squares).sum() / (R.sum() * D)), rel=1e-8)
    if outliers > 0:
        assert step.after.outliers == pytest.approx(min(1 - R.sum() / alpha.sum(), 0.95), rel=1e-9)
    assert np.array_equal(step.after.weights, share)


@pytest.mark.parametrize("kind", ["translation", "rigid", "similarity", "affine"])
@pytest.mark.parametrize("normalize", NORMALIZES)
def test_the_information_is_minus_the_hessian(kind: Transform, normalize: Normalize) -> None:
    D, n, m, sigma, outliers = 3, 20, 25, 0.25, 0.2
    rng = np.random.default_rng(7)
    points = frame(rng.normal(size=(n, D)), rng.normal(size=(m, D)), one_unit=True)
    transform = np.hstack([linear(kind, D, 0.4, rng), 0.1 * rng.normal(size=(D, 1))])
    data, components = (m, n) if normalize == "columns" else (n, m)
    alpha, share = random_weights(data, 5), random_weights(components, 6)
    share /= share.sum()
    at = Parameters(transform, sigma, outliers, share)
    mixture = Mixture(points, Model(CODES[kind], normalize, known=Known(alpha)), ROOM)
    found, value = mixture.measure(at)
    p, q = (torch.from_numpy(np.ascontiguousarray(cloud[:D].T)) for cloud in (points.source, points.target))
    A, T = torch.from_numpy(transform[:, :D].copy()), torch.from_numpy(transform[:, D].copy())
    basis = directions(kind, D)
    K = len(basis)

    def likelihood(theta: Tensor) -> Tensor:
        B = (theta[:K, None, None] * basis).sum(0)
        turn = torch.eye(D, dtype=torch.float64) + B
        if kind in {"rigid", "similarity"}:
            turn = turn + B @ B / 2  # exp to second order
        x, y = (p @ A.T + T) @ turn.T + theta[K : K + D], q
        x, y = (y, x) if normalize == "columns" else (x, y)
        logs = log_terms(x, y, sigma * torch.exp(theta[-1]), D) + torch.from_numpy(np.log(share))
        bins = torch.full((data, 1), math.log(outliers / ROOM), dtype=torch.float64)
        every = torch.logsumexp(torch.cat([logs + math.log(1 - outliers), bins], 1), 1)
        return torch.from_numpy(alpha) @ every

    zero = torch.zeros(K + D + 1, dtype=torch.float64)
    expected = -torch.autograd.functional.hessian(likelihood, zero)  # type: ignore[no-untyped-call]
    assert value == pytest.approx(likelihood(zero).item(), rel=1e-10)
    assert found == pytest.approx(expected.numpy(), rel=1e-8, abs=1e-8 * expected.abs().max().item())


@pytest.mark.parametrize("normalize", NORMALIZES)
def test_whole_weights_give_the_fit_of_repeated_points(normalize: Normalize) -> None:
    source, target, *_ = scene()
    one, other = np.arange(72) % 3 + 1, np.arange(75) % 2 + 1
    options: dict[str, Any] = {"transform": "rigid", "normalize": normalize, "init": "identity", "tolerance": 1e-9}
    # One value for both: the bounds of w, and the spread that bounds σ, are those of the points.
    options |= {"outlier_weight": 0.2, "max_iterations": 2000}
    weighted = register(
        Problem(source, target, source_weights=one.astype(float), target_weights=other.astype(float), **options)
    )
    repeated = register(Problem(np.repeat(source, one, 0), np.repeat(target, other, 0), **options))
    assert weighted.linear == pytest.approx(repeated.linear, abs=1e-7)
    assert weighted.translation == pytest.approx(repeated.translation, abs=1e-7)
    assert weighted.sigma == pytest.approx(repeated.sigma, rel=1e-5)


@pytest.mark.parametrize("transform", ["translation", "rigid"])
@pytest.mark.parametrize("normalize", NORMALIZES)
def test_the_likelihood_of_the_trace_never_falls_and_ends_at_the_answer(
    transform: Transform, normalize: Normalize
) -> None:
    answer = register(scene(transform=transform, normalize=normalize, trace=True, init="identity"))
    assert answer.trace is not None
    values = answer.trace.log_likelihood
    assert (np.diff(values) > -1e-9 * np.abs(values).max()).all()
    assert values[-1] == pytest.approx(answer.log_likelihood, rel=1e-12)


def test_unsure_points_that_are_wrong_pull_less() -> None:
    pair = posed(80, sigma=0.005, angle=0.3, shift=0.1, seed=8)
    source = pair.source.copy()
    source[:30] += [0.02, 0.0, 0.0]
    weights = np.where(np.arange(80) < 30, 0.01, 1.0)
    options: dict[str, Any] = {"transform": "rigid", "init": "identity", "outlier_weight": 0.0}
    found = [register(Problem(source, pair.target, source_weights=given, **options)) for given in (weights, None)]
    errors = [np.linalg.norm(moved(pair.source, pose_of(out)) - moved(pair.source, pair.pose)) for out in found]
    assert errors[0] < 0.5 * errors[1]


def test_refinement_fits_the_matched_pairs_by_their_weights() -> None:
    for normalize in NORMALIZES:
        answer = register(scene(normalize=normalize, refine=True, init=Pose(np.eye(3), np.zeros(3))))
        problem = scene()
        has = answer.matching >= 0
        assert problem.source_weights is not None
        assert problem.target_weights is not None
        weights = problem.target_weights[answer.matching] if normalize == "columns" else problem.source_weights
        assert answer.linear is not None
        shift = problem.target[answer.matching] - problem.source @ answer.linear.T - answer.translation
        # At the weighted least squares the residuals have no mean, and no moment about the source.
        pull = (weights[:, None] * shift)[has]
        assert pull.sum(0) == pytest.approx(np.zeros(3), abs=1e-10)
        moved = problem.source[has] @ answer.linear.T
        assert np.cross(moved, pull).sum(0) == pytest.approx(np.zeros(3), abs=1e-10)


def test_the_sum_of_the_weights_is_the_effective_number_of_points() -> None:
    problem = check(scene())
    raw = random_weights(72, 1)
    alpha = importance(problem)
    assert alpha is not None
    assert alpha / alpha.sum() == pytest.approx(raw / raw.sum(), rel=1e-13)
    assert effective_count(problem, 72) == pytest.approx(raw.sum() ** 2 / (raw**2).sum(), rel=1e-13)
    assert effective_count(problem._replace(source_weights=None), 72) == 72
    halves = check(problem._replace(source_weights=(np.arange(72) % 2).astype(float)))
    assert effective_count(halves, 72) == 36


def test_tiny_weights_are_nearly_weights_of_zero() -> None:
    problem = scene(init="identity", outlier_weight=0.1)
    few = np.arange(72) % 4 > 0
    zero, tiny = (register(problem._replace(source_weights=np.where(few, 1.0, low))) for low in (0.0, 1e-9))
    assert zero.translation_covariance is not None
    assert tiny.translation_covariance == pytest.approx(zero.translation_covariance, rel=1e-3)
    assert tiny.translation == pytest.approx(zero.translation, abs=1e-3 * zero.sigma)
    assert tiny.log_likelihood == pytest.approx(zero.log_likelihood, rel=1e-4)


def test_regions_of_the_translation_hold_the_truth_if_weights_do_not_depend_on_the_noise() -> None:
    inside, count = 0, 400
    for seed in range(count):
        rng = np.random.default_rng(seed)
        source = 2.0 * rng.permutation(np.stack(np.meshgrid(*[np.arange(5.0)] * 2), -1).reshape(-1, 2))
        target = rng.permutation(source + [0.3, -0.2] + 0.1 * rng.normal(size=source.shape))
        weights = rng.gamma(1.0, size=25)
        answer = register(Problem(source, target, source_weights=weights, init="identity"))
        off, covariance = answer.translation - [0.3, -0.2], answer.translation_covariance
        assert covariance is not None
        inside += int(off @ np.linalg.solve(covariance, off) < 5.991)  # 95 % of χ² with two degrees of freedom
    # Half as many effective points as points: with Σα = N the region would hold 78 %.
    assert 0.92 < inside / count < 0.975


BAD: list[tuple[str, dict[str, Any]]] = [
    ("/source_weights", {"source_weights": np.ones(3)}),
    ("/target_weights", {"target_weights": np.ones((75, 1))}),
    ("/source_weights/2", {"source_weights": np.where(np.arange(72) == 2, -1.0, 1.0)}),
    ("/source_weights/5", {"source_weights": np.where(np.arange(72) == 5, math.nan, 1.0)}),
    ("/target_weights/7", {"target_weights": np.where(np.arange(75) == 7, math.inf, 1.0)}),
    ("/target_weights", {"target_weights": np.zeros(75)}),
    ("/source_weights", {"source_weights": np.full(72, "a")}),
    ("/source_weights", {"prior": "mixing"}),
    ("/sampling", {"sampling": 0.1}),
    ("/noise", {"noise": "surface"}),
    ("/source_weights", {"normalize": "sinkhorn"}),
    ("/source_weights", {"prior": "free"}),
    ("/source_weights", {"prior": np.full((72, 75), 1 / 75)}),
    ("/source_weights", {"transform": "nonrigid", "source_weights": np.arange(72)}),
]


@pytest.mark.parametrize(("pointer", "options"), BAD)
def test_weights_that_are_none_or_go_with_no_other_option_are_refused(pointer: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        register(scene(**options))
    assert caught.value.pointer == pointer


def test_both_faulty_weights_are_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        register(scene(source_weights=np.ones(1), target_weights=np.ones(1)))
    assert [caught.value.pointer, *(one.pointer for one in caught.value.others)] == [
        "/source_weights",
        "/target_weights",
    ]


def test_equal_weights_go_with_every_option() -> None:
    for options in ({"prior": "free"}, {"prior": "mixing"}, {"normalize": "sinkhorn"}):
        register(scene(source_weights=np.ones(72), target_weights=np.full(75, 2.0), init="identity", **options))


def test_a_fault_of_a_point_names_its_index_among_all_points() -> None:
    problem = scene(source_weights=np.append([0.0, 0.0, 0.0], np.ones(69)), target_weights=None)
    source = problem.source.copy()
    source[9] = 1e70
    with pytest.raises(InvalidInput) as caught:
        register(problem._replace(source=source))
    assert caught.value.pointer == "/source/9"


def test_points_of_positive_weight_must_determine_the_transform() -> None:
    problem = scene(source_weights=(np.arange(72) < 1).astype(float), target_weights=None)
    with pytest.raises(InvalidInput, match="undetermined"):
        register(problem)
