"""The divergence of a label under the logistic model: closed forms, autograd, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.vae.inputs import Array
from service.vae.logistic import LabelledPoint, logistic_divergence, logistic_divergence_batch
from tests.service.vae.comparison import seeds, shapes
from tests.service.vae.problems import entry, random_point, vector


@settings(deadline=None)
@given(seed=seeds, shape=shapes, shared=st.booleans())
def test_the_logistic_divergence_agrees_with_the_direct_formula_and_its_gradients_with_autograd(
    seed: int, shape: tuple[int, ...], shared: bool
) -> None:
    point = random_point(np.random.default_rng(seed), shape, shared=shared)
    x, w = (torch.tensor(np.asarray(array), requires_grad=True) for array in (point.x, point.w))
    products = w * x
    t = products.sum(-1)
    # y t + log(1 + exp(-t)), which would cancel for y = 1.
    expected = torch.log1p(torch.exp(torch.tensor(2 * np.asarray(point.y) - 1) * t))
    residual, grad_w, grad_x = torch.autograd.grad(expected.sum(), (t, w, x))
    result = logistic_divergence(point)
    assert_sums_agree(result.logit, t, products, -1)
    assert_sums_agree(result.divergence, expected)
    assert_sums_agree(result.grad_x, grad_x)
    if shared and len(shape) > 1:  # it has a sum over the rows
        assert_sums_agree(result.grad_w, grad_w, residual[:, None] * x, 0)
    else:
        assert_sums_agree(result.grad_w, grad_w)


def assert_sums_agree(found: Array, expected: torch.Tensor, terms: torch.Tensor | None = None, axis: int = 0) -> None:
    """Each number agrees; a sum of `terms` over `axis` does so up to the rounding of its terms, which may cancel."""
    assert found.shape == expected.shape
    rounding = 0.0 if terms is None else 1e-14 * np.abs(terms.detach().numpy()).sum(axis)
    assert (np.abs(found - expected.detach().numpy()) <= 1e-12 * np.abs(found) + rounding).all()


@settings(deadline=None)
@given(seed=seeds, width=st.integers(1, 9))
def test_the_logistic_gradients_agree_with_the_textbook_formula(seed: int, width: int) -> None:
    point = random_point(np.random.default_rng(seed), (width,))
    x, w, y = map(np.asarray, point)
    residual = y - 1 + 1 / (1 + np.exp(-(w @ x)))
    result = logistic_divergence(point)
    # The textbook formula cancels, down to the rounding of numbers near 1. The gradient of the service does not.
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


@settings(deadline=None, max_examples=200)
@given(x=vector, w=vector, y=st.sampled_from([0.0, 1.0]), rows=st.sampled_from([1, 2]))
def test_for_all_numbers_the_logistic_divergence_is_finite_or_an_error_names_an_element(
    x: Array, w: Array, y: float, rows: int
) -> None:
    (outcome,) = logistic_divergence_batch([LabelledPoint(np.tile(x, (rows, 1)), w, np.full(rows, y))])
    if isinstance(outcome, InvalidInput):
        assert outcome.pointer.split("/")[1] in ("x", "w")
    else:
        assert all(np.isfinite(array).all() for array in outcome)
        assert (outcome.divergence >= 0).all()


def point_with(**changes: Any) -> LabelledPoint:
    return LabelledPoint(np.ones((3, 2)), np.ones((3, 2)), np.ones(3))._replace(**changes)


@pytest.mark.parametrize(
    ("point", "pointer"),
    [
        (point_with(x=entry(np.nan)), "/x/1/0"),
        (point_with(w=np.array([1.0, np.inf])), "/w/1"),
        (point_with(y=np.array([0.0, 1.0, 0.5])), "/y/2"),
        (point_with(y=np.array([np.nan, 1.0, 0.0])), "/y/0"),
        (point_with(x=entry(1e200), w=entry(1e200)), "/x/1/0"),
        (point_with(x=entry(1e200), w=entry(-1e200)), "/x/1/0"),
        (point_with(x=entry(1e10), w=entry(1e300)), "/w/1/0"),
        (point_with(x=entry(1e300), w=entry(1e10)), "/x/1/0"),
        (point_with(x=np.full((3, 2), 1e10), w=np.array([1.0, 1e300])), "/w/1"),
        (point_with(x=np.full((3, 2), [1e308, 0.0]), w=np.array([1e-300, 1.0])), "/x/0/0"),
        (point_with(x=np.ones(())), "/x"),
        (point_with(w=np.ones(3)), "/w"),
        (point_with(y=np.ones(2)), "/y"),
    ],
)
def test_an_invalid_point_is_refused_and_the_error_names_the_value(point: LabelledPoint, pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        logistic_divergence(point)
    assert caught.value.pointer == pointer
    assert caught.value.allowed is not None
