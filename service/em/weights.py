"""The weights of single points: their range, what they multiply, and the points that they leave out.

The data of a mixture are the points of the source with `rows`, and those of the target with `columns`; the points of
the other cloud are its components. With weights a of the data and b of the components, EM climbs

    ℓ = Σ_i α_i log p(x_i),   α_i = a_i Σa / Σa²,   π_j = b_j / Σb

Σα = (Σa)²/Σa² is the effective number of data points (Kish 1965): that of equal weights whose mean varies as much. A
point of weight 0 is left out, and the answer is that of a problem without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from .problem import Problem

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

WEIGHTS = "source_weights", "target_weights"
# With columns the E-step sums the D(D + 1)/2 products of the coordinates, which grow out of proportion with D.
MOST_PRODUCTS = 16


class Kept(NamedTuple):
    """The problem of the points with a positive weight, and their indices."""

    problem: Problem
    source: Int64  # (n,) indices of its source points among all N
    target: Int64  # (m,)

    def error(self, found: InvalidInput) -> InvalidInput:
        """An error about the problem, with a pointer to the caller's index of a point."""
        _, *steps = found.pointer.split("/")
        if len(steps) < 2 or steps[0] not in {"source", "target"}:
            return found
        index = (self.source if steps[0] == "source" else self.target)[int(steps[1])]
        pointer = "/".join(["", steps[0], str(index), *steps[2:]])
        return InvalidInput(found.detail, pointer=pointer, allowed=found.allowed)


def check_weights(problem: Problem, n: int, m: int) -> Problem:
    """The problem with its weights as float64, the largest 1, and None in place of equal ones.

    Raises InvalidInput unless there is one number >= 0 for each point, and one above 0.
    """
    errors: list[InvalidInput] = []
    found: dict[str, Float64 | None] = {}
    for name, count in zip(WEIGHTS, (n, m), strict=True):
        given = getattr(problem, name)
        try:
            found[name] = None if given is None else _checked(given, count, name)
        except InvalidInput as error:
            errors.append(error)
    if errors:
        raise InvalidInput.together(errors)
    if problem.source_weights is None and problem.target_weights is None:
        return problem
    return problem._replace(source_weights=found["source_weights"], target_weights=found["target_weights"])


def weight_errors(problem: Problem) -> Iterator[InvalidInput]:
    """One error for each of the weights, as `check_weights` returns them, that another option excludes."""
    for name in WEIGHTS:
        if getattr(problem, name) is None:
            continue
        excluded = exclusion(problem, by_columns=name == data_name(problem) == "target_weights")
        if excluded is not None:
            reason, cure = excluded
            yield InvalidInput(f"{name} exclude {reason}", pointer=f"/{name}", allowed=f"no weights, or {cure}")


def exclusion(problem: Problem, *, by_columns: bool) -> tuple[str, str] | None:
    """The option that weights and pairs do not go with, and what to use instead; None if there is no such option.

    `by_columns` says whether the E-step would sum products of coordinates; see MOST_PRODUCTS.
    """
    if problem.kind.deforms:
        return "transform nonrigid", "another transform"
    if problem.normalize == "sinkhorn":
        return "normalize sinkhorn", "normalize rows or columns"
    if problem.prior_name != "uniform":
        prior = "a prior matrix" if problem.prior_name == "given" else f"prior {problem.prior_name}"
        return prior, "prior uniform"
    if by_columns and problem.target.shape[1] > MOST_PRODUCTS:
        return f"normalize columns for points of more than {MOST_PRODUCTS} coordinates", "normalize rows"
    return None


def data_name(problem: Problem) -> str:
    """The option with the weights of the data; the other one has those of the components."""
    return "target_weights" if problem.resolved_normalize == "columns" else "source_weights"


def importance(problem: Problem) -> Float64 | None:
    """α of the data, whose sum is their effective number; None for equal weights. All weights must be positive."""
    weights: Float64 | None = getattr(problem, data_name(problem))
    return None if weights is None else weights * (weights.sum() / (weights * weights).sum())


def proportions(problem: Problem) -> Float64 | None:
    """π of the components, whose sum is one; None for equal weights."""
    swapped = problem.resolved_normalize == "columns"
    weights = problem.source_weights if swapped else problem.target_weights
    return None if weights is None else weights / weights.sum()


def effective_count(problem: Problem, count: int) -> float:
    """The effective number of the `count` data points."""
    alpha = importance(problem)
    return count if alpha is None else float(alpha.sum())


def positive(problem: Problem) -> Kept | None:
    """The problem without the points of weight 0; None if there are no such points."""
    one, other = problem.source_weights, problem.target_weights
    if (one is None or one.all()) and (other is None or other.all()):
        return None
    source, target = _positive(one, len(problem.source)), _positive(other, len(problem.target))
    reduced = problem._replace(
        source=problem.source[source],
        target=problem.target[target],
        prior=problem.resolved_prior,  # without weights these defaults may be others
        source_weights=_without_equal(one, source),
        target_weights=_without_equal(other, target),
        sampling="all",
        noise="isotropic",
        source_normals=None,
        target_normals=None,
        pairs=None if problem.pairs is None else _renumbered(problem.pairs, source, target),
    )
    return Kept(reduced, source, target)


def _positive(weights: Float64 | None, count: int) -> Int64:
    return np.arange(count) if weights is None else np.flatnonzero(weights)


def _renumbered(pairs: Float64, source: Int64, target: Int64) -> Float64:
    """The pairs (K, 3) of points among the sorted indices `source` and `target`, by their places there."""
    out = pairs.copy()
    out[:, 0], out[:, 1] = np.searchsorted(source, pairs[:, 0]), np.searchsorted(target, pairs[:, 1])
    return out


def _without_equal(weights: Float64 | None, some: Int64) -> Float64 | None:
    if weights is None:
        return None
    kept = weights[some]
    return None if (kept == kept[0]).all() else kept


def _checked(given: NDArray[Any], count: int, name: str) -> Float64 | None:
    weights = np.asarray(given)
    if weights.shape != (count,):
        raise InvalidInput(
            f"{name} has the shape {weights.shape}; the {name.removesuffix('_weights')} has {count} points",
            pointer=f"/{name}",
            allowed=f"{count} numbers",
        )
    if weights.dtype.kind not in "biuf":
        raise InvalidInput(f"the weights are {weights.dtype}, not real numbers", pointer=f"/{name}")
    weights = weights.astype(np.float64)
    wrong = ~((weights >= 0) & (weights < np.inf))
    if wrong.any():
        i = int(wrong.argmax())
        raise InvalidInput(f"{weights[i]} is not a weight", pointer=f"/{name}/{i}", allowed="a finite number >= 0")
    largest = float(weights.max())
    if largest == 0:
        raise InvalidInput(f"all {name} are 0", pointer=f"/{name}", allowed="at least one weight above 0")
    return None if (weights == largest).all() else weights / largest
