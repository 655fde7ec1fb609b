"""Rigid problems with known answers: clouds of several families, cut, with outliers, turned by anything."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

FAMILIES = ("cube", "gauss", "shell", "curve")


class Posed(NamedTuple):
    """Two clouds and q = s R p + T."""

    source: Float64  # (N, D)
    target: Float64  # (M, D)
    rotation: Float64  # (D, D)
    scale: float
    translation: Float64  # (D,)


def cloud(family: str, count: int, dimension: int, rng: np.random.Generator) -> Float64:
    """Points (count, dimension) of about unit size."""
    if family == "cube":
        return rng.uniform(-0.5, 0.5, (count, dimension))
    if family == "gauss":
        return 0.25 * rng.normal(size=(count, dimension))
    if family == "shell":
        points = rng.normal(size=(count, dimension))
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        bumps = np.sin(points @ (2 * rng.normal(size=(dimension, 4))))
        return np.asarray(points * (0.5 + 0.06 * bumps.sum(1, keepdims=True)))
    if family == "curve":
        angle = np.outer(rng.uniform(0, 2 * math.pi, count), [1, 2, 3])
        waves = rng.normal(size=(2, 3, dimension))
        return np.asarray(0.15 * (np.sin(angle) @ waves[0] + np.cos(angle) @ waves[1]))
    raise ValueError(f"no such family: {family}")


def rotation(dimension: int, angle: float, rng: np.random.Generator) -> Float64:
    """The rotation (D, D) by `angle` radians about a random axis."""
    if dimension == 2:
        return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    x, y, z = (axis := rng.normal(size=3)) / np.linalg.norm(axis)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + math.sin(angle) * skew + (1 - math.cos(angle)) * skew @ skew)


def posed(
    family: str,
    count: int,
    *,
    dimension: int = 3,
    overlap: float = 1.0,
    outliers: float = 0.0,
    noise: float = 0.005,
    scale: float = 1.0,
    angle: float | None = None,
    seed: int = 0,
) -> Posed:
    """Two clouds of `count` points, each with `outliers` uniform outliers a point, in random order.

    The clouds share the fraction `overlap` of their points, cut by parallel planes; `angle` (rad) is random for None.
    """
    rng = np.random.default_rng(seed)
    whole = round(count * (2 - overlap))
    points = cloud(family, whole, dimension, rng)
    points = points[np.argsort(points @ rng.normal(size=dimension))]
    R = rotation(dimension, rng.uniform(0, math.pi) if angle is None else angle, rng)
    T = rng.normal(size=dimension)
    source, target = points[:count], points[whole - count :]
    target = scale * (target + noise * rng.normal(size=target.shape)) @ R.T + T
    both = [_strewn(one, round(outliers * count), rng) for one in (source, target)]
    return Posed(both[0], both[1], R, scale, T)


def errors(problem: Posed, linear: Float64, translation: Float64) -> tuple[float, float]:
    """How far off y = A p + t is: the angle in degrees, and the distance at the source's centroid, in its unit size."""
    D = len(linear)
    turn = linear / abs(np.linalg.det(linear)) ** (1 / D) @ problem.rotation.T
    cosine = (np.trace(turn) - (D - 2)) / 2
    middle = problem.source.mean(0)
    off = linear @ middle + translation - (problem.scale * problem.rotation @ middle + problem.translation)
    return math.degrees(math.acos(min(max(float(cosine), -1.0), 1.0))), float(np.linalg.norm(off)) / problem.scale


def _strewn(points: Float64, count: int, rng: np.random.Generator) -> Float64:
    others = rng.uniform(points.min(0), points.max(0), (count, points.shape[1]))
    return rng.permutation(np.concatenate([points, others]))


def go_on() -> None:
    """The `poll` of a computation that is never cancelled."""
