"""What a problem states of single points, in the order of its frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..coordinates import Frame
from ..model import NONE, Known, Model
from ..problem import Problem
from ..weights import importance, proportions

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def known(problem: Problem, points: Frame) -> Known:
    """The weights of the data and the pairs. All weights of the problem must be positive."""
    swapped = problem.resolved_normalize == "columns"
    alpha, pairs = importance(problem), pairs_in_frame(problem, points)
    if alpha is not None:
        alpha = alpha[points.target_order if swapped else points.source_order]
    if pairs is None:
        return Known() if alpha is None else Known(alpha)
    source, target, strength = pairs
    return Known(NONE if alpha is None else alpha, *((target, source) if swapped else (source, target)), strength)


def pairs_in_frame(problem: Problem, points: Frame) -> tuple[Int64, Int64, Float64] | None:
    """The pairs of a problem by the frame's indices: i (K,), j (K,) and their strength (K,); None for none."""
    if problem.pairs is None:
        return None
    place = []
    for column, order in enumerate((points.source_order, points.target_order)):
        inverse = np.empty_like(order)
        inverse[order] = np.arange(len(order))
        place.append(inverse[problem.pairs[:, column].astype(np.int64)])
    return place[0], place[1], problem.pairs[:, 2].copy()


def shares(problem: Problem, points: Frame) -> Float64:
    """The mixing proportions π of the components; empty for equal ones."""
    given = proportions(problem)
    if given is None:
        return NONE
    return given[points.source_order if problem.resolved_normalize == "columns" else points.target_order]


def sample(n: int, count: int, known: Known) -> Int64:
    """Sorted indices of a random sample of `count` of n data points, the same in every call; and those of known pairs.

    The latter are left to chance if there are more of them than `count`.
    """
    some = np.sort(np.random.default_rng(3).permutation(n)[:count])
    return np.union1d(some, known.paired) if 0 < len(known.paired) <= count else some


def weights_of_pairs(model: Model, match: Int64) -> Float64 | None:
    """The weight (N,) of each source point's pair in a refinement: α of its data point. None for equal weights."""
    alpha = model.known.importance
    if not len(alpha):
        return None
    return alpha[match] if model.normalize == "columns" else alpha
