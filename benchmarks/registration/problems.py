"""Seeded pairs of clouds with a known pose: q = R p + T + noise, shuffled, with outliers or partial overlap."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from benchmarks.registration.shapes import SHAPES, Array, cloud, direction, rotation
from benchmarks.registration.tasks import Task

NOISE = 0.01  # of the size, in each coordinate; the clouds have size 1


class Pair(NamedTuple):
    """A task with its true pose: q_j = rotation @ p_i + translation + noise for each i with a counterpart j."""

    task: Task
    rotation: Array  # (D, D)
    translation: Array  # (D,)
    size: float = 1.0  # half the diagonal of the bounding box, in the clouds' unit


class PoseError(NamedTuple):
    """Error of an estimated pose."""

    degrees: float  # geodesic angle between the rotations
    percent: float  # displacement of the source centroid, in % of the size


def right(error: PoseError) -> bool:
    """Whether the error counts as a success: at most 1° and 1 % of the size."""
    return error.degrees <= 1 and error.percent <= 1


def pose_error(pair: Pair, found_rotation: Array, found_translation: Array) -> PoseError:
    """The error of an estimated pose; infinite if the pose has non-finite numbers.

    The angle comes from the chord ‖R - R'‖_F = 2√2 sin(θ/2), in 2-D and 3-D alike. Unlike the arccos of the trace, the
    chord resolves small angles, and it penalises a matrix that is not a rotation.
    """
    if not (np.isfinite(found_rotation).all() and np.isfinite(found_translation).all()):
        return PoseError(np.inf, np.inf)
    chord = float(np.linalg.norm(found_rotation - pair.rotation))
    degrees = float(np.degrees(2 * np.arcsin(min(chord / 8**0.5, 1.0))))
    centre = pair.task.source.mean(axis=0)
    shift = (found_rotation - pair.rotation) @ centre + found_translation - pair.translation
    return PoseError(degrees, 100 * float(np.linalg.norm(shift)) / pair.size)


def close(seed: int, count: int, shape: str = "cube") -> Pair:
    """`count` points with noise, displaced by 10° and 5 % of the size; the start is the identity."""
    rng = np.random.default_rng([seed, count])
    source = cloud(shape, count, rng)
    dimension = source.shape[1]
    turn, shift = rotation(dimension, rng, 10), 0.05 * direction(dimension, rng)
    task = Task(source, _seen(source, turn, shift, rng))
    return Pair(task, turn, shift)


def turned(seed: int) -> Pair:
    """A random rotation, and a translation of up to two sizes."""
    rng, source = _draw(seed)
    turn, shift = rotation(source.shape[1], rng), _shift(source.shape[1], rng)
    return Pair(Task(source, _seen(source, turn, shift, rng), init="auto"), turn, shift)


def crowded(seed: int, both: bool = False) -> Pair:
    """A random rotation, with N/2 outliers in the target or in both clouds, uniform in the bounding box."""
    pair = turned(seed)
    rng = np.random.default_rng([seed, 2])
    source, target = pair.task.source, pair.task.target
    return pair._replace(
        task=pair.task._replace(
            source=_with_outliers(source, rng) if both else source,
            target=_with_outliers(target, rng),
            outliers=1 / 3,
        )
    )


def cut(seed: int, overlap: float) -> Pair:
    """A rotation of up to 45°; the clouds share the fraction `overlap` of their points.

    Two parallel planes of random direction cut the whole: the source lacks one end, the target the other. If both keep
    a fraction a of the whole, the overlap is (2a - 1) / a.
    """
    rng = np.random.default_rng([seed, 3])
    kept = 1 / (2 - overlap)
    shape, count = _kind(seed, rng)
    whole = cloud(shape, round(count / kept), rng)
    dimension = whole.shape[1]
    whole = whole[np.argsort(whole @ direction(dimension, rng))]
    source, rest = rng.permutation(whole[:count]), whole[-count:]
    turn, shift = rotation(dimension, rng, rng.uniform(0, 45)), _shift(dimension, rng)
    task = Task(source, _seen(rest, turn, shift, rng), init="auto", outliers=1 - overlap)
    return Pair(task, turn, shift)


def shifted(seed: int) -> Pair:
    """A translation of 1e-6 to 1e6 sizes; every point has a counterpart."""
    rng, source = _draw(seed)
    dimension = source.shape[1]
    shift = 10 ** rng.uniform(-6, 6) * direction(dimension, rng)
    turn = np.eye(dimension)
    return Pair(Task(source, _seen(source, turn, shift, rng), transform="translation", init="auto"), turn, shift)


def small(seed: int) -> Pair:
    """100 points in 2-D, translated by up to two sizes."""
    rng = np.random.default_rng([seed, 4])
    source = cloud("leaf", 100, rng)
    turn, shift = np.eye(2), _shift(2, rng)
    return Pair(Task(source, _seen(source, turn, shift, rng), transform="translation", init="auto"), turn, shift)


def _draw(seed: int) -> tuple[Generator, Array]:
    rng = np.random.default_rng([seed, 1])
    return rng, cloud(*_kind(seed, rng), rng)


def _kind(seed: int, rng: Generator) -> tuple[str, int]:
    """The shapes in rotation, and a random count of 200 to 600 points."""
    return list(SHAPES)[seed % len(SHAPES)], int(rng.integers(200, 601))


def _shift(dimension: int, rng: Generator) -> Array:
    return np.asarray(rng.uniform(0, 2) * direction(dimension, rng))


def _seen(points: Array, turn: Array, shift: Array, rng: Generator) -> Array:
    moved = points @ turn.T + shift + NOISE * rng.normal(size=points.shape)
    return np.ascontiguousarray(moved[rng.permutation(len(moved))])


def _with_outliers(points: Array, rng: Generator) -> Array:
    low, high = points.min(axis=0), points.max(axis=0)
    extra = rng.uniform(low, high, (len(points) // 2, points.shape[1]))
    return np.ascontiguousarray(rng.permutation(np.concatenate([points, extra])))
