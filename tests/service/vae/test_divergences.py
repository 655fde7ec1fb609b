"""Divergences and their gradients: closed forms, agreement with autograd, and batch invariance."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.vae.divergences import (
    GaussianDivergence,
    GaussianPair,
    GaussianScale,
    LabelledPoint,
    LogisticDivergence,
    excess,
    gaussian_kl,
    gaussian_kl_batch,
    logistic_divergence,
    logistic_divergence_batch,
    softplus_and_sigmoid,
    to_standard_normal,
)
from service.vae.inputs import Array
from service.vae.ragged import lay_out, pack, spread_rows, sum_rows, unpack
from service.vae.reparameterization import ReparameterizationJob, reparameterize

KINDS = list(product(get_args(GaussianScale), repeat=2))
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
seeds = st.integers(0, 2**32 - 1)
shapes = st.one_of(st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 5), st.integers(1, 9)))
kinds = st.sampled_from(KINDS)


def random_pair(
    rng: np.random.Generator, kinds: tuple[GaussianScale, GaussianScale], shape: tuple[int, ...]
) -> GaussianPair:
    mu_q, scale_q, mu_p, scale_p = (rng.standard_normal(shape) for _ in range(4))
    scale_q, scale_p = (np.exp(s) if k == "sigma" else s for s, k in zip((scale_q, scale_p), kinds, strict=True))
    return GaussianPair(mu_q, scale_q, mu_p, scale_p, *kinds)


def random_point(rng: np.random.Generator, shape: tuple[int, ...], *, shared: bool = False) -> LabelledPoint:
    w = rng.standard_normal(shape[-1:] if shared else shape)
    return LabelledPoint(rng.standard_normal(shape), w, rng.integers(0, 2, shape[:-1]).astype(np.float64))


def content(result: GaussianDivergence | LogisticDivergence | InvalidInput) -> list[tuple[tuple[int, ...], bytes]]:
    assert not isinstance(result, InvalidInput), result
    return [(array.shape, array.tobytes()) for array in result]


def assert_close(actual: Array, expected: torch.Tensor | Array) -> None:
    expected = np.asarray(expected.detach() if isinstance(expected, torch.Tensor) else expected)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12 * float(np.abs(expected).max()))


# Ragged batches


def test_packing_and_unpacking_is_the_identity_and_pads_with_ones() -> None:
    rng = np.random.default_rng(0)
    sizes = [(2,), (64,), (3, 5), (1, 127), (128,)]
    arrays = [rng.standard_normal(shape) for shape in sizes]
    layout = lay_out([array.size for array in arrays])
    assert all(start % 64 == 0 for start in (*layout.starts, layout.total))
    (packed,) = pack([arrays], layout).numpy()
    for part, array in zip(unpack(packed, layout, sizes), arrays, strict=True):
        np.testing.assert_array_equal(part, array)
    outside = np.ones(layout.total, dtype=bool)
    for start, stop in zip(layout.starts, layout.stops, strict=True):
        outside[start:stop] = False
    assert (packed[outside] == 1).all()


def test_row_sums_are_accurate_and_spreading_is_their_transpose() -> None:
    rng = np.random.default_rng(0)
    sizes = [(2,), (64,), (3, 5), (1, 127), (128,), (7, 1), (2, 1001)]
    arrays = [rng.standard_normal(shape) for shape in sizes]
    layout = lay_out([array.size for array in arrays])
    sums = sum_rows(pack([arrays], layout)[0].numpy(), layout, sizes)
    for total, array in zip(sums, arrays, strict=True):
        exact = [math.fsum(row) for row in array.reshape(-1, array.shape[-1])]
        assert total.shape == array.shape[:-1]
        np.testing.assert_allclose(total.reshape(-1), exact, rtol=1e-14, atol=1e-14)
    spread = unpack(spread_rows(sums, layout, sizes), layout, sizes)
    for part, total, shape in zip(spread, sums, sizes, strict=True):
        np.testing.assert_array_equal(part, np.broadcast_to(total[..., None], shape))


# Elementary functions


@settings(deadline=None, max_examples=200)
@given(
    x=st.one_of(st.floats(-0.9999, 1e6), st.floats(-0.2, 0.2), st.floats(-1e-6, 1e-6)).filter(lambda x: abs(x) > 1e-140)
)
def test_x_less_log_of_1_plus_x_is_accurate_to_its_last_digits(x: float) -> None:
    with localcontext() as context:
        context.prec = 400
        exact = Decimal(x) - (1 + Decimal(x)).ln() if abs(x) > 1e-100 else Decimal(x) ** 2 / 2
    value = torch.tensor(x, dtype=torch.float64)
    actual = float(excess(value, torch.log1p(value)))
    assert actual > 0
    assert abs(Decimal(actual) / exact - 1) < Decimal("4e-15")


@settings(deadline=None, max_examples=200)
@given(a=st.floats(-700, 1e5))
def test_softplus_and_sigmoid_are_accurate_in_both_tails(a: float) -> None:
    with localcontext() as context:
        context.prec = 400
        grown = 1 + Decimal(a).exp() if a < 1000 else None
        softplus = grown.ln() if grown is not None else Decimal(a)
        sigmoid = 1 - 1 / grown if grown is not None else Decimal(1)
    actual = [float(value) for value in softplus_and_sigmoid(torch.tensor(a, dtype=torch.float64))]
    assert abs(Decimal(actual[0]) / softplus - 1) < Decimal("1e-15")
    assert abs(Decimal(actual[1]) / sigmoid - 1) < Decimal("1e-15")


# Gaussian against Gaussian


@settings(deadline=None)
@given(seed=seeds, shape=shapes, kinds=kinds)
def test_the_kl_agrees_with_torch_distributions_and_its_gradients_with_autograd(
    seed: int, shape: tuple[int, ...], kinds: tuple[GaussianScale, GaussianScale]
) -> None:
    pair = random_pair(np.random.default_rng(seed), kinds, shape)
    leaves = [torch.tensor(np.asarray(array), requires_grad=True) for array in pair[:4]]
    sigmas = [s if kind == "sigma" else torch.exp(s / 2) for s, kind in zip(leaves[1::2], kinds, strict=True)]
    q, p = (torch.distributions.Normal(mu, sigma) for mu, sigma in zip(leaves[::2], sigmas, strict=True))
    expected = torch.distributions.kl_divergence(q, p).sum(-1)
    result = gaussian_kl(pair)
    assert_close(result.divergence, expected)
    for actual, gradient in zip(result[1:], torch.autograd.grad(expected.sum(), leaves), strict=True):
        assert_close(actual, gradient)


@settings(deadline=None, max_examples=200)
@given(seed=seeds, kinds=kinds, size=st.floats(-17, 2))
def test_the_kl_is_never_negative_however_close_the_two_are(
    seed: int, kinds: tuple[GaussianScale, GaussianScale], size: float
) -> None:
    rng = np.random.default_rng(seed)
    pair = random_pair(rng, (kinds[0], kinds[0]), (50, 1))
    nudge = 10**size * rng.standard_normal((2, 50, 1))
    scale = np.asarray(pair.scale_q)
    scale = scale * np.exp(nudge[1]) if kinds[0] == "sigma" else scale + nudge[1]
    if kinds[0] != kinds[1]:
        scale = np.exp(scale / 2) if kinds[1] == "sigma" else 2 * np.log(scale)
    result = gaussian_kl_batch([pair._replace(mu_p=pair.mu_q + nudge[0], scale_p=scale, parametrization_p=kinds[1])])
    if isinstance(result[0], GaussianDivergence):
        assert (result[0].divergence >= 0).all()
    else:
        assert size > 1  # only σ's that are far apart overflow


@settings(deadline=None)
@given(seed=seeds, kind=st.sampled_from(get_args(GaussianScale)), shape=shapes)
def test_the_kl_is_0_with_zero_gradients_if_the_two_are_equal(
    seed: int, kind: GaussianScale, shape: tuple[int, ...]
) -> None:
    pair = random_pair(np.random.default_rng(seed), (kind, kind), shape)
    same = gaussian_kl(pair._replace(mu_p=pair.mu_q, scale_p=pair.scale_q))
    assert all((array == 0).all() for array in same)


@settings(deadline=None)
@given(seed=seeds, kinds=kinds, field=st.sampled_from(["mu_q", "scale_q", "mu_p", "scale_p"]))
def test_the_kl_is_positive_if_one_parameter_differs_by_one_ulp(
    seed: int, kinds: tuple[GaussianScale, GaussianScale], field: str
) -> None:
    pair = random_pair(np.random.default_rng(seed), (kinds[0], kinds[0]), (1,))
    pair = pair._replace(mu_p=pair.mu_q, scale_p=pair.scale_q)
    moved = pair._replace(**{field: np.nextafter(getattr(pair, field), np.inf)})
    assert gaussian_kl(moved).divergence > 0


@settings(deadline=None)
@given(sigma=st.floats(1e-3, 1e3), ulps=st.integers(1, 1000))
def test_the_kl_keeps_its_relative_accuracy_near_equality(sigma: float, ulps: int) -> None:
    other = sigma + ulps * float(np.spacing(sigma))
    zero = np.zeros(1)
    result = gaussian_kl(GaussianPair(zero, np.array([other]), zero, np.array([sigma])))
    with localcontext() as context:
        context.prec = 60
        ratio = (Decimal(other) / Decimal(sigma)) ** 2
        exact = (ratio - 1 - ratio.ln()) / 2
        slope = (ratio - 1) / Decimal(other)
    assert abs(Decimal(float(result.divergence)) / exact - 1) < Decimal("1e-14")
    assert abs(Decimal(float(result.grad_scale_q[0])) / slope - 1) < Decimal("1e-14")


def test_the_kl_agrees_with_a_monte_carlo_estimate() -> None:
    rng, n = np.random.default_rng(0), 200_000
    pair = random_pair(rng, ("sigma", "log_variance"), (4,))
    mu_q, sigma_q, mu_p, log_variance_p = map(np.asarray, pair[:4])
    z = mu_q + sigma_q * rng.standard_normal((n, 4))
    log_q = -np.log(sigma_q) - 0.5 * ((z - mu_q) / sigma_q) ** 2
    log_p = -0.5 * log_variance_p - 0.5 * (z - mu_p) ** 2 / np.exp(log_variance_p)
    sample = (log_q - log_p).sum(-1)
    assert abs(gaussian_kl(pair).divergence - sample.mean()) < 5 * sample.std() / np.sqrt(n)


@settings(deadline=None)
@given(seed=seeds, shape=shapes, kind=st.sampled_from(get_args(GaussianScale)))
def test_the_kl_to_the_standard_normal_is_the_special_case_that_reparameterization_adds(
    seed: int, shape: tuple[int, ...], kind: GaussianScale
) -> None:
    pair = random_pair(np.random.default_rng(seed), (kind, kind), shape)
    general = gaussian_kl(to_standard_normal(pair.mu_q, pair.scale_q, kind))
    zero = np.zeros(shape)
    special = reparameterize(ReparameterizationJob(pair.mu_q, pair.scale_q, kind, zero, zero, 1.0))
    for ours, theirs in zip(special[3:], general[:3], strict=True):
        assert ours is not None
        assert_close(ours, theirs)


@settings(deadline=None)
@given(seed=seeds, shape=shapes, kinds=kinds)
def test_the_kl_does_not_change_under_a_common_shift_and_scale(
    seed: int, shape: tuple[int, ...], kinds: tuple[GaussianScale, GaussianScale]
) -> None:
    pair = random_pair(np.random.default_rng(seed), kinds, shape)
    moved = [8 * np.asarray(mu) + 16 for mu in (pair.mu_q, pair.mu_p)]
    scales = [
        8 * np.asarray(s) if kind == "sigma" else np.asarray(s) + np.log(64)
        for s, kind in zip((pair.scale_q, pair.scale_p), kinds, strict=True)
    ]
    result = gaussian_kl(GaussianPair(moved[0], scales[0], moved[1], scales[1], *kinds))
    np.testing.assert_allclose(result.divergence, gaussian_kl(pair).divergence, rtol=1e-10)


def test_equal_gaussians_far_out_have_no_divergence_even_where_sigma_underflows() -> None:
    mu, log_variance = np.array([1e300, 0.0]), np.array([-2000.0, 2000.0])
    result = gaussian_kl(GaussianPair(mu, log_variance, mu, log_variance, "log_variance", "log_variance"))
    assert all((array == 0).all() for array in result)


# Label against logistic model


@settings(deadline=None)
@given(seed=seeds, shape=shapes, shared=st.booleans())
def test_the_logistic_divergence_is_the_direct_formula_and_its_gradients_are_autograds(
    seed: int, shape: tuple[int, ...], shared: bool
) -> None:
    point = random_point(np.random.default_rng(seed), shape, shared=shared)
    x, w = (torch.tensor(np.asarray(array), requires_grad=True) for array in (point.x, point.w))
    y = torch.tensor(np.asarray(point.y))
    t = (w * x).sum(-1)
    expected = y * t + torch.log1p(torch.exp(-t))
    result = logistic_divergence(point)
    assert_close(result.logit, t)
    assert_close(result.divergence, expected)
    gradients = torch.autograd.grad(expected.sum(), (w, x))
    assert result.grad_w.shape == w.shape
    assert_close(result.grad_w, gradients[0])
    assert_close(result.grad_x, gradients[1])


@settings(deadline=None)
@given(seed=seeds, width=st.integers(1, 9))
def test_the_logistic_gradient_in_w_is_the_formula_of_the_design(seed: int, width: int) -> None:
    point = random_point(np.random.default_rng(seed), (width,))
    x, w, y = map(np.asarray, point)
    residual = y - 1 + 1 / (1 + np.exp(-(w @ x)))
    result = logistic_divergence(point)
    # As it stands the formula cancels, to the rounding of numbers about 1; the service's own gradient does not.
    for found, other in ((result.grad_w, x), (result.grad_x, w)):
        np.testing.assert_allclose(found, residual * other, rtol=1e-12, atol=1e-15 * float(np.abs(other).max()))


@settings(deadline=None)
@given(seed=seeds, width=st.integers(1, 9))
def test_the_two_labels_have_probabilities_that_sum_to_1(seed: int, width: int) -> None:
    point = random_point(np.random.default_rng(seed), (width,))
    both = [logistic_divergence(point._replace(y=np.asarray(y))).divergence for y in (0.0, 1.0)]
    np.testing.assert_allclose(np.exp(-both[0]) + np.exp(-both[1]), 1, rtol=1e-14)


@pytest.mark.parametrize(
    ("t", "y", "divergence", "residual"),
    [(1e4, 1, 1e4, 1), (1e4, 0, 0, 0), (-1e4, 1, 0, 0), (-1e4, 0, 1e4, -1), (40, 0, np.exp(-40), -np.exp(-40))],
)
def test_the_logistic_divergence_is_stable_in_both_tails(t: float, y: int, divergence: float, residual: float) -> None:
    result = logistic_divergence(LabelledPoint(np.array([t]), np.array([1.0]), np.array(y)))
    np.testing.assert_allclose(result.divergence, divergence, rtol=1e-15)
    np.testing.assert_allclose(result.grad_x, [residual], rtol=1e-15)
    np.testing.assert_allclose(result.grad_w, [residual * t], rtol=1e-15)


# Batches

SIZES: list[tuple[int, ...]] = [
    *((d,) for d in (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 1000)),
    *((b, d) for b in (1, 2, 3, 9, 64) for d in (1, 2, 5, 16, 33)),
    (2309, 5),
    (701, 16),
    (1, 20011),
]


@pytest.mark.parametrize("device", DEVICES)
def test_a_gaussian_job_gets_the_same_bytes_alone_and_in_any_batch(device: str, threads: int) -> None:
    rng = np.random.default_rng(threads)
    jobs = [random_pair(rng, KINDS[k % 4], shape) for k, shape in enumerate(SIZES * 2)]
    alone = [content(gaussian_kl(job, device=device)) for job in jobs]
    for _ in range(15):
        order = rng.permutation(len(jobs))[: rng.integers(2, len(jobs) + 1)]
        together = gaussian_kl_batch([jobs[k] for k in order], device=device)
        for k, result in zip(order, together, strict=True):
            assert content(result) == alone[k], jobs[k].mu_q.shape


@pytest.mark.parametrize("device", DEVICES)
def test_a_logistic_job_gets_the_same_bytes_alone_and_in_any_batch(device: str, threads: int) -> None:
    rng = np.random.default_rng(threads)
    jobs = [random_point(rng, shape, shared=k % 3 == 0) for k, shape in enumerate(SIZES * 2)]
    alone = [content(logistic_divergence(job, device=device)) for job in jobs]
    for _ in range(15):
        order = rng.permutation(len(jobs))[: rng.integers(2, len(jobs) + 1)]
        together = logistic_divergence_batch([jobs[k] for k in order], device=device)
        for k, result in zip(order, together, strict=True):
            assert content(result) == alone[k], jobs[k].x.shape


@pytest.mark.parametrize("width", [1, 2, 7, 8, 33, 129, 1000])
def test_a_row_has_the_same_divergence_alone_and_among_other_rows(width: int) -> None:
    rng = np.random.default_rng(width)
    pair, point = random_pair(rng, ("sigma", "log_variance"), (9, width)), random_point(rng, (9, width))
    kl, label = gaussian_kl(pair), logistic_divergence(point)
    for b in range(9):
        mu_q, scale_q, mu_p, scale_p = (np.asarray(array)[b] for array in pair[:4])
        assert gaussian_kl(GaussianPair(mu_q, scale_q, mu_p, scale_p, *pair[4:])).divergence == kl.divergence[b]
        x, w, y = (np.asarray(array)[b] for array in point)
        assert logistic_divergence(LabelledPoint(x, w, y)).divergence == label.divergence[b]


def test_bad_jobs_spoil_no_other() -> None:
    rng = np.random.default_rng(0)
    pair, point = random_pair(rng, ("sigma", "sigma"), (2, 3)), random_point(rng, (2, 3))
    bad_pair, bad_point = pair._replace(scale_p=np.full((2, 3), np.nan)), point._replace(y=np.full(2, np.inf))
    pairs = gaussian_kl_batch([bad_pair, pair, bad_pair._replace(mu_p=np.zeros(3)), pair])
    points = logistic_divergence_batch([bad_point, point, bad_point._replace(y=np.zeros(3)), point])
    for outcomes, alone in ((pairs, content(gaussian_kl(pair))), (points, content(logistic_divergence(point)))):
        assert isinstance(outcomes[0], InvalidInput)
        assert isinstance(outcomes[2], InvalidInput)
        assert content(outcomes[1]) == content(outcomes[3]) == alone


def test_empty_batches_have_no_outcomes() -> None:
    assert gaussian_kl_batch([]) == []
    assert logistic_divergence_batch([]) == []


number = st.one_of(st.floats(), st.floats(-3, 3), st.sampled_from([0.0, -0.0, 1e200, 1e308, -1e308, 5e-324, -2e3, 800]))
vector = st.lists(number, min_size=2, max_size=2).map(lambda values: np.array(values))


@settings(deadline=None, max_examples=200)
@given(arrays=st.tuples(vector, vector, vector, vector), kinds=kinds)
def test_whatever_the_numbers_the_kl_is_finite_or_an_error_names_an_element(
    arrays: tuple[Array, Array, Array, Array], kinds: tuple[GaussianScale, GaussianScale]
) -> None:
    (outcome,) = gaussian_kl_batch([GaussianPair(*arrays, *kinds)])
    if isinstance(outcome, InvalidInput):
        _, side, field, index = outcome.pointer.split("/")
        assert field in ("mu", kinds["qp".index(side)])
        assert index in ("0", "1")
    else:
        assert all(np.isfinite(array).all() for array in outcome)
        assert outcome.divergence >= 0


@settings(deadline=None, max_examples=200)
@given(x=vector, w=vector, y=st.sampled_from([0.0, 1.0]), rows=st.sampled_from([1, 2]))
def test_whatever_the_numbers_the_logistic_divergence_is_finite_or_an_error_names_an_element(
    x: Array, w: Array, y: float, rows: int
) -> None:
    (outcome,) = logistic_divergence_batch([LabelledPoint(np.tile(x, (rows, 1)), w, np.full(rows, y))])
    if isinstance(outcome, InvalidInput):
        assert outcome.pointer.split("/")[1] in ("x", "w")
    else:
        assert all(np.isfinite(array).all() for array in outcome)
        assert (outcome.divergence >= 0).all()


# Errors


def pair_with(**changes: Any) -> GaussianPair:
    ones = np.ones((3, 2))
    return GaussianPair(ones, ones, ones, ones)._replace(**changes)


def point_with(**changes: Any) -> LabelledPoint:
    return LabelledPoint(np.ones((3, 2)), np.ones((3, 2)), np.ones(3))._replace(**changes)


def entry(value: float, index: tuple[int, int] = (1, 0)) -> Array:
    array = np.ones((3, 2))
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("pair", "pointer"),
    [
        (pair_with(scale_q=entry(0.0)), "/q/sigma/1/0"),
        (pair_with(scale_p=entry(-1.0)), "/p/sigma/1/0"),
        (pair_with(mu_q=entry(np.nan)), "/q/mu/1/0"),
        (pair_with(mu_p=entry(np.inf)), "/p/mu/1/0"),
        (pair_with(scale_p=entry(np.nan), parametrization_p="log_variance"), "/p/log_variance/1/0"),
        (pair_with(scale_q=entry(1e200)), "/q/sigma/1/0"),
        (pair_with(scale_q=entry(2000.0), parametrization_q="log_variance"), "/q/log_variance/1/0"),
        (pair_with(mu_q=entry(1e200)), "/q/mu/1/0"),
        (pair_with(mu_q=entry(0.0), scale_p=entry(1e-200), scale_q=entry(1e-200)), "/p/sigma/1/0"),
        (pair_with(mu_q=np.ones(())), "/q/mu"),
        (pair_with(mu_q=np.ones((3, 0))), "/q/mu"),
        (pair_with(scale_q=np.ones(2)), "/q/sigma"),
        (pair_with(mu_p=np.ones((3, 3))), "/p/mu"),
        (pair_with(scale_p=np.ones((2, 3)), parametrization_p="log_variance"), "/p/log_variance"),
        (pair_with(parametrization_q="softplus"), "/q"),
    ],
)
def test_gaussians_that_cannot_be_compared_are_refused_and_named(pair: GaussianPair, pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        gaussian_kl(pair)
    assert caught.value.pointer == pointer
    assert caught.value.allowed is not None


@pytest.mark.parametrize(
    ("point", "pointer"),
    [
        (point_with(x=entry(np.nan)), "/x/1/0"),
        (point_with(w=np.array([1.0, np.inf])), "/w/1"),
        (point_with(y=np.array([0.0, 1.0, 0.5])), "/y/2"),
        (point_with(y=np.array([np.nan, 1.0, 0.0])), "/y/0"),
        (point_with(x=entry(1e200), w=entry(1e200)), "/x/1/0"),
        (point_with(x=entry(1e200), w=entry(-1e200)), "/x/1/0"),
        (point_with(x=np.full((3, 2), [1e308, 0.0]), w=np.array([1e-300, 1.0])), "/w/0"),
        (point_with(x=np.ones(())), "/x"),
        (point_with(w=np.ones(3)), "/w"),
        (point_with(y=np.ones(2)), "/y"),
    ],
)
def test_points_that_cannot_be_judged_are_refused_and_named(point: LabelledPoint, pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        logistic_divergence(point)
    assert caught.value.pointer == pointer
    assert caught.value.allowed is not None
