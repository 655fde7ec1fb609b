"""Surface by surface: do source points lie on the target's surfaces more often than chance explains?

Two scans of a surface share no points. Each target point of a thinned cloud therefore stands for a disc: a Gaussian,
wide along the patch about it and narrow across, as in generalised ICP (Segal, Haehnel and Thrun 2009). The evidence is
that of `points` with this density for g, and for f a smooth density that resolves the outlines of the clouds only.
Within the reach of the other cloud, a share of the points agrees. Points in front of a patch or behind it contradict;
points beyond the edge of the other cloud do not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .patches import Patches, nearest, patches, smooth_density, thinned
from .tuning import SURFACE

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

LOG_ROOT = 0.5 * math.log(2 * math.pi)
# The largest log-ratio, below the overflow of its exponential.
MOST = 500.0


class Surfaces(NamedTuple):
    """How well the surfaces agree."""

    evidence: float  # nats for each source point
    errors: float  # it in standard errors; points of one place count as one
    near: float  # share of source points near the target
    near_evidence: float  # nats for each of them
    agreement: float  # share of them that agrees
    matched: float  # share of all source points that agrees
    target: float  # share of the target that agrees
    residual: float  # root mean square distance of agreeing points across the surface
    hovering: float  # the share of either cloud in front of the other's patches or behind them, for each agreeing one
    comparison: Comparison


class Comparison(NamedTuple):
    """What the evidence of another pose is computed from."""

    sample: Float64  # (n, D) moved source points
    target: Patches
    chance: Float64  # (n,) log f
    across: float  # width of a disc across the surface
    unmatched: float  # w

    def evidence(self, at: Float64) -> Float64:
        """The evidence (n,) of the sample at other places (n, D); log f stays, as it moves with the sample."""
        distance, offset, _ = _offsets(at, self.target)
        ratios = _log_discs(distance, offset, self.target, self.across) - self.chance
        return np.asarray(np.log((1 - self.unmatched) * np.exp(np.minimum(ratios, MOST)) + self.unmatched))


def compare(x: Float64, y: Float64) -> Surfaces | None:
    """Compare the moved source `x` (D, N) with the target `y` (D, M). None for too few points or none in two places."""
    source, target = thinned(x), thinned(y)
    if min(len(source), len(target)) < SURFACE.least:
        return None
    back, front = patches(source), patches(target)
    coarse_source, coarse_target = source[: SURFACE.coarse], target[: SURFACE.coarse]
    grain = max(_spacing(coarse_source, back), _spacing(coarse_target, front))
    if not (grain > 0 and front.spacing > 0):
        return None
    sample = source[: SURFACE.sample]
    width = SURFACE.smooth * grain
    chance = np.maximum(
        smooth_density(sample, coarse_target, width, omitted=False),
        smooth_density(sample, coarse_source, width, omitted=True),
    )
    distance, offset, index = _offsets(sample, front)
    near = np.asarray(distance[:, 0] < SURFACE.near * front.spacing)
    widths = [ratio * SURFACE.along * front.spacing for ratio in SURFACE.across]
    tried = [_log_discs(distance, offset, front, across) - chance for across in widths]
    profiles = [_profile(ratios) for ratios in tried]
    best = int(np.argmax([terms.mean() for terms, _ in profiles]))
    across, ratios, (terms, unmatched) = widths[best], tried[best], profiles[best]
    near_terms, apart = _profile(ratios[near]) if near.any() else (np.zeros(1), 1.0)
    odds = (1 - unmatched) * np.exp(np.minimum(ratios, MOST))
    probability = odds / (odds + unmatched)
    matched = float(probability.mean())
    share = float(near.mean())
    square = np.minimum(np.abs(_across(sample, front, index[:, 0])), 3 * across) ** 2
    residual = math.sqrt(float((probability * square).sum()) / max(float(probability.sum()), 1e-300))
    reverse, _ = back.nearest(target[: SURFACE.sample])
    agreement = 1 - apart
    target_share = float((reverse < SURFACE.near * back.spacing).mean()) * agreement
    hovering = max(_hovering(sample, front), _hovering(target[: SURFACE.sample], back))
    return Surfaces(
        evidence=float(terms.mean()),
        errors=_in_errors(terms, sample, width),
        near=share,
        near_evidence=float(near_terms.mean()),
        agreement=agreement,
        matched=matched,
        target=target_share,
        residual=residual,
        hovering=hovering / max(matched, 1e-9),
        comparison=Comparison(sample, front, chance, across, unmatched),
    )


def _spacing(some: Float64, whole: Patches) -> float:
    """The median distance between neighbours of some of the points."""
    if len(some) == len(whole.points):
        return whole.spacing
    distance, _ = nearest(cKDTree(some), some[: SURFACE.sample], 2)
    return float(np.median(distance[:, 1]))


def _offsets(at: Float64, target: Patches) -> tuple[Float64, Float64, Int64]:
    """For each point (n, D) its nearest patches: distances, squared offsets along normals, and indices, (n, k) each."""
    distance, index = target.nearest(at, min(SURFACE.partners, len(target.points)))
    away = at[:, None] - target.points[index]
    return distance, np.einsum("nkd,nkd->nk", away, target.normals[index]) ** 2, index


def _across(at: Float64, target: Patches, index: Int64) -> Float64:
    return np.asarray(((at - target.points[index]) * target.normals[index]).sum(1))


def _log_discs(distance: Float64, offset: Float64, target: Patches, across: float) -> Float64:
    """log g (n,): the density of the discs at distances (n, k) and squared offsets across them (n, k)."""
    D, along = target.points.shape[1], SURFACE.along * target.spacing
    exponent = np.maximum(distance**2 - offset, 0) / along**2 + offset / across**2
    least = exponent.min(1)
    total = np.exp(-0.5 * (exponent - least[:, None])).sum(1)
    normaliser = D * LOG_ROOT + (D - 1) * math.log(along) + math.log(across) + math.log(len(target.points))
    return np.asarray(np.log(total) - 0.5 * least - normaliser)


def _profile(ratios: Float64) -> tuple[Float64, float]:
    """The terms (n,) of max_w mean log((1 - w) exp(r) + w), and w, of a few shares."""
    odds = np.exp(np.minimum(ratios, MOST))
    tried = [np.log((1 - share) * odds + share) for share in SURFACE.shares]
    best = int(np.argmax([terms.mean() for terms in tried]))
    return tried[best], SURFACE.shares[best]


def _in_errors(terms: Float64, sample: Float64, width: float) -> float:
    """The mean of `terms` (n,) in its standard errors, with one degree of freedom for each cell of this width."""
    cell = np.floor((sample - sample.min(0)) / width).astype(np.int64)
    _, place = np.unique(cell, axis=0, return_inverse=True)
    mean = float(terms.mean())
    sums = np.bincount(place.ravel(), terms - mean)
    error = math.sqrt(float((sums**2).sum())) / len(terms)
    return mean / max(error, 1e-12)


def _hovering(at: Float64, other: Patches) -> float:
    """The share of points (n, D) off a flat patch of the other cloud along its normal, and farther than nearby."""
    distance, index = other.nearest(at)
    off = np.abs(_across(at, other, index[:, 0]))
    far = distance[:, 0] > SURFACE.near * other.spacing
    return float((far & other.flat[index[:, 0]] & (off > SURFACE.upright * distance[:, 0])).mean())
