"""The normals that scanners bring with their points, and what they are for the means of voxels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInput
from ..kernel.voxels import Voxels
from ..problem import Problem

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# The least length of the mean of a voxel's unit normals. Those of a shorter one do not agree: an edge, or noise.
AGREEING = 0.8


def normal_errors(problem: Problem, source: Float64, target: Float64) -> Iterator[InvalidInput]:
    """One error for each of the normals that are not one for each point of `source` (N, D) and `target` (M, D)."""
    for name, given, points in (
        ("source_normals", problem.source_normals, source),
        ("target_normals", problem.target_normals, target),
    ):
        if given is not None and (given.shape != points.shape or given.dtype != np.float64):
            yield InvalidInput(
                f"{name} has the shape {given.shape} and the type {given.dtype}",
                pointer=f"/{name}",
                allowed=f"float64 of the shape {points.shape}",
            )


def normals_of_voxels(given: Float64 | None, order: Int64, axes: Int64, found: Voxels) -> Float64 | None:
    """The unit normal of each voxel (P, K), or zeros; None for a cloud without normals.

    A normal and its opposite are the same. The mean of a voxel is that of its unit normals, turned to one side.

    Args:
        given: (N, D) in the caller's coordinates, of any length; zero, or not finite, for a point without one.
        order: (N,) the caller's index of each point of the cloud that was thinned.
        axes: (D,) the caller's coordinate of each row of the cloud.
        found: its voxels.
    """
    if given is None:
        return None
    some = given[order][:, axes]
    with np.errstate(all="ignore"):
        some = some / np.abs(some).max(1, keepdims=True)  # so that no square overflows
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    usable = np.flatnonzero(np.isfinite(some).all(1))
    unit, of = some[usable], found.of[usable]
    first = np.zeros(len(found.counts), np.int64)
    first[of[::-1]] = np.arange(len(of))[::-1]
    sides = np.where((unit * unit[first[of]]).sum(1) < 0, -1.0, 1.0) if len(of) else np.zeros(0)
    counts = np.bincount(of, minlength=len(found.counts))
    means = np.stack([np.bincount(of, row * sides, len(found.counts)) for row in unit.T]) / np.maximum(counts, 1)
    length = np.linalg.norm(means, axis=0)
    out = np.zeros((len(found.points), len(found.counts)))
    agree = length > AGREEING
    out[: len(axes), agree] = means[:, agree] / length[agree]
    return out
