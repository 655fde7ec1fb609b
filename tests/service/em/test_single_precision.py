"""The E-step in single precision agrees with that in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from service.em.kernel.cells import cells
from service.em.kernel.expectation import expect as expect_exactly
from service.em.kernel.single_precision import exp_of, expect
from service.em.kernel.truncated import empty_e_step

Float64 = NDArray[np.float64]


def test_the_exponential_has_six_digits_and_does_not_underflow() -> None:
    for x in np.linspace(-79, 0, 2001, dtype=np.float32):
        assert exp_of(x) == pytest.approx(float(np.exp(np.float64(x))), rel=4e-6)
    assert 0 < exp_of(np.float32(-1e30)) < 1e-30


@pytest.mark.parametrize("width", [3.0, 0.3, 0.03])
@pytest.mark.parametrize("flat", [0, 1])
def test_the_step_agrees_with_the_exact_one(width: float, flat: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 70)), rng.normal(size=(3, 131))
    x[3 - flat :] = y[3 - flat :] = 0
    none = np.empty(0)
    found, exact = empty_e_step(3, 70), empty_e_step(3, 70)
    expect(x, y.astype(np.float32), 0.5 / width**2, 0.02, found)
    expect_exactly(x, cells(y, np.inf), none, y, 0.5 / width**2, 0.02, 40.0, exact, none)
    for name in ("mass", "weighted_target", "residual", "evidence"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name), rel=1e-4, abs=1e-5), name
