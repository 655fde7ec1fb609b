"""Errors of a reparameterization that are listed beside those of its schema."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from service.vae.schemas import ReparameterizeRequest, errors_beside

GOOD: dict[str, Any] = {"mu": [0.5, -1.0], "sigma": [1.0, 2.0], "grad_z": [1.0, 1.0]}


def locations(change: dict[str, Any]) -> set[tuple[str, ...]]:
    """The locations of all errors of a request, which has no location twice."""
    fields = GOOD | change
    with pytest.raises(ValidationError) as refusal:
        ReparameterizeRequest.model_validate(fields)
    errors: list[Any] = [*refusal.value.errors()]
    errors += errors_beside(fields, errors)
    found = [tuple(str(part) for part in error["loc"] if not str(part).startswith("union:")) for error in errors]
    assert len(set(found)) == len(found)
    return set(found)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"foo": 1}, {("foo",)}),
        ({"foo": 1, "sigma": [1.0, 0.0]}, {("foo",), ("sigma", "1")}),
        ({"foo": 1, "sigma": [1.0, "x"]}, {("foo",), ("sigma", "1")}),
        ({"foo": 1, "log_variance": [0.0, 0.0]}, {("foo",), ()}),
        ({"log_variance": [0.0, 0.0], "sigma": [-1.0, 1.0]}, {(), ("sigma", "0")}),
        ({"grad_z": [], "sigma": None}, {("grad_z",), ()}),
    ],
)
def test_the_scale_is_checked_beside_errors_of_the_schema(
    change: dict[str, Any], expected: set[tuple[str, ...]]
) -> None:
    assert locations(change) == expected
