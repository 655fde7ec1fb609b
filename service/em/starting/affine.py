"""`init` auto for affine transforms: the best similarity, and the best rotation of the whitened clouds.

Whitening multiplies a cloud by the inverse root of its covariance. An affine map between two clouds is then a rotation
or a reflection, up to noise and to points that one cloud lacks. Reflections are tried if no other start is clear.
Beyond three dimensions the orthogonal matrix comes from moments.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..cancellation import Poll
from ..coordinates import Frame
from ..kinds import AFFINE, RIGID, ROTATION_DIMENSIONS, SIMILARITY
from .annealing import anneal
from .global_start import find_start
from .moments import orthogonal_maps
from .named import deviation
from .near import first_width
from .pyramid import Pyramid
from .starts import Annealing, PoseStart, best_of
from .tuning import AFFINE_START, NEAR

Float64 = NDArray[np.float64]


def affine_start(points: Frame, pyramid: Pyramid, last: float, poll: Poll) -> PoseStart:
    """The start with the highest score; `last` is the least width, in the target's unit. `poll` may raise."""
    D = points.dimension
    round_source, round_target = _whitening(points.source[:D]), _whitening(points.target[:D])
    p, q = points.source[:D].mean(1), points.target[:D].mean(1)
    back = np.linalg.inv(round_target)
    x, y = round_source @ (points.source[:D] - p[:, None]), round_target @ (points.target[:D] - q[:, None])
    widths = first_width(points, pyramid), NEAR.narrow_spacings[-1] * pyramid.spacing
    if D not in ROTATION_DIMENSIONS:
        starts = [("centroid", np.hstack([np.eye(D), (q - p)[:, None]]), deviation(points.target[:D]))]
        for Q in orthogonal_maps(x, y):
            linear = back @ Q @ round_source
            start = np.hstack([linear, (q - linear @ p)[:, None]])
            starts += [("whitened", start, width) for width in widths]
        return best_of(_annealed(pyramid, starts, last, poll))
    found: list[Annealing] = []
    for mirror in (1.0, -1.0):
        flip = np.diag([mirror, *np.ones(D - 1)])
        mine = points if mirror > 0 else points._replace(source=_padded(flip @ points.source[:D]))
        similar = find_start(mine, pyramid if mirror > 0 else Pyramid(mine), SIMILARITY, poll)
        starts = [(similar.name, _after(similar.transform, flip), 4 * similar.sigma)]
        white = points._replace(source=_padded(flip @ x), target=_padded(y))
        turned = find_start(white, Pyramid(white), RIGID, poll)
        linear = back @ turned.transform[:, :D] @ flip @ round_source
        shift = back @ turned.transform[:, D] + q - linear @ p
        starts += [("whitened", np.hstack([linear, shift[:, None]]), width) for width in widths]
        found += _annealed(pyramid, starts, last, poll)
        if max(one.end.score for one in found) >= AFFINE_START.clear[D - 2]:
            break
    return best_of(found)


def _after(transform: Float64, linear: Float64) -> Float64:
    """The transform (D, D + 1) after the matrix `linear` (D, D)."""
    return np.hstack([transform[:, :-1] @ linear, transform[:, -1:]])


def _annealed(pyramid: Pyramid, starts: list[tuple[str, Float64, float]], last: float, poll: Poll) -> list[Annealing]:
    """The starts (name, transform, width), each annealed from its width, with their names."""
    found: list[Annealing] = []
    for name, transform, width in starts:
        poll()
        found.append(Annealing(name, anneal(pyramid, AFFINE, transform, max(width, last), last, poll=poll)))
    return found


def _whitening(points: Float64) -> Float64:
    """The symmetric inverse root (D, D) of the cloud's covariance."""
    values, vectors = np.linalg.eigh(np.cov(points, ddof=0).reshape(len(points), len(points)))
    values = np.maximum(values, 1e-12 * values.max())
    return np.asarray(vectors / np.sqrt(values) @ vectors.T)


def _padded(points: Float64) -> Float64:
    """The points (D, N) with rows of zeros up to three coordinates."""
    out = np.zeros((max(len(points), 3), points.shape[1]))
    out[: len(points)] = points
    return out
