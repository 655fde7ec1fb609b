"""Problems with a smaller tolerance than the default."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from service.em.problem import Problem

TIGHT: dict[str, Any] = {"max_iterations": 100, "tolerance": 1e-6}


def tight(source: NDArray[Any], target: NDArray[Any], **options: Any) -> Problem:
    """A problem of 100 iterations at most and a tolerance of 1e-6, unless `options` has others."""
    return Problem(source, target, **TIGHT | options)
