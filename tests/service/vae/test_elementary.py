"""Elementary functions against exact decimal arithmetic."""

from __future__ import annotations

from decimal import Decimal, localcontext

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.vae.elementary import excess, softplus_and_sigmoid


@settings(deadline=None, max_examples=200)
@given(
    x=st.one_of(st.floats(-0.9999, 1e6), st.floats(-0.2, 0.2), st.floats(-1e-6, 1e-6)).filter(lambda x: abs(x) > 1e-140)
)
def test_x_minus_log_of_1_plus_x_is_accurate_to_its_last_digits(x: float) -> None:
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
