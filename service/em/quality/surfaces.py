"""Surface by surface: do source points lie on the target's surfaces more often than chance explains?

Two scans of a surface share no points. Each target point of an even cloud therefore stands for a disc: a Gaussian, wide
along the patch about it and narrow across, as in generalised ICP (Segal, Haehnel and Thrun 2009). The evidence is that
of `points` with this density for g, and for f a smooth density that resolves the outlines of the clouds only. Within
the reach of the other cloud, a share of the points agrees. Points in front of a patch or behind it contradict; points
beyond the edge of the other cloud do not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernel.spacing import spacing_between
from ..kernel.voxels import occupied, voxels
from ..slices import pause
from .discs import Cloud, Patches, densities, in_grid, nearest, patches, smooth
from .evidence import LARGEST, profile
from .tuning import SURFACE

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]


class Profile(NamedTuple):
    """The evidence of some points."""

    terms: Float64  # (n,)
    mean: float
    unmatched: float  # w


class Surfaces(NamedTuple):
    """How well the surfaces agree."""

    evidence: float  # nats for each source point
    near: float  # share of source points near the target
    near_evidence: float  # nats for each of them
    errors: float  # that in standard errors; points of one place count as one
    agreement: float  # share of them that agrees
    matched: float  # share of all source points that agrees
    target: float  # share of the target that agrees
    residual: float  # root mean square distance of agreeing points across the surface
    hovering: float  # the larger share of either cloud in front of the other's patches or behind them
    comparison: Comparison


class Comparison(NamedTuple):
    """What other poses are compared with."""

    sample: Float64  # (P, n) moved source points
    agreeing: Bool  # (n,) whether the target is more likely than chance there
    target: Cloud
    patches: Patches  # of all points of the target, in the order of its grid
    across: float  # width of a disc across the surface


def compare(x: Float64, y: Float64, dimension: int) -> Surfaces | None:
    """Compare the moved source `x` (P, N) with the target `y` (P, M).

    None for too few points, or too few of them in two places.
    """
    D = dimension
    if min(x.shape[1], y.shape[1]) < SURFACE.least:
        return None
    back, front = (_prepared(cloud, D) for cloud in (x, y))
    coarse, other = (np.ascontiguousarray(one.points[:, : SURFACE.coarse]) for one in (back, front))
    width = SURFACE.smooth * max(spacing_between(coarse, D), spacing_between(other, D))
    if not min(width, front.spacing, back.spacing) > 0:
        return None
    sample, reverse = (np.ascontiguousarray(one.points[:, : SURFACE.sample]) for one in (back, front))
    chance = np.maximum(smooth(sample, other, width, D, 0), smooth(sample, coarse, width, D, 1))
    patch = patches(front, np.arange(front.points.shape[1]), D)
    distance, index = nearest(sample, front.grid, math.inf)
    near = distance < SURFACE.near * front.spacing
    along = SURFACE.along * front.spacing
    widths = np.array(SURFACE.across) * along
    tried = densities(sample, front.grid, patch.normals, along, widths, D) - chance
    profiles = [_profile(ratios) for ratios in tried]
    best = int(np.argmax([found.mean for found in profiles]))
    across, ratios, (terms, evidence, unmatched) = float(widths[best]), tried[best], profiles[best]
    nearby = _profile(ratios[near]) if near.any() else Profile(np.zeros(0), 0.0, 1.0)
    odds = (1 - unmatched) * np.exp(np.minimum(ratios, LARGEST))
    probability = odds / (odds + unmatched)
    matched = float(probability.mean())
    beside = patch.at(index)
    off = offsets(sample, front, index, beside.normals)
    square = np.minimum(np.abs(off), 3 * across) ** 2
    residual = math.sqrt(float((probability * square).sum()) / max(float(probability.sum()), 1e-300))
    away, place = nearest(reverse, back.grid, math.inf)
    behind = patches(back, place, D)
    agreement = 1 - nearby.unmatched
    hovering = max(
        _hovering(distance, off, beside, front.spacing),
        _hovering(away, offsets(reverse, back, place, behind.normals), behind, back.spacing),
    )
    return Surfaces(
        evidence=evidence,
        errors=_in_errors(nearby.terms, sample[:, near], width),
        near=float(near.mean()),
        near_evidence=nearby.mean,
        agreement=agreement,
        matched=matched,
        target=float((away < SURFACE.near * back.spacing).mean()) * agreement,
        residual=residual,
        hovering=hovering,
        comparison=Comparison(sample, terms > 0, front, patch, across),
    )


def _prepared(points: Float64, dimension: int) -> Cloud:
    """A cloud (P, K), thinned until the points around most points do not lie on a line, as on a ring of a lidar."""
    most = SURFACE.points
    while True:
        found = in_grid(_thinned(points, dimension, most), dimension)
        count = found.points.shape[1]
        some = np.arange(0, count, 1 + count // SURFACE.tested)
        if most < 4 * SURFACE.least or patches(found, some, dimension).wide.mean() > 0.5:
            return found
        most //= 2


def _thinned(points: Float64, dimension: int, most: int) -> Float64:
    """At most `most` means of voxels of a cloud (P, K), in random order."""
    # A fixed seed makes the answer repeatable.
    some = np.take(points, np.random.default_rng(1).permutation(points.shape[1])[: SURFACE.strided], 1)
    count = some.shape[1]
    if count <= most:
        return some
    side = spacing_between(some, dimension)
    while count > most and side > 0:
        pause()
        side *= max(1.1, math.sqrt(count / most))  # as many voxels as a surface has squares of this side
        count = occupied(some, side)
    found = voxels(some, side).points if side > 0 else some
    return np.take(found, np.random.default_rng(1).permutation(found.shape[1]), 1)


def _profile(ratios: Float64) -> Profile:
    terms = np.empty(len(ratios))
    mean, _, unmatched = profile(ratios, terms)
    return Profile(terms, mean, unmatched)


def _in_errors(terms: Float64, sample: Float64, width: float) -> float:
    """The mean of `terms` (n,) in its standard errors, with one degree of freedom for each cell of this width."""
    if not len(terms):
        return 0.0
    mean = float(terms.mean())
    sums = np.bincount(voxels(sample, width).of, terms - mean)
    error = math.sqrt(float((sums**2).sum())) / len(terms)
    return mean / max(error, 1e-12)


def offsets(at: Float64, cloud: Cloud, index: Int64, normals: Float64) -> Float64:
    """The offsets (n,) of places (P, n) from points of a grid, by indices (n,), along normals (P, n)."""
    return np.asarray(((at - cloud.grid.points[:, index]) * normals).sum(0))


def _hovering(distance: Float64, off: Float64, nearest_patch: Patches, spacing: float) -> float:
    """The share of points off a flat patch of the other cloud along its normal, and farther than nearby.

    Patches at the edge of that cloud do not count: beyond an edge nothing is known.
    """
    far = (distance > SURFACE.near * spacing) & nearest_patch.flat & ~nearest_patch.edge
    return float((far & (np.abs(off) > SURFACE.upright * distance)).mean())
