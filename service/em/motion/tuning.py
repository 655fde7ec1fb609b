"""The tuning constants of the search for a smooth motion.

Measured by: `python -m benchmarks.registration --scenario figures`, deformed fish, and by the tests of nonrigid
registration. An extent is the root mean square distance of the source's points from their median.
"""

from __future__ import annotations

from typing import NamedTuple

from ..model import LEAST_OUTLIERS


class MotionTuning(NamedTuple):
    """The starts, the priors and the samples of the search."""

    # First widths, in extents, beside the width of all pairs, which needs no pose but may lose a good one.
    first_widths: tuple[float, ...] = (0.3, 0.15)
    no_outliers: float = LEAST_OUTLIERS / 10  # first outlier weight of practically none, which is kept
    some_outliers: float = 0.1  # first outlier weight of starts that estimate it
    first_betas: tuple[float, ...] = (1.0, 1.5)  # kernel widths β, in extents, of the first motions
    betas: tuple[float, ...] = (0.35, 0.5, 0.7, 1.0, 1.5, 2.0)  # those that are then tried on the best of them
    first_stiffness: float = 10.0  # λ at β = 1. A motion of a given slope has a variance proportional to β²
    softest: float = 0.05  # least λ
    stiffest: float = 1e4  # largest λ
    most_estimates: int = 4  # re-estimates of λ
    settled_log_stiffness: float = 0.1  # change of log λ that ends them
    # The first σ for the next prior is `widened` times the last σ, and at least `least_width` extents: with a narrow
    # kernel, pairs persist that a better prior would separate.
    widened: float = 2.0
    least_width: float = 0.05
    first_points: int = 400  # the most points of either cloud at the first level of the search
    most_points: int = 6400  # and at the last
    growth: int = 4  # of the number of points between levels
    tolerance: float = 1e-2  # of every climb but the last, in widths
    most_steps: int = 300  # of every climb but the last


MOTION = MotionTuning()
