"""The model of one registration, shared by all loops: parameters, choices, cutoffs and the density of outliers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .choices import Normalize
from .jit import compiled

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Stands for an array that does not apply, such as equal weights; compiled loops take no None.
NONE: Float64 = np.empty(0)
NO_INDICES: Int64 = np.empty(0, np.int64)
# Gaussian terms below e^-40 of a row's sum are below the resolution of float64. Past EXACT_PAIRS pairs, terms below
# e^-12 are left out: distances beyond 4.9 σ, and less than 6e-6 of a row's mass for each target.
EXACT, TRUNCATED = 40.0, 12.0
EXACT_PAIRS = 1 << 22
# Bounds of an estimated share of outliers. Near 1 the inliers are too few to estimate σ.
LEAST_OUTLIERS, MOST_OUTLIERS = 1e-6, 0.95
# The bound for a pose is lower, because the few inliers of a wrong pose may match by coincidence.
MOST_POSE_OUTLIERS = 0.85
# The most numbers of a transform for which the information, a square matrix of them, is computed.
MAX_PARAMETERS = 256
# An estimated σ stops at this share of the spread of the clouds: an exact match has unbounded likelihood as σ → 0, and
# the rounding of the coordinates would exceed the squares that σ is estimated from. `coordinates.frame` and
# `batched.padding.pack` define the spread, each for its engine.
SIGMA_FLOOR = 1e-6
LOG_ROOT_TWO_PI = 0.5 * math.log(2 * math.pi)


class Known(NamedTuple):
    """What the caller knows of single data points, in the order of a `Frame`."""

    importance: Float64 = NONE  # α, whose sum is the effective number of data points; empty for ones
    paired: Int64 = NO_INDICES  # (K,) data points whose component is known
    partner: Int64 = NO_INDICES  # (K,) their components
    strength: Float64 = NONE  # (K,) nats by which the log prior of the pair rises; infinite for exact pairs

    @property
    def nothing(self) -> bool:
        """Whether all data points count alike, and no pairs are known."""
        return not len(self.importance) and not len(self.paired)

    def of(self, some: Int64) -> Known:
        """The same of a sample of the data, by sorted indices."""
        place = np.searchsorted(some, self.paired)
        has = np.isin(self.paired, some, assume_unique=True)
        importance = self.importance[some] if len(self.importance) else NONE
        return Known(importance, place[has], self.partner[has], self.strength[has])


class Model(NamedTuple):
    """The choices that stay the same during the iteration."""

    kind: int  # the code of a `kinds.TransformKind`
    normalize: Normalize = "rows"
    mixing: bool = False  # whether π is estimated
    estimate_sigma: bool = True
    estimate_outliers: bool = False
    most_outliers: float = MOST_OUTLIERS
    cutoff: float = EXACT
    log_prior: Float64 = NONE  # (N, M) log Π if the caller gives a matrix, else empty
    known: Known = Known()


class Parameters(NamedTuple):
    """The estimates, in the coordinates of a `Frame`."""

    transform: Float64  # (D, D + 1) [A | t]
    sigma: float  # in the target's unit
    outliers: float = 0.0  # w
    weights: Float64 = NONE  # π: (M,), or (N,) for columns; empty for equal weights


@compiled
def log_root(sigma: float) -> float:
    """log(√(2π)σ), the negative logarithm of a Gaussian's normaliser in one dimension."""
    return LOG_ROOT_TWO_PI + math.log(sigma)


@compiled
def bin_weight(outliers: float, sigma: float, dimension: int, log_volume: float, largest: float) -> float:
    """The weight β of the outlier bin relative to Gaussians without their normaliser, the largest weighing 1.

    β = w/(1 - w) · (√(2π)σ)^D / V / max_j π_j, with the share of outliers w, spread evenly over the volume V, and
    `largest` = max_j π_j. If the kernel is wider than V, the density of outliers is that of the kernel.
    """
    gauss = dimension * log_root(sigma) - log_volume
    return outliers / (1 - outliers) / largest * math.exp(min(gauss, 0.0))


@compiled
def outlier_volume(points: Float64, dimension: int) -> float:
    """The volume V (length^D) that outliers are spread over: the box of `points` (P, N).

    Each side is at least a tenth of the longest, because outliers may lie outside a flat cloud's plane. In hundreds of
    dimensions V may be infinite or 0; see `log_of_volume`.
    """
    sides = np.empty(dimension)
    for d in range(dimension):
        sides[d] = points[d].max() - points[d].min()
    longest = sides.max() if sides.max() > 0 else 1.0
    return float(np.maximum(sides, longest / 10).prod())


def log_of_volume(volume: float) -> float:
    """log V, with V between 1e-300 and 1e300, so that it is finite."""
    return math.log(min(max(volume, 1e-300), 1e300))


def cutoff_for(source_count: int, target_count: int) -> float:
    """The exponent beyond which the kernel of a problem of this size is cut off; see `kernel.truncated`."""
    return EXACT if source_count * target_count <= EXACT_PAIRS else TRUNCATED
