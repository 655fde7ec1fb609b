"""A mean over repetitions, and how far off it may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from scipy.stats import t

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """`mean` ± `error`, a confidence interval."""

    mean: float
    error: float


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of n independent values, n at least 2, with its 95 % interval: t · s / √n (Student, 1908)."""
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return Estimate(fmean(values), quantile * stdev(values) / math.sqrt(len(values)))
