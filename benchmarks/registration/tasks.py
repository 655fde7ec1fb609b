"""Input and output of a contender."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from benchmarks.registration.shapes import Array

Transform = Literal["translation", "rigid", "nonrigid"]
Init = Literal["identity", "auto"]


class Task(NamedTuple):
    """Two clouds to register.

    `outliers` is the fraction of target points without a counterpart, for contenders that take this parameter.
    `reach` is the maximum correspondence distance of an ICP, in the clouds' unit. The default, a quarter of the size,
    covers a rotation of 10° and a shift of 5 %; a larger one helps no contender on the harder problems.
    `voxel` is the side of the voxels of the contenders that thin their clouds; 0 for problems that none thins.
    """

    source: Array  # (N, D)
    target: Array  # (M, D)
    transform: Transform = "rigid"
    init: Init = "identity"
    outliers: float = 0.0
    reach: float = 0.25
    voxel: float = 0.0


class Answer(NamedTuple):
    """The estimated pose, acting on column vectors; for a non-rigid task the registered source."""

    rotation: Array | None = None  # (D, D)
    translation: Array | None = None  # (D,)
    registered: Array | None = None  # (N, D)
    converged: bool | None = None  # None if the contender does not report it
    translation_covariance: Array | None = None  # (D, D)
    rotation_covariance: Array | None = None  # (1, 1) or (3, 3), rad², of a left axis-angle perturbation


SolveOne = Callable[[Task], Answer]
Solve = Callable[[Sequence[Task]], list[Answer]]
