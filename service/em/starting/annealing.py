"""Coarse to fine: from a rough pose, a wide kernel and few points to a pose worth climbing from.

Each level takes a few robust E- and M-steps at one width, and the width falls geometrically. Robust means that an
outlier bin takes over beyond D + 4√(2D) squared widths, four standard deviations of a chi-square above its mean. A
level uses only as many targets as its width can distinguish, because a wide kernel blurs the others.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..climbing.climb import Anderson
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
from ..kernel.truncated import EStep, empty_e_step, expect
from ..model import NONE, Model, Parameters
from .pyramid import Pyramid
from .tuning import ANNEALING

Float64 = NDArray[np.float64]


class Annealed(NamedTuple):
    """The level with the highest score."""

    transform: Float64  # (D, D + 1) given by its M-step
    sigma: float  # its width
    score: float  # see `_score`
    inliers: float  # share of the source with a partner within reach of that width
    path: list[Float64]  # the transforms up to there


def robust_bin(dimension: int) -> float:
    """exp(-c/2) at the squared distance c, in widths, beyond which a point counts as an outlier."""
    return math.exp(-(dimension + 4 * math.sqrt(2 * dimension)) / 2)


def anneal(
    pyramid: Pyramid,
    kind: int,
    transform: Float64,
    first: float,
    last: float,
    source_points: int = ANNEALING.source_points,
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
    for _ in range(ANNEALING.most_levels):
        anderson = Anderson(Model(kind, estimate_sigma=False))
        grid = pyramid.grid(width)
        estimate = width
        for visit in range(ANNEALING.most_steps):
            move(transform, source, moved)
            expect(moved, grid, NONE, grid.points, 0.5 / width**2, bin_weight, ANNEALING.cutoff, found, NONE)
            sums = sums_of_rows(source, D, found)
            total = float(sums.within[D, D])
            if total <= min(D + 1, 0.5 * len(found.mass)):
                return best
            after = _fit(kind, transform, sums, scaled=width <= ANNEALING.scored_spacings * pyramid.grain)
            estimate = math.sqrt(residual_after(sums, transform, after) / (total * D))
            step = mean_square_step(sums.within, transform, after)
            path.append(after)
            if step < (ANNEALING.settled_step * width) ** 2 or visit + 1 == ANNEALING.most_steps:
                if width <= ANNEALING.scored_spacings * pyramid.grain or width <= last:
                    # A cloud that is squeezed flat is so dense that no match is evidence.
                    volume = max(abs(float(np.linalg.det(transform[:, :D]))), ANNEALING.least_volume)
                    score = _score(found, width, grid.points.shape[1], pyramid.chance(moved, volume), D)
                    if score > best.score:
                        best = Annealed(after, width, score, total / source.shape[1], path)
                transform = after
                break
            proposal = anderson.propose(Parameters(transform, width), Parameters(after, width))
            transform = after if proposal is None else proposal.transform
        # Below the blur the residuals measure the noise, but a few chance neighbours may still widen them. The width
        # therefore falls on until it is far below that of the best score.
        sharp = width < ANNEALING.blurred_spacings * pyramid.spacing
        if width <= last or (sharp and width < ANNEALING.past_best * best.sigma):
            break
        width = max(
            min(ANNEALING.width_ratio * width, 1.05 * estimate) if sharp else ANNEALING.width_ratio * width, last
        )
    return best


def _fit(kind: int, transform: Float64, sums: Sums, *, scaled: bool) -> Float64:
    """The M-step; `scaled` says whether a similarity may change its scale.

    Under a wide kernel each point moves to the mean of many targets, and the cloud would shrink to a point.
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
    """The mean log-likelihood ratio of a source point, matched against chance, in nats.

    max_w mean_i log((1 - w) g_i / f_i + w), g_i = (1/M) Σ_j N(x_i; y_j, σ²), with the smooth density f of `chance`:
    points without a partner cost log w, and two clouds that agree in outline alone score 0. With one density for all
    outliers, agreeing outlines would count as matches if the clouds overlap in part. The bin of `found` is not used.
    """
    gauss = found.mass * np.exp(np.minimum(found.evidence, 700))
    ratio = gauss * ((2 * math.pi * width * width) ** (-dimension / 2) / targets) / chance
    return max(float(np.log((1 - w) * ratio + w).mean()) for w in ANNEALING.outlier_shares)
