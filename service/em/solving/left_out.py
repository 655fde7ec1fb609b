"""The answer for the points of weight 0, which take no part in the fit.

A source point of weight 0 is moved as the others, and matched as a data point of the rows at the answer: r_j is in
proportion to (1 - w) π_j N(A p + T; q_j, σ² I), and w/V is the share of no partner. With `one_to_one` it gets a target
that no other point has. A target of weight 0 is no one's partner.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..cancellation import Poll
from ..climbing.clouds import offsets, unsorted
from ..climbing.correspondence import Correspondence, View, correspondence
from ..coordinates import Frame, frame
from ..kernel.cells import cells
from ..kernel.expectation import expect
from ..kernel.fitting import move
from ..kernel.truncated import UNMATCHED, empty_e_step
from ..model import NONE, bin_weight, cutoff_for, log_of_volume, outlier_volume
from ..outcome import Outcome
from ..problem import Pose, Problem
from ..weights import Kept, proportions

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
ScalarT = TypeVar("ScalarT", np.float64, np.int64)


def with_left_out(problem: Problem, kept: Kept, found: Outcome, poll: Poll) -> Outcome:
    """The outcome `found` of the problem `kept`, in the indices of `problem`, and with the points that it leaves out.

    Arrays have the shapes that an `Outcome` of `problem` has. `poll` may raise.
    """
    rest = np.setdiff1d(np.arange(len(problem.source)), kept.source, assume_unique=True)
    points = frame(kept.problem.source, kept.problem.target, one_unit=problem.kind.one_unit, keep_order=True)
    moved = _moved(points, found, problem.source[rest])
    pairs = _matched(problem, kept, points, found, moved, poll)
    D = points.dimension
    others = np.ascontiguousarray((moved[:D] * points.target_unit)[points.back].T) + points.target_centre

    def joined(ours: NDArray[ScalarT], theirs: NDArray[ScalarT]) -> NDArray[ScalarT]:
        out = np.empty((len(problem.source), *ours.shape[1:]), ours.dtype)
        out[kept.source], out[rest] = ours, theirs
        return out

    match = joined(found.matching, pairs.match)
    responsibilities = None
    if found.responsibilities is not None and pairs.responsibilities is not None:
        responsibilities = np.zeros((len(problem.source), len(problem.target)))
        responsibilities[:, kept.target] = joined(found.responsibilities, pairs.responsibilities)
    unmatched = found.outlier_probability
    return found._replace(
        matching=np.where(match == UNMATCHED, UNMATCHED, kept.target[match]),
        matching_probability=joined(found.matching_probability, pairs.probability),
        outlier_probability=None if unmatched is None else joined(unmatched, pairs.unmatched_probability),
        responsibilities=responsibilities,
        registered=None if found.registered is None else joined(found.registered, others),
    )


def _moved(points: Frame, found: Outcome, rest: Float64) -> Float64:
    """The points `rest` (K, D) of the caller under the answer's transform, (P, K) in the frame's coordinates."""
    D = points.dimension
    linear = np.eye(D) if found.linear is None else found.linear
    source = np.zeros((len(points.source), len(rest)))
    source[:D] = ((rest - points.source_centre) / points.source_unit)[:, points.axes].T
    moved = np.zeros_like(source)
    move(points.from_caller(Pose(linear, found.translation)), source, moved)
    return moved


def _matched(problem: Problem, kept: Kept, points: Frame, found: Outcome, moved: Float64, poll: Poll) -> Correspondence:
    """The correspondence of the `moved` points (P, K) with the targets of the frame."""
    D, count, targets = points.dimension, moved.shape[1], points.target.shape[1]
    sigma, cutoff = found.sigma / points.target_unit, cutoff_for(count, targets)
    grid = cells(points.target, sigma * math.sqrt(2 * cutoff))
    share = proportions(kept.problem) if problem.resolved_normalize == "rows" else None
    offset, largest = offsets(NONE if share is None else share, grid)
    grown = 1.0 if found.linear is None else abs(float(np.linalg.det(found.linear)))
    grown *= (points.source_unit / points.target_unit) ** D
    volume = max(outlier_volume(points.target, D), outlier_volume(points.source, D) * grown)
    none = bin_weight(found.outlier_weight, sigma, D, log_of_volume(volume), largest)
    seen, precision = empty_e_step(len(moved), count), 0.5 / sigma**2
    expect(moved, grid, offset, grid.points, precision, none, cutoff, seen, NONE)
    view = View(
        moved,
        grid,
        unsorted(offset, grid),
        precision,
        -seen.evidence,
        seen.best,
        seen.peak,
        seen.mass,
        none,
        cutoff,
    )
    pairs = correspondence(problem._replace(matching="nearest"), view, poll)
    return _free(pairs, found.matching) if problem.matching == "one_to_one" else pairs


def _free(pairs: Correspondence, taken: Int64) -> Correspondence:
    """The correspondence without the targets that are `taken`; the likeliest of several points has one."""
    match = pairs.match.copy()
    match[np.isin(match, taken)] = UNMATCHED
    order = np.argsort(-pairs.probability, kind="stable")
    _, first = np.unique(match[order], return_index=True)
    has = np.zeros(len(match), bool)
    has[order[first]] = True
    match[~has] = UNMATCHED
    return pairs._replace(match=match, probability=np.where(match == UNMATCHED, 0.0, pairs.probability))
