"""The E-step over neighbours agrees with that over all N x M pairs."""

from __future__ import annotations

import decimal
import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from service.em.jit import compiled
from service.em.kernel.cells import Cells, cells
from service.em.kernel.expectation import expect
from service.em.kernel.truncated import UNMATCHED, EStep, empty_e_step, exp_of, weigh

Float64 = NDArray[np.float64]
NONE = np.empty(0)
ONE_CELL = 1e300


class Direct(NamedTuple):
    """An E-step with all of its pairs."""

    R: Float64  # (N, M)
    squares: Float64  # (N, M)
    costs: Float64  # (N, M)
    evidence: Float64  # (N,)


def direct(x: Float64, y: Float64, offset: Float64, precision: float, bin_weight: float) -> Direct:
    """r_ij = exp(-c_ij) / (Σ_k exp(-c_ik) + β) of points (D, N) and (D, M)."""
    squares = ((x[:, :, None] - y[:, None, :]) ** 2).sum(0)
    costs = precision * squares + (offset if len(offset) else 0.0)
    bins = np.full((len(costs), 1), math.log(bin_weight) if bin_weight > 0 else -math.inf)
    logits = np.hstack([-costs, bins])
    return Direct(softmax(logits, 1)[:, :-1], squares, costs, np.asarray(logsumexp(logits, 1)))


def padded(points: Float64) -> Float64:
    """(D, N) with rows of zeros up to three."""
    return np.ascontiguousarray(np.vstack([points, np.zeros((max(3 - len(points), 0), points.shape[1]))]))


def compute(
    x: Float64, y: Float64, offset: Float64, precision: float, bin_weight: float, side: float, cutoff: float = 40.0
) -> tuple[EStep, Float64, Cells]:
    """`expect`, with the column sums in the targets' own order."""
    grid = cells(padded(y), side)
    out = empty_e_step(max(len(x), 3), x.shape[1])
    columns = np.zeros(y.shape[1])
    sorted_offset = np.ascontiguousarray(offset[grid.order]) if len(offset) else NONE
    expect(padded(x), grid, sorted_offset, grid.points, precision, bin_weight, cutoff, out, columns)
    own = np.empty_like(columns)
    own[grid.order] = columns
    return out, own, grid


def clouds(n: int, m: int, dimension: int, seed: int) -> tuple[Float64, Float64, Float64]:
    """Points (D, N), (D, M), and offsets (M,) of which one is 0."""
    rng = np.random.default_rng(seed)
    offset = rng.exponential(size=m)
    return rng.normal(size=(dimension, n)), rng.normal(size=(dimension, m)), offset - offset.min()


def agrees(found: EStep, columns: Float64, expected: Direct, y: Float64, within: float) -> None:
    R, squares, costs, evidence = expected
    n = len(R)
    far = float(np.abs(y).max())
    assert found.mass == pytest.approx(R.sum(1), abs=within)
    assert found.weighted_target[: len(y)] == pytest.approx(y @ R.T, abs=within * far)
    assert found.weighted_target[len(y) :] == pytest.approx(0)
    assert found.residual == pytest.approx((R * squares).sum(1), abs=within * float(squares.max()))
    assert found.evidence == pytest.approx(evidence, rel=1e-13, abs=within)
    assert found.peak == pytest.approx(R.max(1), abs=within)
    assert columns == pytest.approx(R.sum(0), abs=within * n)
    chosen = found.best != UNMATCHED
    assert (found.best[chosen] == costs.argmin(1)[chosen]).all()
    assert (R.max(1)[~chosen] < 1e-15).all()


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
@pytest.mark.parametrize("bin_weight", [0.0, 1e-9, 0.3, 50.0])
@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("precision", [0.01, 3.0, 60.0])
def test_the_step_in_one_cell_is_the_direct_sum(
    dimension: int, bin_weight: float, offsets: bool, precision: float
) -> None:
    x, y, offset = clouds(70, 90, dimension, dimension)
    offset = offset if offsets else NONE
    found, columns, grid = compute(x, y, offset, precision, bin_weight, ONE_CELL)
    assert len(grid.starts) == 2
    agrees(found, columns, direct(x, y, offset, precision, bin_weight), y, 1e-13)


@given(
    n=st.integers(1, 60),
    m=st.integers(1, 300),
    dimension=st.sampled_from([1, 2, 3, 5]),
    bin_weight=st.sampled_from([0.0, 1e-6, 0.2]),
    offsets=st.booleans(),
    precision=st.floats(0.5, 5000.0),
    side=st.floats(0.01, 3.0),
    far=st.sampled_from([0.0, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_the_step_in_cells_of_any_side_is_the_direct_sum(
    n: int, m: int, dimension: int, bin_weight: float, offsets: bool, precision: float, side: float, far: float,
    seed: int,
) -> None:  # fmt: skip
    x, y, offset = clouds(n, m, dimension, seed)
    x[0] += far
    offset = offset if offsets else NONE
    expected = direct(x, y, offset, precision, bin_weight)
    # Where the bin takes all a row's cost may be past what the least exponent holds: see the law of far points.
    near = expected.costs.min(1) < 600
    found, columns, _ = compute(x, y, offset, precision, bin_weight, side)
    if bin_weight == 0 or near.all():
        agrees(found, columns, expected, y, 1e-12)


@pytest.mark.parametrize("bin_weight", [0.0, 0.05])
@pytest.mark.parametrize("cutoff", [6.0, 12.0, 20.0])
def test_the_cutoff_omits_no_more_than_its_bound(bin_weight: float, cutoff: float) -> None:
    x, y, _ = clouds(200, 4000, 3, 0)
    x[:, :5] += 20
    expected = direct(x, y, NONE, 30.0, bin_weight)
    found, columns, grid = compute(x, y, NONE, 30.0, bin_weight, 0.2, cutoff)
    assert len(grid.starts) > 100
    promised = 4000 * math.exp(-cutoff)
    assert (np.abs(found.mass - expected.R.sum(1)) <= promised + 1e-13).all()
    assert (np.abs(np.expm1(found.evidence - expected.evidence)) <= promised + 1e-13).all()
    assert np.abs(columns - expected.R.sum(0)).max() <= 200 * promised + 1e-13
    known = found.best != UNMATCHED
    assert (found.best[known] == expected.costs.argmin(1)[known]).all()


@pytest.mark.parametrize("side", [ONE_CELL, 0.3, 1.0])
def test_of_equal_targets_the_first_in_the_callers_order_is_best(side: float) -> None:
    rng = np.random.default_rng(0)
    once = rng.integers(0, 6, size=(2, 60)).astype(float)
    y = np.repeat(once, 3, axis=1)[:, rng.permutation(180)]
    x = rng.integers(0, 11, size=(2, 50)) / 2  # halfway between targets too
    found, _, _ = compute(x, y, NONE, 2.0, 0.0, side)
    squares = ((x[:, :, None] - y[:, None, :]) ** 2).sum(0)
    assert (found.best == squares.argmin(1)).all()


@pytest.mark.parametrize("bin_weight", [0.0, 0.1])
@pytest.mark.parametrize("side", [0.2, ONE_CELL])
def test_distant_points_of_either_cloud_do_not_change_the_others(bin_weight: float, side: float) -> None:
    x, y, _ = clouds(50, 3000, 3, 1)
    plain, _, _ = compute(x, y, NONE, 20.0, bin_weight, side)
    stray = np.array([[1e9], [-1e9], [3e8]])
    more, _, grid = compute(np.hstack([x, stray]), np.hstack([y, -stray, stray * 1.5]), NONE, 20.0, bin_weight, side)
    if side < 1:
        assert len(grid.starts) > 1000
        assert np.diff(grid.starts).max() < 1000
    for name in ("mass", "residual", "evidence", "peak", "weighted_target", "best"):
        assert getattr(more, name)[..., :50] == pytest.approx(getattr(plain, name), abs=1e-12), name
    # The distant point is matched only if there is no outlier bin.
    assert more.mass[-1] == pytest.approx(1.0 if bin_weight == 0 else 0.0)
    if bin_weight == 0:
        assert more.best[-1] == 3001


@pytest.mark.parametrize("side", [0.5, ONE_CELL])
def test_the_nearest_target_is_found_at_any_distance(side: float) -> None:
    x, y, _ = clouds(40, 800, 2, 2)
    x *= np.geomspace(1, 1e6, 40)
    found, _, _ = compute(x, y, NONE, 1e4, 0.0, side)
    squares = ((x[:, :, None] - y[:, None, :]) ** 2).sum(0)
    assert (found.best == squares.argmin(1)).all()
    assert found.mass == pytest.approx(1)
    assert found.evidence == pytest.approx(-1e4 * squares.min(1), rel=1e-9, abs=1)


@pytest.mark.parametrize("far", [1e19, -1e19, 1e60])
def test_a_point_beyond_all_integers_has_a_target(far: float) -> None:
    _, y, _ = clouds(1, 800, 2, 2)
    found, _, _ = compute(np.array([[far], [0.0]]), y, NONE, 20.0, 0.0, 0.5)
    assert found.best != UNMATCHED
    assert found.mass == pytest.approx(1)


def test_the_pairs_that_are_not_cut_off_have_their_responsibilities() -> None:
    x, y, offset = clouds(30, 500, 3, 3)
    expected = direct(x, y, offset, 8.0, 0.01)
    grid = cells(padded(y), 0.5)
    index, distance, weight = np.empty(500, np.int32), np.empty(500), np.empty(500)
    for i in range(30):
        sorted_offset = np.ascontiguousarray(offset[grid.order])
        found, evidence, peak, _ = weigh(padded(x), i, grid, sorted_offset, 8.0, 0.01, 40.0, index, distance, weight)
        own = grid.order[index[:found]]
        assert len(set(own.tolist())) == found
        assert weight[:found] == pytest.approx(expected.R[i, own], abs=1e-13)
        assert distance[:found] == pytest.approx(expected.squares[i, own])
        assert evidence == pytest.approx(expected.evidence[i], abs=1e-13)
        assert peak == pytest.approx(expected.R[i].max(), abs=1e-13)


@compiled
def exponentials(x: Float64) -> Float64:
    """As the E-step has them: in a loop, compiled with its liberties."""
    out = np.empty_like(x)
    for i in range(len(x)):
        out[i] = exp_of(x[i])
    return out


@pytest.mark.parametrize("least", [-1, -10, -60, -700])
def test_the_exponential_has_the_documented_relative_error(least: float) -> None:
    x = np.linspace(least, 0, 20_001)
    with decimal.localcontext(prec=25):
        exact = [decimal.Decimal(v).exp() for v in x]
        errors = [abs(decimal.Decimal(found) / e - 1) for found, e in zip(exponentials(x), exact, strict=True)]
    assert max(errors) < 3e-16


def test_the_exponential_stays_above_zero() -> None:
    assert exponentials(np.full(5, -1e9)) == pytest.approx(np.full(5, math.exp(-700)))
