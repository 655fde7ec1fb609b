"""Known correspondences: their form, and the options that they go with.

A pair [i, j, s] states that source point i belongs to target j. If s is infinite the pair is exact, and Z_ij is known:
of its data point, r is one for the pair and zero for all other components and for no partner. Otherwise the prior of
the pair is multiplied by e^s, relative to those of the other components of its data point.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from .problem import Problem
from .weights import exclusion

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def check_pairs(problem: Problem, n: int, m: int) -> Problem:
    """The problem, whose weights are checked, with its pairs as float64 (K, 3), exact ones with an infinite strength.

    Raises InvalidInput, with a pointer to the pair, for indices out of range, a strength that is not above 0, points
    of weight 0, and pairs that contradict one another.
    """
    if problem.pairs is None:
        return problem
    given = np.asarray(problem.pairs)
    if given.ndim != 2 or given.shape[1] not in {2, 3} or given.dtype.kind not in "iuf":
        raise InvalidInput(
            f"the pairs have the shape {given.shape} and the type {given.dtype}",
            pointer="/pairs",
            allowed="a list of [i, j] or [i, j, strength]",
        )
    if not len(given):
        return problem._replace(pairs=None)
    pairs = np.full((len(given), 3), np.inf)
    pairs[:, : given.shape[1]] = given
    for column, name, count in ((0, "source", n), (1, "target", m)):
        index = pairs[:, column]
        wrong = ~((index >= 0) & (index < count) & (index == np.floor(index)))
        _refuse(pairs, wrong, f"names no point of the {name}", f"indices from 0 to {count - 1}")
        weights = problem.source_weights if name == "source" else problem.target_weights
        if weights is not None:
            _refuse(
                pairs, weights[index.astype(np.int64)] == 0, f"has a point of the {name} of weight 0", "other points"
            )
    _refuse(pairs, ~(pairs[:, 2] > 0), "has no strength above 0", "[i, j], or [i, j, strength] with a strength > 0")
    _refuse(pairs, _repeated(pairs[:, 0]), "repeats the source point of another one", "each source point once")
    if problem.resolved_normalize == "columns":
        repeated = _repeated(pairs[:, 1])
        _refuse(pairs, repeated, "repeats the target of another one", "each target once, or normalize rows")
    elif problem.matching == "one_to_one":
        exact = np.isinf(pairs[:, 2])
        repeated = _repeated(np.where(exact, pairs[:, 1], -1.0 - np.arange(len(pairs))))
        _refuse(pairs, repeated, "repeats the target of another one", "each target once, or matching nearest")
    return problem._replace(pairs=pairs)


def pair_errors(problem: Problem) -> Iterator[InvalidInput]:
    """The error of an option that pairs, as `check_pairs` returns them, do not go with."""
    if problem.pairs is None:
        return
    excluded = exclusion(problem, by_columns=problem.resolved_normalize == "columns")
    if excluded is not None:
        reason, cure = excluded
        yield InvalidInput(f"pairs exclude {reason}", pointer="/pairs", allowed=f"no pairs, or {cure}")


def _refuse(pairs: Float64, wrong: NDArray[np.bool_], reason: str, allowed: str) -> None:
    """Raise InvalidInput for the first of `pairs` (K, 3) that is `wrong` (K,)."""
    if wrong.any():
        k = int(wrong.argmax())
        written = ", ".join(f"{value:.15g}" for value in pairs[k] if value != np.inf)
        raise InvalidInput(f"the pair [{written}] {reason}", pointer=f"/pairs/{k}", allowed=allowed)


def _repeated(values: Float64) -> NDArray[np.bool_]:
    """Whether a value occurs before."""
    _, first = np.unique(values, return_index=True)
    out = np.ones(len(values), bool)
    out[first] = False
    return out
