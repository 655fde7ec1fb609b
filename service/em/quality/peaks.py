"""Whether the answer stands out among its neighbours, for clouds whose noise exceeds the distances of their points.

Such clouds have no partners that can be told apart, but they share their finer shape. With the densities g and f of
the target by kernels of σ and 4σ, mean_i log((1 - w) g(x_i)/f(x_i) + w) is compared with its values after motions by
several σ. Unrelated clouds have no peak there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.cells import Cells
from ..outcome import Overlap
from ..slices import pause
from .evidence import LARGEST, profile
from .kernels import log_density, log_smooth, narrow_kernels, within
from .points import extent, in_cells, reached, spacing
from .tuning import PEAK

Float64 = NDArray[np.float64]


class Peak(NamedTuple):
    """How far the answer stands out."""

    height: float  # deviations of its neighbours above their mean; the least for steps and for turns
    evidence: float  # nats for each source point
    overlap: Overlap


def peak(x: Float64, y: Float64, dimension: int, sigma: float, *, rotates: bool) -> Peak | None:
    """The peak at the moved source `x` (P, N) before the target `y` (P, M), P >= 3; None for few or distinct points."""
    n, m, D = x.shape[1], y.shape[1], dimension
    if min(n, m) < PEAK.least or max(n, m) > PEAK.most:
        return None
    source, target = in_cells(x), in_cells(y)
    if not PEAK.dense * spacing(y, PEAK.sample, target) < sigma < PEAK.small * extent(y, D) * math.sqrt(D):
        return None
    count = min(n, PEAK.sample)
    some = np.take(x, np.arange(count) * n // count, 1)
    # A fixed seed makes the answer repeatable.
    rng = np.random.default_rng(3)
    lengths = sigma * np.linspace(*PEAK.lengths, PEAK.motions)
    directions = rng.normal(size=(PEAK.motions, D))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    terms = np.empty(count)
    top, _, unmatched = profile(_ratios(some, target, D, sigma), terms)
    moved = np.repeat(some[None], PEAK.motions, 0)
    moved[:, :D] += (directions * lengths[:, None])[:, :, None]
    height = _height(top, moved, target, D, sigma, unmatched)
    if rotates and D > 1:
        away = some[:D] - some[:D].mean(1, keepdims=True)
        radius = math.sqrt(float((away**2).sum(0).mean()))
        moved = np.repeat(some[None], PEAK.motions, 0)
        for one, direction, length in zip(moved, directions, lengths, strict=True):
            one[:D] += _turned(away, direction, length / radius) - away
        height = min(height, _height(top, moved, target, D, sigma, unmatched))
    near = (PEAK.near * sigma) ** 2
    return Peak(height, top, Overlap(reached(x, count, target, near), reached(y, min(m, count), source, near)))


def _turned(away: Float64, axis: Float64, angle: float) -> Float64:
    """Points (D, n) turned about the origin; in space about a unit `axis` (3,)."""
    c, s = math.cos(angle), math.sin(angle)
    if len(away) == 2:
        s = math.copysign(s, float(axis[0]))
        return np.asarray(np.array([[c, -s], [s, c]]) @ away)
    along = np.outer(axis, axis @ away)
    return np.asarray(along + c * (away - along) + s * np.cross(axis, away.T).T)


def _height(top: float, moved: Float64, target: Cells, dimension: int, sigma: float, unmatched: float) -> float:
    values = np.empty(len(moved))
    for k, one in enumerate(moved):
        pause()
        odds = np.exp(np.minimum(_ratios(one, target, dimension, sigma), LARGEST))
        values[k] = np.log((1 - unmatched) * odds + unmatched).mean()
    return float((top - values.mean()) / max(values.std(), 1e-12))


@compiled
def _ratios(x: Float64, target: Cells, dimension: int, sigma: float) -> Float64:
    """log g/f (n,) at `x` (P, n)."""
    size = target.points.shape[1]
    index, squares, sums, out = np.empty(size, np.int32), np.empty(size), np.empty(5), np.empty(x.shape[1])
    wide = 4 * sigma
    for i in range(len(out)):
        found = within(x, i, target, (4 * wide) ** 2, index, squares)
        narrow_kernels(squares, found, wide, sums)
        out[i] = log_density(sums[2], size, sigma, dimension) - log_smooth(sums[0], size, wide, dimension)
    return out
