"""Two thinned clouds with their patches, and the density that unrelated clouds of these shapes would have."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..coordinates import Frame
from ..kernel.cells import cells
from ..kernel.expectation import expect
from ..kernel.spacing import spacing_between
from ..kernel.truncated import empty_e_step
from ..model import NONE, log_root
from ..problem import MIN_SIGMA
from .patches import with_given

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# The standard deviation along a patch, in spacings of the cloud: the point stands for a disk of about this radius.
ALONG = 0.85
# The background is the smooth density by as many points, and by a kernel of as many of their spacings: it resolves the
# outline of the cloud. The chance density, which candidates are compared with, resolves more of it.
BACKGROUND_POINTS, CHANCE_POINTS, SMOOTH = 256, 2000, 2.0
# The exponent at which this kernel is cut off, and the density of a point without others, in kernels.
CUTOFF, ALONE = 4.0, 0.1


class Scene(NamedTuple):
    """Both clouds of a frame as surfaces. Lengths are in the frame's unit."""

    source: Float64  # (3, N)
    target: Float64  # (3, M)
    source_normals: Float64  # (3, N) zeros where there is no patch
    target_normals: Float64  # (3, M)
    background: Float64  # (N,) log of the source's own smooth density at each of its points, per unit of length^D
    chance: Float64  # (N,) the same by a narrower kernel
    dimension: int
    tangential: float  # τ of a pair
    floor: float  # the least σ

    def some(self, which: Int64) -> Scene:
        """The scene with a part of the source, by indices."""
        return self._replace(
            source=np.ascontiguousarray(self.source[:, which]),
            source_normals=np.ascontiguousarray(self.source_normals[:, which]),
            background=self.background[which],
            chance=self.chance[which],
        )

    def sample(self, count: int) -> Int64:
        """At most `count` indices of source points, at even strides."""
        size = self.source.shape[1]
        return np.asarray(np.arange(min(count, size)) * size // min(count, size))


class Given(NamedTuple):
    """Normals (3, N) that the caller knows, zeros for points without one; None for a cloud without any."""

    source: Float64 | None = None
    target: Float64 | None = None


def scene(points: Frame, least_flat: float = 0.0, given: Given | None = None) -> Scene | None:
    """The scene of a frame of D = 2 or 3; None if fewer than the share `least_flat` of either cloud have a patch.

    Normals that are given take the place of those of the patches.
    """
    D, known = points.dimension, given or Given()
    source = with_given(points.source, D, known.source, least_flat)
    target = None if source is None else with_given(points.target, D, known.target, least_flat)
    if source is None or target is None:
        return None
    return of_patches(points.source, source.normals, points.target, target.normals, D, points.floor)


def of_patches(
    source: Float64,
    source_normals: Float64,
    target: Float64,
    target_normals: Float64,
    dimension: int,
    floor: float,
) -> Scene:
    """The scene of two even clouds (3, N), (3, M) with their normals; `floor` is the least σ."""
    order, others = (np.random.default_rng(5).permutation(cloud.shape[1]) for cloud in (source, target))
    shuffled, targets = np.take(source, order, 1), np.take(target, others, 1)
    smooth: list[Float64] = []
    for count in BACKGROUND_POINTS, CHANCE_POINTS:
        some, other = (np.ascontiguousarray(cloud[:, :count]) for cloud in (shuffled, targets))
        spacing = max(spacing_between(some, dimension), spacing_between(other, dimension))
        values = np.empty(len(order))
        values[order] = _smooth_density(shuffled, some, SMOOTH * spacing, dimension)
        smooth.append(values)
    spacing = max(spacing_between(shuffled, dimension), spacing_between(targets, dimension))
    tangential = ALONG * spacing * math.sqrt(2)
    background, chance = smooth
    return Scene(source, target, source_normals, target_normals, background, chance, dimension, tangential, floor)


def _smooth_density(points: Float64, some: Float64, width: float, dimension: int) -> Float64:
    """The logarithm (N,) of the density of `some` at each of `points` (3, N), by kernels of this `width`.

    `some` are the first of the points. Each is left out of its own density.
    """
    width = max(width, MIN_SIGMA)
    grid = cells(some, width * math.sqrt(2 * CUTOFF))
    found = empty_e_step(len(points), points.shape[1])
    expect(points, grid, NONE, grid.points, 0.5 / width**2, ALONE, CUTOFF, found, NONE)
    others = np.exp(found.evidence)  # with ALONE
    own = some.shape[1]
    others[:own] = np.maximum(others[:own] - 1, ALONE)
    return np.asarray(np.log(others / max(own - 1, 1)) - dimension * log_root(width))
