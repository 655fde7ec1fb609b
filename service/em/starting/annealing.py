"""Coarse to fine: from a rough pose, a wide kernel and few points to a pose worth climbing from.

Each level is one robust E- and M-step at a width that falls geometrically. Robust means that a source point which no
target is near gives way to an outlier bin whose weight goes with the width: it takes over beyond D + 4√(2D) squared
widths, four standard deviations of a chi-square above its mean. At a wide kernel few points tell as much as all, so a
level sees only as many targets as its width can tell apart.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..climbing.climb import Anderson
from ..coordinates import Frame
from ..kernel.background import density
from ..kernel.cells import Cells, cells
from ..kernel.fitting import (
    RIGID,
    SIMILARITY,
    Sums,
    fit,
    mean_square_step,
    move,
    residual_after,
    sums_of_rows,
)
from ..kernel.spacing import spacing_between
from ..kernel.truncated import EStep, empty_e_step, expect
from ..model import NONE, Model, Parameters

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# The least that a transform is taken to leave of a volume.
SQUEEZED = 1e-100
# Source points that a level sees, and targets at the coarsest one.
SOURCE_POINTS = 1000
TARGET_POINTS = 500
# Targets that the finest one sees: what more would tell, the climb that follows learns.
MOST_TARGETS = 32_000
# The spacing, in widths, down to which a level thins the targets.
GRAIN = 0.8
# From one width to the next.
FALL = 0.7
# Widths to the spacing of the targets above which the kernel blurs one target into the next: there the distances to
# them are as wide as the kernel whatever the noise is, and only below it do they tell the noise.
BLUR = 0.5
# How far below the best width so far the widths go on.
PAST = 0.25
MAX_LEVELS = 48
# Steps at one width, at most, and how far, in widths, one may move the points and still be the last of its level.
VISITS = 8
STILL = 0.03
CUTOFF = 9.0
SMOOTH_CUTOFF = 4.0
# Shares of points without a partner that the score of a level tries.
OUTLIERS = (0.02, 0.1, 0.25, 0.4, 0.55)
# The width of the smooth densities, in spacings: wide enough to know the outline and nothing else.
SMOOTH = 2.0
# Widths, in spacings, at which a score is worth something: wider kernels see outlines, which others share.
FINE = 0.7


class Annealed(NamedTuple):
    """The level of the greatest score."""

    transform: Float64  # (D, D + 1) the one that its M-step gave
    sigma: float  # its width
    score: float  # see `_score`
    inliers: float  # share of the source that has a partner within reach of that width
    path: list[Float64]  # the transforms on the way


def robust_bin(dimension: int) -> float:
    """exp(-c/2) at the squared distance c, in widths, beyond which a point counts as an outlier."""
    return math.exp(-(dimension + 4 * math.sqrt(2 * dimension)) / 2)


class Pyramid:
    """Nested random subsets of both clouds, and the grids over those of the target."""

    def __init__(self, points: Frame) -> None:
        self.dimension = points.dimension
        # A fixed seed: the same clouds give the same answer, and the order in which points come does not matter much.
        self._source_order = _shuffled(points.source.shape[1], 1)
        self._target_order = _shuffled(points.target.shape[1], 2)
        self._points = points
        self._grids: dict[int, tuple[float, Cells]] = {}
        self._targets: dict[int, Float64] = {}
        self._wide: Cells | None = None
        self.spacing, self.intrinsic = self._measure()
        self.grain = self.spacing_of(SOURCE_POINTS)
        source = self.source(SOURCE_POINTS)
        self._smooth = SMOOTH * max(self.grain, spacing_between(source, self.dimension))
        self.background = density(source, source, self._smooth, self.dimension)

    def source(self, count: int) -> Float64:
        """At most `count` points of the source (P, n)."""
        return np.ascontiguousarray(self._points.source[:, self._source_order[:count]])

    def target(self, count: int) -> Float64:
        """At most `count` points of the target (P, m)."""
        count = min(count, self._points.target.shape[1])
        if count not in self._targets:
            self._targets[count] = np.ascontiguousarray(self._points.target[:, self._target_order[:count]])
        return self._targets[count]

    def grid(self, width: float, cutoff: float = CUTOFF) -> Cells:
        """As many targets as kernels of this width can tell apart, in cells that suit it."""
        m = min(self._points.target.shape[1], MOST_TARGETS)
        needed = m * (self.spacing / (GRAIN * width)) ** self.intrinsic
        count = TARGET_POINTS
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
        """The median distance between neighbours in the target, and the dimension in which they crowd as they grow."""
        m = min(self._points.target.shape[1], MOST_TARGETS)
        fine = self.spacing_of(m)
        few = min(TARGET_POINTS, m)
        if few > m / 4 or fine == 0:
            return fine, float(self.dimension)
        coarse = self.spacing_of(few)
        return fine, min(max(math.log(m / few) / max(math.log(coarse / fine), 1e-3), 1.0), float(self.dimension))

    def chance(self, moved: Float64, volume: float) -> Float64:
        """The smooth density (n,) at the first n points of the source, moved (P, n): the larger of both clouds'.

        `volume` is what the transform does to volumes.
        """
        count = moved.shape[1]
        own = self.background[:count] / volume
        if self._smooth == 0:
            return own
        if self._wide is None:
            self._wide = cells(self.target(SOURCE_POINTS), self._smooth * math.sqrt(2 * SMOOTH_CUTOFF))
        found = empty_e_step(len(moved), count)
        tiny = math.exp(-SMOOTH_CUTOFF)
        expect(moved, self._wide, NONE, self._wide.points, 0.5 / self._smooth**2, tiny, SMOOTH_CUTOFF, found, NONE)
        kernel = (2 * math.pi * self._smooth**2) ** (-self.dimension / 2) / self._wide.points.shape[1]
        return np.asarray(np.maximum(own, np.exp(found.evidence) * kernel))

    def spacing_of(self, count: int) -> float:
        """The median distance from a target to the nearest one elsewhere, among `count`, over a sample; 0 for none."""
        return spacing_between(self.target(count), self.dimension)


def anneal(
    pyramid: Pyramid, kind: int, transform: Float64, first: float, last: float, source_points: int = SOURCE_POINTS
) -> Annealed:
    """Robust EM from `transform` (D, D + 1), the width falling from `first` until it is no wider than the residuals.

    `last` is the least width. All in the frame's coordinates.
    """
    source = pyramid.source(source_points)
    moved = np.zeros_like(source)
    found = empty_e_step(len(source), source.shape[1])
    D = pyramid.dimension
    bin_weight = robust_bin(D)
    width = max(first, last)
    best = Annealed(transform, width, -math.inf, 0.0, [])
    path = [transform]
    for _ in range(MAX_LEVELS):
        anderson = Anderson(Model(kind, estimate_sigma=False))
        grid = pyramid.grid(width)
        estimate = width
        for visit in range(VISITS):
            move(transform, source, moved)
            expect(moved, grid, NONE, grid.points, 0.5 / width**2, bin_weight, CUTOFF, found, NONE)
            sums = sums_of_rows(source, D, found)
            total = float(sums.within[D, D])
            if total <= min(D + 1, 0.5 * len(found.mass)):
                return best
            after = _fit(kind, transform, sums, scaled=width <= FINE * pyramid.grain)
            estimate = math.sqrt(residual_after(sums, transform, after) / (total * D))
            step = mean_square_step(sums.within, transform, after)
            path.append(after)
            if step < (STILL * width) ** 2 or visit + 1 == VISITS:
                if width <= FINE * pyramid.grain or width <= last:
                    # Squeezed flat, the points are so dense that nothing is evidence of a match.
                    volume = max(abs(float(np.linalg.det(transform[:, :D]))), SQUEEZED)
                    score = _score(found, width, grid.points.shape[1], pyramid.chance(moved, volume), D)
                    if score > best.score:
                        best = Annealed(after, width, score, total / source.shape[1], path)
                transform = after
                break
            proposal = anderson.propose(Parameters(transform, width), Parameters(after, width))
            transform = after if proposal is None else proposal.transform
        # Below the blur the points' own distances tell the noise; a few chance neighbours may still widen them, so a
        # width that seems to have settled is followed down until the score has long passed its peak.
        sharp = width < BLUR * pyramid.spacing
        if width <= last or (sharp and width < PAST * best.sigma):
            break
        width = max(min(FALL * width, 1.05 * estimate) if sharp else FALL * width, last)
    return best


def _fit(kind: int, transform: Float64, sums: Sums, *, scaled: bool) -> Float64:
    """The M-step; `scaled` tells whether a similarity may change its scale.

    Under a wide kernel each point is drawn to the mean of many targets, and the cloud would shrink to a point.
    """
    if kind != SIMILARITY or scaled:
        return fit(kind, transform, sums)
    D = len(transform)
    scale = abs(float(np.linalg.det(transform[:, :D]))) ** (1 / D)
    out = fit(RIGID, transform, sums)
    out[:, :D] *= scale
    out[:, D] = (sums.across[D] - out[:, :D] @ sums.within[D, :D]) / sums.within[D, D]
    return out


def _score(found: EStep, width: float, targets: int, chance: Float64, dimension: int) -> float:
    """How much better the targets explain the source than chance does, for each point.

    max_w mean_i log((1 - w) g_i / f_i + w), g_i = (1/M) Σ_j N(x_i; y_j, σ²), with the smooth density f of `chance`:
    points without a partner cost log w, and two clouds that agree in their outlines alone score 0. A likelihood with
    one density for all outliers would take outlines for matches wherever the clouds overlap in part. `found` was made
    with another bin.
    """
    gauss = found.mass * np.exp(np.minimum(found.evidence, 700))
    ratio = gauss * ((2 * math.pi * width * width) ** (-dimension / 2) / targets) / chance
    return max(float(np.log((1 - w) * ratio + w).mean()) for w in OUTLIERS)


def _shuffled(count: int, seed: int) -> Int64:
    return np.random.default_rng(seed).permutation(count)
