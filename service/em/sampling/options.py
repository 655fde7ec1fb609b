"""The options `sampling` and `noise`: their errors, and what "auto" may choose."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...errors import InvalidInput
from ..choices import NOISES, SAMPLINGS

if TYPE_CHECKING:
    from ..problem import Problem

# Voxels and patches are those of the plane and of space.
DIMENSIONS = 2, 3


def option_errors(problem: Problem) -> Iterator[InvalidInput]:
    """One error for each of the two options that is unknown, out of range, or excluded by another option."""
    sampling, noise = problem.sampling, problem.noise
    if isinstance(sampling, str):
        if sampling not in SAMPLINGS:
            yield _sampling_error(f"sampling {sampling!r} is not known")
    elif not 0 < sampling < math.inf:
        yield _sampling_error(f"sampling is {sampling}; it is the edge length of a voxel")
    elif (reason := _excluded(problem)) is not None:
        yield _sampling_error(f"voxels exclude {reason}")
    if noise not in NOISES:
        yield InvalidInput(f"noise {noise!r} is not known", pointer="/noise", allowed=NOISES)
    elif noise == "surface":
        reason = _excluded(problem)
        if problem.transform not in {"rigid", "translation"}:
            reason = f"transform {problem.transform}"
        elif problem.normalize not in {None, "rows"}:
            reason = f"normalize {problem.normalize}"
        if reason is not None:
            yield InvalidInput(
                f"noise surface excludes {reason}",
                pointer="/noise",
                allowed=["auto", "isotropic"],
            )


def dimension_errors(problem: Problem, dimension: int) -> Iterator[InvalidInput]:
    """The errors of both options for points of D coordinates."""
    if dimension in DIMENSIONS:
        return
    if not isinstance(problem.sampling, str):
        yield _sampling_error(f"voxels need points of 2 or 3 coordinates; these have {dimension}")
    if problem.noise == "surface":
        yield InvalidInput(
            f"noise surface needs points of 2 or 3 coordinates; these have {dimension}",
            pointer="/noise",
            allowed=["auto", "isotropic"],
        )


def may_choose(problem: Problem) -> bool:
    """Whether "auto" may thin the clouds and take them for surfaces; otherwise it means all points, isotropic."""
    return problem.source.shape[1] in DIMENSIONS and _excluded(problem) is None


def _excluded(problem: Problem) -> str | None:
    """An option that neither voxels nor patches go with."""
    if problem.prior_name != "uniform":
        return f"prior {problem.prior_name}"
    if not problem.alike:
        return "weights and pairs"
    if problem.normalize == "sinkhorn":
        return "normalize sinkhorn"
    if problem.refine:
        return "refine"
    return "transform nonrigid" if problem.transform == "nonrigid" else None


def _sampling_error(reason: str) -> InvalidInput:
    return InvalidInput(reason, pointer="/sampling", allowed='"auto", "all", or a length > 0 in the unit of the target')
