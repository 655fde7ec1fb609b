"""The slope of a noisy series, and its uncertainty."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Float64 = NDArray[np.float64]

# Samples that follow one another are alike, so that their number says little about the uncertainty. The line is fitted
# to the means of this many blocks, which are nearly independent.
BLOCKS = 12
CONFIDENCE = 0.99


class Slope(NamedTuple):
    """A straight line: its mean, its rise an hour, and half of the interval that holds the rise with CONFIDENCE."""

    mean: float
    per_hour: float
    error: float

    def exceeds(self, bound: float) -> bool:
        """Whether the rise is significantly above `bound`, an hour."""
        return self.per_hour - self.error > bound


def fit(seconds: Float64, values: Float64) -> Slope:
    """The line through values (n,) at times (n,), ascending: least squares on the means of up to BLOCKS blocks.

    The interval is that of Student's t with as many degrees of freedom as blocks less two. Fewer than three samples
    have an infinite one.
    """
    if len(values) < 3:
        return Slope(float(np.mean(values)) if len(values) else math.nan, math.nan, math.inf)
    blocks = min(BLOCKS, len(values))
    hours = np.array([part.mean() for part in np.array_split(seconds, blocks)]) / 3600
    means = np.array([part.mean() for part in np.array_split(values, blocks)])
    line = stats.linregress(hours, means)
    error = float(line.stderr) * float(stats.t.ppf((1 + CONFIDENCE) / 2, blocks - 2))
    return Slope(float(values.mean()), float(line.slope), error)
