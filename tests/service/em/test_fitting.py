"""The M-step: exact pairs give the exact transform, and no transform of the kind is better."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from service.em.kernel.fitting import (
    Sums,
    fit,
    mean_square_step,
    move,
    residual_after,
    rotation,
    solved,
    sums_of_columns,
    sums_of_rows,
)
from service.em.kernel.truncated import EStep
from tests.problems.clouds import linear
from tests.problems.codes import CODES

Float64 = NDArray[np.float64]


def case(n: int, m: int, dimension: int, seed: int) -> tuple[Float64, Float64, Float64]:
    """Source (D, N), target (D, M), and responsibilities (N, M) whose rows sum to less than one."""
    rng = np.random.default_rng(seed)
    R = rng.exponential(size=(n, m)) ** 4
    R *= rng.uniform(0.2, 1, size=(n, 1)) / R.sum(1, keepdims=True)
    return rng.normal(size=(dimension, n)), rng.normal(size=(dimension, m)) + 3, R


def sums(p: Float64, q: Float64, R: Float64, transform: Float64) -> Sums:
    """The moments, written down."""
    D = len(p)
    h = np.vstack([p, np.ones(p.shape[1])])
    return Sums(h @ np.diag(R.sum(1)) @ h.T, np.ascontiguousarray(h @ R @ q.T), residual(p, q, R, transform, D), 0.0)


def residual(p: Float64, q: Float64, R: Float64, transform: Float64, D: int) -> float:
    """Σ r_ij ‖A p_i + t - q_j‖²."""
    x = transform[:, :D] @ p + transform[:, D:]
    return float((R * ((x[:, :, None] - q[:, None, :]) ** 2).sum(0)).sum())


def pad(x: Float64) -> Float64:
    return np.ascontiguousarray(np.vstack([x, np.zeros((max(3 - len(x), 0), x.shape[1]))]))


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("dimension", [2, 3])
def test_exact_weighted_pairs_give_the_exact_transform(kind: str, dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    A, t = linear(kind, dimension, 2.5, rng), rng.normal(size=dimension)
    p, R = rng.normal(size=(dimension, 12)), np.diag(rng.uniform(0.1, 1, size=12))
    q = A @ p + t[:, None]
    start = np.eye(dimension, dimension + 1)
    found = fit(CODES[kind], start, sums(p, q, R, start))
    assert found == pytest.approx(np.hstack([A, t[:, None]]), abs=1e-10)


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_no_transform_of_its_kind_is_better(kind: str, dimension: int) -> None:
    if dimension not in {2, 3} and kind in {"rigid", "similarity"}:
        kind = "translation"
    for seed in range(3):
        p, q, R = case(20, 25, dimension, seed)
        rng = np.random.default_rng(seed)
        start = np.eye(dimension, dimension + 1)
        found = fit(CODES[kind], start, sums(p, q, R, start))
        least = residual(p, q, R, found, dimension)
        for size in (1e-4, 1e-2, 1.0):
            for _ in range(4):
                other = found.copy()
                other[:, dimension] += size * rng.normal(size=dimension)
                B = size * rng.normal(size=(dimension, dimension))
                turn = expm(B - B.T)
                if kind in {"rigid", "similarity"}:
                    other[:, :dimension] = turn @ found[:, :dimension]
                if kind == "similarity":
                    other[:, :dimension] *= np.exp(size * rng.normal())
                if kind == "affine":
                    other[:, :dimension] += B
                assert residual(p, q, R, other, dimension) >= least * (1 - 1e-9)


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_a_rotation_is_proper_even_of_mirrored_or_flat_clouds(kind: str, dimension: int) -> None:
    rng = np.random.default_rng(0)
    start = np.eye(dimension, dimension + 1)
    for flat in (False, True):
        p = rng.normal(size=(dimension, 15))
        if flat:
            p[-1] = 0
        q = p.copy()
        q[0] *= -1
        found = fit(CODES[kind], start, sums(p, q, np.eye(15), start))[:, :dimension]
        assert np.linalg.det(found) > 0
        assert found.T @ found == pytest.approx(np.eye(dimension) * (found**2).sum() / dimension, abs=1e-12)
        if kind == "rigid":
            assert np.linalg.det(found) == pytest.approx(1)


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("size", [1e-200, 1.0, 1e150])
def test_a_rotation_is_the_best_of_any_matrix_with_one_axis_or_none_as_well(dimension: int, size: float) -> None:
    rng = np.random.default_rng(3)
    for rank in range(dimension + 1):
        for mirrored in (False, True):
            u, v = (np.linalg.qr(rng.normal(size=(dimension, dimension)))[0] for _ in range(2))
            lengths = np.where(np.arange(dimension) < rank, rng.uniform(0.5, 1, dimension), 0.0)
            cross = u @ np.diag(lengths) @ v.T
            proper = np.linalg.det(u @ v.T) > 0
            if proper == mirrored:
                cross[0] *= -1
                proper = not proper
            found = rotation(cross * size)
            assert found @ found.T == pytest.approx(np.eye(dimension), abs=1e-14)
            assert np.linalg.det(found) == pytest.approx(1, abs=1e-14)
            singular = np.linalg.svd(cross, compute_uv=False)
            singular[-1] *= 1 if proper else -1
            assert (found * cross).sum() == pytest.approx(singular.sum(), abs=1e-13)


def test_the_rotation_is_that_of_scipy() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        a, b = rng.normal(size=(30, 3)), rng.normal(size=(30, 3))
        weights = rng.uniform(size=30)
        expected, _ = Rotation.align_vectors(b, a, weights=weights)
        assert rotation((b * weights[:, None]).T @ a) == pytest.approx(expected.as_matrix(), abs=1e-9)


def test_an_affine_fit_is_weighted_regression() -> None:
    rng = np.random.default_rng(3)
    p, q, weights = rng.normal(size=(3, 40)), rng.normal(size=(3, 40)), rng.uniform(size=40)
    start = np.eye(3, 4)
    root = np.sqrt(weights)[:, None]
    expected, *_ = np.linalg.lstsq(root * np.vstack([p, np.ones(40)]).T, root * q.T)
    assert fit(CODES["affine"], start, sums(p, q, np.diag(weights), start)) == pytest.approx(expected.T, abs=1e-9)


@pytest.mark.parametrize("kind", CODES)
def test_the_residual_after_a_step_is_the_direct_sum(kind: str) -> None:
    for seed in range(5):
        p, q, R = case(20, 30, 3, seed)
        before = np.random.default_rng(seed).normal(size=(3, 4))
        moments = sums(p, q, R, before)
        after = fit(CODES[kind], before, moments)
        assert residual_after(moments, before, after) == pytest.approx(residual(p, q, R, after, 3), rel=1e-12)
        x, y = (transform[:, :3] @ p + transform[:, 3:] for transform in (before, after))
        expected = float((R.sum(1) * ((x - y) ** 2).sum(0)).sum()) / R.sum()
        assert mean_square_step(moments.within, before, after) == pytest.approx(expected, rel=1e-12)


def test_a_residual_far_below_the_distances_is_accurate() -> None:
    rng = np.random.default_rng(4)
    p = rng.normal(size=(3, 50))
    q = p + 1e-7 * rng.normal(size=(3, 50))
    before = np.eye(3, 4)
    moments = sums(p, q, np.eye(50), before)
    after = fit(CODES["rigid"], before, moments)
    assert residual_after(moments, before, after) == pytest.approx(residual(p, q, np.eye(50), after, 3), rel=1e-5)


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_sums_of_rows_and_of_columns_are_the_moments_of_the_pairs(dimension: int) -> None:
    p, q, R = case(20, 30, dimension, dimension)
    start = np.eye(dimension, dimension + 1)
    squares = ((p[:, :, None] - q[:, None, :]) ** 2).sum(0)
    expected = sums(p, q, R, start)
    none = np.zeros(50, np.int64)

    def padded(values: Float64) -> Float64:
        # An E-step may have room for more points than there are.
        return np.ascontiguousarray(np.concatenate([values, np.full((*values.shape[:-1], 20), np.nan)], -1))

    by_row = EStep(
        padded(R.sum(1)),
        padded(pad(q @ R.T)),
        padded((R * squares).sum(1)),
        padded(np.arange(20.0)),
        none,
        padded(np.zeros(20)),
    )
    by_column = EStep(
        padded(R.sum(0)),
        padded(pad(p @ R)),
        padded((R * squares).sum(0)),
        padded(np.arange(30.0)),
        none,
        padded(np.zeros(30)),
    )
    for found, evidence in (
        (sums_of_rows(pad(p), dimension, by_row), 190.0),
        (sums_of_columns(pad(p), pad(q), dimension, by_column, R.sum(1)), 435.0),
    ):
        assert found.within == pytest.approx(expected.within)
        assert found.across == pytest.approx(expected.across)
        assert found.residual == pytest.approx(expected.residual)
        assert found.evidence == evidence


def test_without_weights_the_transform_stays_the_same() -> None:
    transform = np.random.default_rng(5).normal(size=(3, 4))
    nothing = Sums(np.zeros((4, 4)), np.zeros((4, 3)), 0.0, 0.0)
    for kind in CODES.values():
        assert (fit(kind, transform, nothing) == transform).all()


def test_move_multiplies_by_the_matrix() -> None:
    rng = np.random.default_rng(6)
    for dimension in (1, 2, 3, 6):
        transform, p = rng.normal(size=(dimension, dimension + 1)), rng.normal(size=(dimension, 9))
        out = np.full_like(pad(p), 7.0)
        move(transform, pad(p), out)
        assert out[:dimension] == pytest.approx(transform[:, :-1] @ p + transform[:, -1:], abs=1e-14)


@pytest.mark.parametrize("size", [1, 2, 3, 12])
def test_the_solution_of_linear_equations_fulfils_them(size: int) -> None:
    rng = np.random.default_rng(size)
    for _ in range(20):
        matrix, right = rng.normal(size=(2, size, size))
        matrix[0, 0] = 0.0 if size > 1 else matrix[0, 0]  # so that rows must be exchanged
        expected = np.linalg.solve(matrix.T, right.T).T
        np.testing.assert_allclose(
            solved(matrix.copy(), right), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max()
        )


def test_the_solution_of_singular_equations_is_not_finite() -> None:
    assert not np.isfinite(solved(np.ones((2, 2)), np.eye(2))).any()
