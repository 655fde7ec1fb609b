"""The range of lengths in one problem. Beyond it, squares and their quotients and sums would overflow.

All lengths are those of a `coordinates.Frame`, where half of the points are within 2 units of the origin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from .coordinates import Frame
from .problem import Pose, Problem

Float64 = NDArray[np.float64]

# A length may be this many times another one of the problem: 1e60² · 1e60² · D, summed over pairs, is still finite.
MAX_RATIO = 1e60
# Either cloud may be this many times as large as the other, where a transform changes sizes.
MAX_GROWTH = 1e150
# A distance may be this many times a given σ: (1e125)² = 1e250.
MAX_DEVIATIONS = 1e125


def check_ranges(problem: Problem, points: Frame) -> None:
    """Raise InvalidInput if the clouds' extents, a point or the given σ are too far apart."""
    growth = points.target_unit / points.source_unit
    if not 1 / MAX_GROWTH <= growth <= MAX_GROWTH:
        raise InvalidInput(
            f"the target is about {growth:.1g} times as large as the source",
            pointer="/target",
            allowed=f"clouds of which neither is more than {MAX_GROWTH:g} times as large as the other",
        )
    farthest = 1.0
    for name, cloud, order in (
        ("source", points.source, points.source_order),
        ("target", points.target, points.target_order),
    ):
        distance = np.abs(cloud).max(0)
        most = float(distance.max())
        if most > MAX_RATIO:
            raise InvalidInput(
                f"this point of the {name} is {most:.3g} times as far from the others as they are from one another",
                pointer=f"/{name}/{order[distance.argmax()]}",
                allowed=f"points at most {MAX_RATIO:g} times as far from the others",
            )
        farthest = max(farthest, most)
    if problem.sigma is None:
        return
    sigma = problem.sigma / points.target_unit
    if not farthest / MAX_DEVIATIONS <= sigma <= MAX_RATIO:
        raise InvalidInput(
            f"sigma is {problem.sigma}; the points are up to about {farthest * points.target_unit:.3g} apart",
            pointer="/sigma",
            allowed=f"a number from {farthest * points.target_unit / MAX_DEVIATIONS:.3g} to "
            f"{MAX_RATIO * points.target_unit:.3g} for these points",
        )


def start_in_frame(points: Frame, pose: Pose) -> Float64:
    """A start in the frame's coordinates, (D, D + 1). Raises InvalidInput if it is out of range."""
    D = points.dimension
    with np.errstate(over="ignore", invalid="ignore"):
        start = points.from_caller(pose)
    most, size = float(np.abs(start).max()), float(np.abs(start[:, :D]).max())
    # Written so that NaN is refused.
    if most <= MAX_RATIO and size >= 1 / MAX_RATIO:
        return start
    raise InvalidInput(
        f"the start changes lengths by {size:.3g}, or moves the source by {most:.3g}, in extents of the clouds",
        pointer="/init",
        allowed=f"a start that changes lengths by {1 / MAX_RATIO:g} to {MAX_RATIO:g}, and moves the source by at most "
        f"{MAX_RATIO:g}",
    )
