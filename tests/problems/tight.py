"""Problems whose iteration runs closer to its limit than the defaults ask for."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from service.em.problem import Problem

TIGHT: dict[str, Any] = {"max_iterations": 100, "tolerance": 1e-6}


def tight(source: Tensor, target: Tensor, **options: Any) -> Problem:
    """A problem of 100 iterations at most and a tolerance of 1e-6, unless `options` say otherwise."""
    return Problem(source, target, **TIGHT | options)
