"""Random point clouds: volumes, blobs, closed surfaces, branching curves, 2-D outlines.

Each cloud is centred on its bounding box and scaled to size 1. The size is half the diagonal of the box, so 1 % noise
has a standard deviation of 0.01 in each coordinate.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.polynomial.legendre import legval
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]


def cube(count: int, rng: Generator) -> Array:
    """(count, 3) points, uniform in a cube: no structure inside, and 24 near symmetries."""
    return rng.uniform(size=(count, 3))


def blobs(count: int, rng: Generator) -> Array:
    """(count, 3) points from a mixture of six Gaussians with random centres and covariances."""
    centres = rng.uniform(-1, 1, (6, 3))
    spreads = rng.normal(0, 0.25, (6, 3, 3))
    which = rng.integers(6, size=count)
    return np.asarray(centres[which] + np.einsum("nij,nj->ni", spreads[which], rng.normal(size=(count, 3))))


def surface(count: int, rng: Generator) -> Array:
    """(count, 3) points on a closed bumpy surface r(u) = 1 + Σ a_k P_l(u·v_k) with random axes v_k.

    By the addition theorem, Legendre polynomials about random axes span the spherical harmonics of their degrees.
    """
    axes, points = _directions(12, rng), _directions(count, rng)
    radius = np.ones(count)
    for axis, degree in zip(axes, [1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6], strict=True):
        radius += rng.normal(0, 0.18) * legval(points @ axis, np.eye(degree + 1)[degree])
    return points * np.maximum(radius, 0.2)[:, None]


def tree(count: int, rng: Generator) -> Array:
    """(count, 3) points along a random tree of 20 straight branches, with uniform density per length."""
    starts, ends = [np.zeros(3)], [direction(3, rng)]
    while len(starts) < 20:
        parent = rng.integers(len(starts))
        fork = starts[parent] + rng.uniform(0.3, 1) * (ends[parent] - starts[parent])
        starts.append(fork)
        ends.append(fork + rng.uniform(0.5, 1) * direction(3, rng))
    start, end = np.stack(starts), np.stack(ends)
    length = np.linalg.norm(end - start, axis=1)
    which = rng.choice(len(length), size=count, p=length / length.sum())
    return np.asarray(start[which] + rng.uniform(size=(count, 1)) * (end - start)[which])


def outline(count: int, rng: Generator) -> Array:
    """(count, 2) points on a closed curve r(θ) = 1 + Σ a_k cos(kθ + φ_k), k = 1..7."""
    return _star(count, rng)


def leaf(count: int, rng: Generator) -> Array:
    """(count, 2) points, uniform in the area inside such a curve."""
    return _star(count, rng) * np.sqrt(rng.uniform(size=(count, 1)))


def _star(count: int, rng: Generator) -> Array:
    angle = rng.uniform(0, 2 * np.pi, count)
    order = np.arange(1, 8)
    waves = np.cos(angle[:, None] * order + rng.uniform(0, 2 * np.pi, 7))
    radius = np.maximum(1 + waves @ rng.normal(0, 0.2, 7), 0.15)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


SHAPES: dict[str, Callable[[int, Generator], Array]] = {
    "cube": cube,
    "blobs": blobs,
    "surface": surface,
    "tree": tree,
    "outline": outline,
    "leaf": leaf,
}


def cloud(shape: str, count: int, rng: Generator) -> Array:
    """(count, D) points of the given shape, scaled to size 1. All shapes but the cube are rotated at random."""
    points = SHAPES[shape](count, rng)
    if shape != "cube":
        points = points @ rotation(points.shape[1], rng).T
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray((points - (low + high) / 2) / (np.linalg.norm(high - low) / 2))


def rotation(dimension: int, rng: Generator, degrees: float | None = None) -> Array:
    """(D, D) rotation by `degrees` about a random axis, D = 2 or 3; without an angle, uniform over all rotations."""
    if dimension == 2:
        angle = rng.uniform(-np.pi, np.pi) if degrees is None else np.radians(degrees) * rng.choice([-1, 1])
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if degrees is None:
        orthogonal, triangle = np.linalg.qr(rng.normal(size=(3, 3)))
        orthogonal = orthogonal * np.sign(np.diag(triangle))  # uniform over O(3)
        return np.asarray(orthogonal * np.sign(np.linalg.det(orthogonal)))
    axis = _directions(1, rng)[0]
    cross = np.cross(np.eye(3), axis).T  # cross @ p = axis x p
    angle = np.radians(degrees)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def direction(dimension: int, rng: Generator) -> Array:
    """A random unit vector (D,)."""
    vector = rng.normal(size=dimension)
    return np.asarray(vector / np.linalg.norm(vector))


def _directions(count: int, rng: Generator) -> Array:
    vectors = rng.normal(size=(count, 3))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
