"""Invalid reparameterizations: the error names the value at fault."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.vae.inputs import Array
from service.vae.reparameterization import (
    PARAMETRIZATIONS,
    Parametrization,
    ReparameterizationJob,
    reparameterize,
    reparameterize_batch,
)
from tests.service.vae.comparison import number
from tests.service.vae.jobs import arrays


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_for_all_numbers_the_outcome_is_finite_or_an_error_that_names_an_element(
    parametrization: Parametrization, data: st.DataObject
) -> None:
    vector = st.lists(number, min_size=2, max_size=2).map(lambda values: np.array(values))
    mu, noise, grad_z, scale, below = (data.draw(vector) for _ in range(5))
    if parametrization == "scale_tril":
        scale = np.array([[scale[0], 0.0], [below[0], scale[1]]])
    (outcome,) = reparameterize_batch(
        [ReparameterizationJob(mu, scale, parametrization, noise, grad_z, data.draw(st.sampled_from([None, 0.0, 1e5])))]
    )
    if isinstance(outcome, InvalidInput):
        _, field, *index = outcome.pointer.split("/")
        assert field in ("mu", "noise", "grad_z", parametrization)
        assert all(int(i) < 2 for i in index)
        assert len(index) >= 1
    else:
        assert all(np.isfinite(array).all() for array in arrays(outcome))


def valid(parametrization: Parametrization = "sigma", **changes: Any) -> ReparameterizationJob:
    scale = np.tile(np.eye(2), (3, 1, 1)) if parametrization == "scale_tril" else np.ones((3, 2))
    ones = np.ones((3, 2))
    return ReparameterizationJob(ones, scale, parametrization, ones, ones, 1.0)._replace(**changes)


def with_entry(shape: tuple[int, ...], index: tuple[int, ...], value: float) -> Array:
    array = np.ones(shape) if len(shape) == 2 else np.tile(np.eye(shape[-1]), (*shape[:-2], 1, 1))
    array[index] = value
    return array


BAD: list[tuple[ReparameterizationJob, str]] = [
    (valid(scale=with_entry((3, 2), (2, 1), 0.0)), "/sigma/2/1"),
    (valid(scale=with_entry((3, 2), (0, 1), -1.0)), "/sigma/0/1"),
    (valid(scale=with_entry((3, 2), (1, 0), np.nan)), "/sigma/1/0"),
    (valid(mu=with_entry((3, 2), (1, 1), np.inf)), "/mu/1/1"),
    (valid(noise=with_entry((3, 2), (0, 0), -np.inf)), "/noise/0/0"),
    (valid(grad_z=with_entry((3, 2), (2, 0), np.nan)), "/grad_z/2/0"),
    (valid("scale_tril", scale=with_entry((3, 2, 2), (1, 1, 1), 0.0)), "/scale_tril/1/1/1"),
    (valid("scale_tril", scale=with_entry((3, 2, 2), (1, 0, 0), -2.0)), "/scale_tril/1/0/0"),
    (valid("scale_tril", scale=with_entry((3, 2, 2), (2, 0, 1), 1e-300)), "/scale_tril/2/0/1"),
    (valid("scale_tril", scale=with_entry((3, 2, 2), (2, 1, 0), np.nan)), "/scale_tril/2/1/0"),
    (valid("log_variance", scale=with_entry((3, 2), (1, 0), 2000.0)), "/log_variance/1/0"),
    (valid("log_variance", scale=with_entry((3, 2), (1, 0), 2000.0), kl_weight=None), "/log_variance/1/0"),
    (valid("log_variance", scale=with_entry((3, 2), (1, 0), 1000.0)), "/log_variance/1/0"),  # σ² overflows, not σ
    (valid(scale=with_entry((3, 2), (2, 0), 1e200)), "/sigma/2/0"),
    (valid("scale_tril", scale=with_entry((3, 2, 2), (2, 1, 0), 1e200)), "/scale_tril/2/1/0"),
    (
        valid("scale_tril", scale=with_entry((3, 2, 2), (2, 1, 0), 1e308), noise=np.full((3, 2), 10.0)),
        "/scale_tril/2/1/0",
    ),
    (
        valid("scale_tril", scale=with_entry((3, 2, 2), (2, 1, 1), 1e308), noise=np.full((3, 2), 10.0)),
        "/scale_tril/2/1/1",
    ),
    (valid(mu=with_entry((3, 2), (2, 1), 1e200)), "/mu/2/1"),
    (valid(grad_z=with_entry((3, 2), (2, 0), 1e308), noise=np.full((3, 2), 10.0)), "/grad_z/2/0"),
    (valid("scale_tril", grad_z=with_entry((3, 2), (2, 1), 1e308), noise=np.full((3, 2), 10.0)), "/grad_z/2/1"),
    (valid(mu=np.ones(())), "/mu"),
    (valid(mu=np.ones((1, 3, 2))), "/mu"),
    (valid(mu=np.ones((0, 2))), "/mu"),
    (valid(scale=np.ones(2)), "/sigma"),
    (valid("softplus", scale=np.ones((3, 1))), "/softplus"),
    (valid("scale_tril", scale=np.eye(2)), "/scale_tril"),
    (valid(noise=np.ones((3, 3))), "/noise"),
    (valid(grad_z=np.ones((2, 3))), "/grad_z"),
    (valid(kl_weight=-1.0), "/kl_weight"),
    (valid(kl_weight=np.nan), "/kl_weight"),
    (valid()._replace(parametrization="variance"), "/parametrization"),  # type: ignore[arg-type]
    (valid(scale=with_entry((3, 2), (2, 0), 10.0), noise=with_entry((3, 2), (2, 0), 1e308)), "/noise/2/0"),
    (valid(noise=with_entry((3, 2), (2, 0), 1e308), grad_z=with_entry((3, 2), (2, 0), 10.0)), "/noise/2/0"),
    (
        valid(
            "log_variance",
            scale=with_entry((3, 2), (1, 1), 1400.0),
            grad_z=with_entry((3, 2), (1, 1), 1e10),
            kl_weight=None,
        ),
        "/log_variance/1/1",
    ),
    (valid("scale_tril", scale=with_entry((3, 2, 2), (2, 1, 0), 10.0), noise=np.full((3, 2), 1e308)), "/noise/2/0"),
    (valid(scale=with_entry((3, 2), (2, 1), 100.0), kl_weight=1e308), "/kl_weight"),
    (valid(mu=with_entry((3, 2), (2, 1), 100.0), kl_weight=1e308), "/kl_weight"),
    (valid(scale=with_entry((3, 2), (2, 1), 1e-100), kl_weight=1e300), "/kl_weight"),
    (valid(scale=with_entry((3, 2), (2, 1), 1e-300), kl_weight=1e100), "/sigma/2/1"),
    (valid("scale_tril", scale=with_entry((3, 2, 2), (2, 1, 1), 100.0), kl_weight=1e308), "/kl_weight"),
]


@pytest.mark.parametrize(("job", "pointer"), BAD)
def test_an_invalid_job_is_refused_and_the_error_names_the_value(job: ReparameterizationJob, pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        reparameterize(job)
    assert caught.value.pointer == pointer
    assert caught.value.allowed is not None


def test_an_error_states_the_value_and_the_element() -> None:
    one = np.ones(2)
    job = ReparameterizationJob(one, np.array([0.0, 2000.0]), "log_variance", one, one)
    with pytest.raises(InvalidInput, match=r"log_variance\[1\] = 2000\.0: z overflows float64"):
        reparameterize(job)
