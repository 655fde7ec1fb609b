"""Known pairs: their likelihood with all N x M terms, what they fix, what they start, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from service.em.choices import Matching, Normalize, Transform
from service.em.climbing.mixture import Mixture
from service.em.coordinates import Frame, frame
from service.em.kernel.fitting import fit
from service.em.model import Known, Model, Parameters
from service.em.problem import Problem
from service.em.register import register
from service.errors import InvalidInput
from tests.problems.clouds import angle_between, linear, log_terms, moved, pose_of, posed
from tests.problems.codes import CODES
from tests.service.em.test_climb import directions
from tests.service.em.test_fitting import sums as direct_sums

Float64 = NDArray[np.float64]
ROOM = 3.0
NORMALIZES: list[Normalize] = ["rows", "columns"]
# Data points, their components, and the strengths of the pairs: two exact ones, two weak and a strong one.
DATA, COMPONENTS, STRENGTHS = [3, 11, 7, 15, 0], [9, 2, 12, 5, 6], [math.inf, math.inf, 1.5, 4.0, 60.0]


def known(alpha: Float64) -> Known:
    return Known(alpha, np.array(DATA), np.array(COMPONENTS), np.array(STRENGTHS))


def log_prior(count: int, share: Float64) -> Float64:
    """log Π (n, m): π, with the prior of the soft pairs multiplied by e^s; an exact pair has the row of its π_j."""
    rows = np.tile(np.log(share), (count, 1))
    for i, j, s in zip(DATA, COMPONENTS, STRENGTHS, strict=True):
        if s < math.inf:
            rows[i, j] += s
            rows[i] -= np.logaddexp.reduce(rows[i])
        else:
            rows[i, np.arange(len(share)) != j] = -math.inf
    return rows


def data_and_components(points: Frame, x: Tensor, normalize: Normalize) -> tuple[Tensor, Tensor]:
    y = torch.from_numpy(np.ascontiguousarray(points.target[: points.dimension].T))
    return (y, x) if normalize == "columns" else (x, y)


def log_likelihoods(
    points: Frame, x: Tensor, sigma: Tensor, normalize: Normalize, share: Float64, outliers: float
) -> tuple[Tensor, Tensor]:
    """The terms log((1 - w) Π N) with the bin as the last column, and their sums by data points."""
    D = points.dimension
    data, components = data_and_components(points, x, normalize)
    prior = torch.from_numpy(log_prior(len(data), share))
    bins = torch.full((len(data), 1), math.log(outliers / ROOM) if outliers > 0 else -math.inf, dtype=torch.float64)
    bins[[i for i, s in zip(DATA, STRENGTHS, strict=True) if s == math.inf]] = -math.inf
    terms = torch.cat([prior + log_terms(data, components, sigma, D) + math.log(1 - outliers), bins], 1)
    return terms, torch.logsumexp(terms, 1)


def scene(n: int, m: int, dimension: int, normalize: Normalize) -> tuple[Frame, Float64, Float64]:
    rng = np.random.default_rng(n)
    points = frame(rng.normal(size=(n, dimension)), rng.normal(size=(m, dimension)), one_unit=False)
    data, components = (m, n) if normalize == "columns" else (n, m)
    share = rng.gamma(2.0, size=components)
    return points, rng.gamma(2.0, size=data), share / share.sum()


@pytest.mark.parametrize("normalize", NORMALIZES)
@pytest.mark.parametrize("outliers", [0.0, 0.15])
@pytest.mark.parametrize(("n", "m", "dimension"), [(30, 40, 2), (40, 30, 3), (25, 25, 5), (900, 800, 3)])
@pytest.mark.parametrize("kind", ["translation", "affine"])
def test_a_step_equals_that_of_the_explicit_mixture(
    normalize: Normalize, outliers: float, n: int, m: int, dimension: int, kind: str
) -> None:
    D, sigma = dimension, 0.3 if n < 100 else 0.05
    points, alpha, share = scene(n, m, D, normalize)
    rng = np.random.default_rng(1)
    at = Parameters(np.eye(D, D + 1) + 0.2 * rng.normal(size=(D, D + 1)), sigma, outliers, share)
    model = Model(CODES[kind], normalize, estimate_outliers=outliers > 0, known=known(alpha))
    mixture = Mixture(points, model, ROOM)
    step = mixture.step(at)
    x = torch.from_numpy(np.ascontiguousarray((at.transform[:, :D] @ points.source[:D] + at.transform[:, D:]).T))
    terms, value = log_likelihoods(points, x, torch.tensor(sigma, dtype=torch.float64), normalize, share, outliers)
    R = torch.softmax(terms, 1)[:, :-1].numpy()
    assert step.log_likelihood == pytest.approx(float(alpha @ value.numpy()), rel=1e-11)
    weighted = R * alpha[:, None]
    if normalize == "columns":
        R, weighted = R.T, weighted.T
    expected = direct_sums(points.source[:D], points.target[:D], weighted, at.transform)
    assert step.sums.residual == pytest.approx(expected.residual, rel=1e-10)
    assert step.sums.across == pytest.approx(expected.across, rel=1e-10, abs=1e-10)
    assert step.after.transform == pytest.approx(fit(CODES[kind], at.transform, expected), rel=1e-9, abs=1e-9)
    if outliers > 0:
        assert step.after.outliers == pytest.approx(min(1 - weighted.sum() / alpha.sum(), 0.95), rel=1e-9)
    view = mixture.view(step)
    # A source point that several targets are drawn from is matched with certainty at most.
    share = R.max(1) / np.maximum(R.sum(1), 1)
    if normalize == "columns":
        share[[j for j, s in zip(COMPONENTS, STRENGTHS, strict=True) if s == math.inf]] = 1.0
    assert view.peak == pytest.approx(share, abs=1e-9)
    found = np.take_along_axis(R, np.maximum(view.best, 0)[:, None], 1)[:, 0]
    assert found == pytest.approx(R.max(1), abs=1e-9)
    assert view.mass == pytest.approx(np.minimum(R.sum(1), 1), abs=1e-9)


@pytest.mark.parametrize("kind", ["translation", "rigid", "similarity", "affine"])
@pytest.mark.parametrize("normalize", NORMALIZES)
def test_the_information_is_minus_the_hessian(kind: Transform, normalize: Normalize) -> None:
    D, sigma, outliers = 3, 0.4, 0.2
    points, alpha, share = scene(20, 25, D, normalize)
    rng = np.random.default_rng(7)
    transform = np.hstack([linear(kind, D, 0.4, rng), 0.1 * rng.normal(size=(D, 1))])
    at = Parameters(transform, sigma, outliers, share)
    found, value = Mixture(points, Model(CODES[kind], normalize, known=known(alpha)), ROOM).measure(at)
    p = torch.from_numpy(np.ascontiguousarray(points.source[:D].T))
    A, T = torch.from_numpy(transform[:, :D].copy()), torch.from_numpy(transform[:, D].copy())
    basis = directions(kind, D)
    K = len(basis)

    def likelihood(theta: Tensor) -> Tensor:
        B = (theta[:K, None, None] * basis).sum(0)
        turn = torch.eye(D, dtype=torch.float64) + B
        if kind in {"rigid", "similarity"}:
            turn = turn + B @ B / 2  # exp to second order
        x = (p @ A.T + T) @ turn.T + theta[K : K + D]
        _, every = log_likelihoods(points, x, sigma * torch.exp(theta[-1]), normalize, share, outliers)
        return torch.from_numpy(alpha) @ every

    zero = torch.zeros(K + D + 1, dtype=torch.float64)
    assert value == pytest.approx(likelihood(zero).item(), rel=1e-10)
    expected = np.zeros_like(found)
    # Infinite terms of known pairs have no derivative by automatic differentiation: differences of the likelihood.
    h = 1e-3
    steps = h * np.eye(K + D + 1)
    for a in range(K + D + 1):
        for b in range(a + 1):
            signs = [(s, t) for s in (1, -1) for t in (1, -1)]
            four = [likelihood(torch.from_numpy(s * steps[a] + t * steps[b])).item() * s * t for s, t in signs]
            expected[a, b] = expected[b, a] = -sum(four) / (4 * h * h)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("normalize", NORMALIZES)
@pytest.mark.parametrize("matching", ["nearest", "one_to_one"])
@pytest.mark.parametrize("outliers", [0.0, "auto"])
def test_an_exact_pair_is_the_match_of_its_point(normalize: Normalize, matching: Matching, outliers: Any) -> None:
    pair = posed(60, source_only=12, target_only=15, sigma=0.01, angle=0.4, shift=0.1, seed=3)
    # Two true pairs, two that no data support, and one of a point without a partner.
    true = np.flatnonzero(pair.partner >= 0)[:2]
    free = np.setdiff1d(np.arange(75), pair.partner)
    wrong = np.flatnonzero(pair.partner >= 0)[[5, 9]]
    lone = np.flatnonzero(pair.partner < 0)[:1]
    i, j = np.concatenate([true, wrong, lone]), np.concatenate([pair.partner[true], free[[3, 7]], free[:1]])
    problem = Problem(
        pair.source,
        pair.target,
        transform="rigid",
        normalize=normalize,
        matching=matching,
        outlier_weight=outliers,
        init="identity",
        responsibilities=True,
        pairs=np.stack([i, j], 1).astype(float),
    )
    answer = register(problem)
    assert np.array_equal(answer.matching[i], j)
    assert answer.matching_probability[i] == pytest.approx(np.ones(5))
    R = answer.responsibilities
    assert R is not None
    assert R[i, j].tolist() == [1.0] * 5
    if normalize == "rows":
        assert R[i].sum(1).tolist() == [1.0] * 5
    else:
        assert R[:, j].sum(0).tolist() == [1.0] * 5
    if answer.outlier_probability is not None:
        assert answer.outlier_probability[i].tolist() == [0.0] * 5
    if matching == "one_to_one":
        matched = answer.matching[answer.matching >= 0]
        assert len(set(matched.tolist())) == len(matched)


@pytest.mark.parametrize("normalize", NORMALIZES)
@pytest.mark.parametrize("matching", ["nearest", "one_to_one"])
@pytest.mark.parametrize("outliers", [0.0, 0.1])
def test_a_strength_decides_between_near_components_only(
    normalize: Normalize, matching: Matching, outliers: float
) -> None:
    pair = posed(40, sigma=0.002, angle=0.2, shift=0.1, seed=5)
    # The component of one data point has a twin, a little farther off; that of another data point is far from others.
    data, components = pair.source, np.vstack([pair.target, pair.target[pair.partner[0]] + [0.004, 0.0, 0.0]])
    pairs = np.array([[0, 40, 8.0], [1, pair.partner[2], 8.0]])
    if normalize == "columns":
        data, components, pairs = components, data, pairs[:, [1, 0, 2]]
    problem = Problem(
        data,
        components,
        transform="rigid",
        init="identity",
        sigma=0.002,
        normalize=normalize,
        matching=matching,
        outlier_weight=outliers,
        responsibilities=True,
    )
    answers = []
    for given in (None, pairs):
        answer = register(problem._replace(pairs=given))
        assert answer.responsibilities is not None
        R = answer.responsibilities
        answers.append((R.T if normalize == "columns" else R).argmax(1)[:2].tolist())
        if normalize == "rows":
            assert answer.matching[:2].tolist() == answers[-1]
        elif matching == "one_to_one":
            assert answer.matching[answers[-1]].tolist() == [0, 1]
    assert answers == [pair.partner[:2].tolist(), [40, pair.partner[1]]]


def test_exact_pairs_find_a_pose_that_the_search_cannot_tell() -> None:
    # A square in the plane turned by 100°: four poses are equally likely, and two corners decide.
    side = np.linspace(-1, 1, 21)
    square = np.vstack([np.stack(p, 1) for p in ((side, side * 0 - 1), (side, side * 0 + 1))])
    square = np.vstack([square, square[:, ::-1]])
    angle = math.radians(100)
    A = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    target = square @ A.T + [3, -2]
    pairs = np.array([[0, 0], [20, 20]])
    answer = register(Problem(square, target, transform="rigid", pairs=pairs.astype(float)))
    assert answer.linear is not None
    assert angle_between(answer.linear, A) < 0.01
    assert answer.start == "pairs"
    without = register(Problem(square, target, transform="rigid"))
    assert without.linear is not None
    assert angle_between(without.linear, A) > 1


@pytest.mark.parametrize("transform", ["rigid", "similarity", "affine"])
def test_exact_pairs_start_a_pose_among_many_outliers(transform: Transform) -> None:
    pair = posed(60, kind=transform, source_only=90, target_only=90, sigma=0.002, angle=2.5, shift=3.0, seed=11)
    i = np.flatnonzero(pair.partner >= 0)[[0, 20, 40, 59]]
    pairs = np.stack([i, pair.partner[i]], 1).astype(float)
    answer = register(Problem(pair.source, pair.target, transform=transform, pairs=pairs))
    error = moved(pair.source, pose_of(answer)) - moved(pair.source, pair.pose)
    assert np.abs(error).max() < 0.02


def test_a_single_exact_pair_starts_a_translation() -> None:
    rng = np.random.default_rng(0)
    source = np.arange(12.0)[:, None]
    target = np.arange(24.0)[:, None] + 0.01 * rng.normal(size=(24, 1))
    for j in (3, 9):
        pairs = np.array([[0.0, j]])
        answer = register(Problem(source, target, outlier_weight=0.1, pairs=pairs))
        assert answer.translation[0] == pytest.approx(j, abs=0.05)


def test_pairs_of_large_clouds_keep_their_points_through_the_samples() -> None:
    rng = np.random.default_rng(4)
    source = rng.uniform(size=(21_000, 3))
    target = source[rng.permutation(21_000)] + 0.001 * rng.normal(size=(21_000, 3))
    i = np.array([5, 20_000, 777])
    # Beside each true partner, so that only the pair is a reason to match it.
    j = np.asarray(cKDTree(target).query(source[i], 3)[1])[:, 2]
    for normalize in NORMALIZES:
        problem = Problem(
            source, target, transform="rigid", init="identity", normalize=normalize, pairs=np.stack([i, j], 1) * 1.0
        )
        answer = register(problem)
        assert answer.matching[i].tolist() == j.tolist()
        assert np.abs(answer.translation).max() < 0.01


def test_weights_of_zero_leave_the_indices_of_pairs_as_they_are() -> None:
    pair = posed(50, sigma=0.005, angle=0.3, shift=0.1, seed=4)
    weights, target_weights = np.ones(50), np.ones(50)
    weights[:10] = 0
    unused = np.setdiff1d(np.arange(50), [7, 31])[:10]
    target_weights[unused] = 0
    pairs = np.array([[20.0, 7.0], [44.0, 31.0]])
    options: dict[str, Any] = {"source_weights": weights, "target_weights": target_weights, "pairs": pairs}
    answer = register(Problem(pair.source, pair.target, transform="rigid", init="identity", **options))
    assert answer.matching[[20, 44]].tolist() == [7, 31]


def test_no_pairs_give_the_answer_without_pairs() -> None:
    pair = posed(30, sigma=0.01, seed=2)
    one = register(Problem(pair.source, pair.target))
    other = register(Problem(pair.source, pair.target, pairs=np.empty((0, 2))))
    assert one.log_likelihood == other.log_likelihood
    assert np.array_equal(one.translation, other.translation)


POINTS = np.random.default_rng(0).uniform(size=(6, 3))
BAD: list[tuple[str, dict[str, Any]]] = [
    ("/pairs", {"pairs": np.arange(4)}),
    ("/pairs", {"pairs": np.ones((2, 4))}),
    ("/pairs", {"pairs": np.full((1, 2), "a")}),
    ("/pairs/1", {"pairs": [[0, 1], [6, 2]]}),
    ("/pairs/0", {"pairs": [[0, -1]]}),
    ("/pairs/0", {"pairs": [[0, 6]]}),
    ("/pairs/1", {"pairs": [[0, 1], [1, 0.5]]}),
    ("/pairs/1", {"pairs": [[0, 1], [1, math.nan]]}),
    ("/pairs/2", {"pairs": [[0, 1], [1, 2], [0, 3]]}),
    ("/pairs/1", {"pairs": [[0, 1, 2], [1, 2, 0]]}),
    ("/pairs/1", {"pairs": [[0, 1, 2], [1, 2, -3]]}),
    ("/pairs/0", {"pairs": [[0, 1, math.nan]]}),
    ("/pairs/1", {"pairs": [[0, 1], [1, 1]], "normalize": "columns"}),
    ("/pairs/1", {"pairs": [[0, 1, 1], [1, 1, 2]], "normalize": "columns"}),
    ("/pairs/1", {"pairs": [[0, 1], [1, 1]], "matching": "one_to_one"}),
    ("/pairs/0", {"pairs": [[0, 1]], "source_weights": np.array([0.0, 1, 1, 1, 1, 1])}),
    ("/pairs/0", {"pairs": [[0, 1]], "target_weights": np.array([1.0, 0, 1, 1, 1, 1])}),
    ("/pairs", {"pairs": [[0, 1]], "prior": "mixing"}),
    ("/pairs", {"pairs": [[0, 1]], "prior": "free"}),
    ("/pairs", {"pairs": [[0, 1]], "prior": np.full((6, 6), 1 / 6)}),
    ("/pairs", {"pairs": [[0, 1]], "normalize": "sinkhorn"}),
    ("/pairs", {"pairs": [[0, 1]], "transform": "nonrigid"}),
]


@pytest.mark.parametrize(("pointer", "options"), BAD)
def test_pairs_that_are_none_or_contradict_something_are_refused(pointer: str, options: dict[str, Any]) -> None:
    problem = Problem(POINTS, POINTS, transform="rigid")
    with pytest.raises(InvalidInput) as caught:
        register(problem._replace(**options))
    assert caught.value.pointer == pointer


def test_an_exact_pair_comes_before_another_target_that_is_as_certain() -> None:
    for normalize in NORMALIZES:
        problem = Problem(POINTS, POINTS, transform="translation", sigma=1e-3, init="identity", normalize=normalize)
        answer = register(problem._replace(max_iterations=1, pairs=np.array([[2.0, 5.0]])))
        assert answer.matching[2] == 5
        assert answer.matching_probability[2] == 1


def test_several_points_may_have_one_target_with_rows() -> None:
    answer = register(Problem(POINTS, POINTS, transform="rigid", init="identity", pairs=np.array([[0.0, 1], [1, 1]])))
    assert answer.matching[:2].tolist() == [1, 1]
