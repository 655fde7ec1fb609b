"""Both clouds at several resolutions: random subsets of the size that a kernel's width can resolve."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..coordinates import Frame
from ..kernel.cells import Cells, cells
from ..kernel.expectation import expect
from ..kernel.spacing import spacing_between
from ..kernel.truncated import empty_e_step
from ..model import NONE, log_root
from .background import log_density
from .tuning import ANNEALING, SMOOTH

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Pyramid:
    """Nested random subsets of both clouds, and grids over those of the target.

    `spacing` is the median distance between neighbouring targets, `intrinsic` the dimension D' for which that distance
    falls with the number of targets m as m^(-1/D'), and `grain` the spacing of as many targets as a level has source
    points.
    """

    def __init__(self, points: Frame) -> None:
        self.dimension = points.dimension
        # A fixed seed makes the answer repeatable, and a shuffle makes it depend little on the order of the points.
        self._source_order = _shuffled(points.source.shape[1], 1)
        self._target_order = _shuffled(points.target.shape[1], 2)
        self._points = points
        self._grids: dict[int, tuple[float, Cells]] = {}
        self._targets: dict[int, Float64] = {}
        self._wide: Cells | None = None
        self.spacing, self.intrinsic = self._measure()
        self.grain = self.spacing_of(ANNEALING.source_points)
        source = self.source(ANNEALING.source_points)
        self._smooth = SMOOTH.spacings * max(self.grain, spacing_between(source, self.dimension))
        self._background = log_density(source, source, self._smooth, self.dimension)

    def source(self, count: int) -> Float64:
        """At most `count` points of the source (P, n)."""
        return np.ascontiguousarray(self._points.source[:, self._source_order[:count]])

    def target(self, count: int) -> Float64:
        """At most `count` points of the target (P, m)."""
        count = min(count, self._points.target.shape[1])
        if count not in self._targets:
            self._targets[count] = np.ascontiguousarray(self._points.target[:, self._target_order[:count]])
        return self._targets[count]

    def grid(self, width: float, cutoff: float = ANNEALING.cutoff) -> Cells:
        """As many targets as kernels of this width can distinguish, in cells of a suitable size."""
        m = min(self._points.target.shape[1], ANNEALING.most_targets)
        # No more than all are needed; without the bound, a power with the exponent D could overflow.
        needed = m * min(self.spacing / (ANNEALING.thinned_spacing * width), 1.0) ** self.intrinsic
        count = ANNEALING.coarsest_targets
        while count < min(needed, m):
            count *= 4
        if count > m / 2:
            count = m
        side = width * math.sqrt(2 * cutoff)
        made = self._grids.get(count)
        if made is None or not 0.6 < side / made[0] < 1.7:
            made = side, cells(self.target(count), side)
            self._grids[count] = made
        return made[1]

    def _measure(self) -> tuple[float, float]:
        """`spacing`, and `intrinsic`, which is from 1 to D."""
        m = min(self._points.target.shape[1], ANNEALING.most_targets)
        fine = self.spacing_of(m)
        few = min(ANNEALING.coarsest_targets, m)
        if few > m / 4 or fine == 0:
            return fine, float(self.dimension)
        coarse = self.spacing_of(few)
        return fine, min(max(math.log(m / few) / max(math.log(coarse / fine), 1e-3), 1.0), float(self.dimension))

    def log_chance(self, moved: Float64, log_volume: float) -> Float64:
        """The logarithm (n,) of the smooth density at the first n points of the source, moved (P, n).

        The density is the larger of both clouds'. `log_volume` is the logarithm of the factor by which the transform
        changes volumes.
        """
        count = moved.shape[1]
        own = self._background[:count] - log_volume
        if self._smooth == 0:
            return own
        if self._wide is None:
            self._wide = cells(self.target(ANNEALING.source_points), self._smooth * math.sqrt(2 * SMOOTH.cutoff))
        found = empty_e_step(len(moved), count)
        tiny = math.exp(-SMOOTH.cutoff)
        expect(moved, self._wide, NONE, self._wide.points, 0.5 / self._smooth**2, tiny, SMOOTH.cutoff, found, NONE)
        kernel = -self.dimension * log_root(self._smooth) - math.log(self._wide.points.shape[1])
        return np.asarray(np.maximum(own, found.evidence + kernel))

    def spacing_of(self, count: int) -> float:
        """The median distance between neighbours among `count` targets; 0 if all of them coincide."""
        return spacing_between(self.target(count), self.dimension)


def _shuffled(count: int, seed: int) -> Int64:
    return np.random.default_rng(seed).permutation(count)
