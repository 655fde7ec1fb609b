"""What a contender is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from benchmarks.registration.shapes import Array

Transform = Literal["translation", "rigid", "nonrigid"]
Init = Literal["identity", "auto"]


class Task(NamedTuple):
    """Two clouds to register.

    `outliers` is the fraction of the target without a counterpart, for the contenders that ask for one; `reach` is
    the distance within which an ICP may look for correspondences, in the clouds' unit: a quarter of the size, what
    10° and 5 % of it ask for; more helps none of them on the harder problems.
    """

    source: Array  # (N, D)
    target: Array  # (M, D)
    transform: Transform = "rigid"
    init: Init = "identity"
    outliers: float = 0.0
    reach: float = 0.25


class Answer(NamedTuple):
    """The pose found, acting on column vectors; for a non-rigid task the source where it came to lie."""

    rotation: Array | None = None  # (D, D)
    translation: Array | None = None  # (D,)
    registered: Array | None = None  # (N, D)
    converged: bool | None = None  # None where the contender does not say


SolveOne = Callable[[Task], Answer]
Solve = Callable[[Sequence[Task]], list[Answer]]
