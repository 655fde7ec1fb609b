"""Registration problems whose answers are known: random ones with their true translation, and two in closed form."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Instance(NamedTuple):
    """Two clouds, the translation between them, and the partner of each source point."""

    source: Float64  # (N, D)
    target: Float64  # (M, D)
    translation: Float64  # (D,) the true one
    partner: Int64  # (N,) the true j, or -1
    sigma: float  # the noise's standard deviation in each coordinate


def cloud(count: int, dimension: int, generator: np.random.Generator) -> Float64:
    """Points (count, dimension), uniform in the unit cube."""
    return generator.random((count, dimension))


def bijection(count: int, dimension: int, *, sigma: float = 0.0, shift: float = 1.0, seed: int = 0) -> Instance:
    """Each source point has one target point. `shift` is the length of the translation."""
    return _pair(count, count, 0, dimension, sigma, shift, seed)


def overlapping(
    source_only: int,
    both: int,
    target_only: int,
    dimension: int,
    *,
    sigma: float = 0.0,
    shift: float = 1.0,
    seed: int = 0,
) -> Instance:
    """`both` points are in the source and the target, the others in one of them."""
    return _pair(source_only + both, both, target_only, dimension, sigma, shift, seed)


def cropped(
    count: int, dimension: int, overlap: float, *, sigma: float = 0.0, shift: float = 1.0, seed: int = 0
) -> Instance:
    """Two windows on one cloud, sorted by its first coordinate, that share the fraction `overlap` of their points."""
    generator = np.random.default_rng(seed)
    behind = round(count * (1 - overlap))
    points = cloud(count + behind, dimension, generator)
    points = points[np.argsort(points[:, 0])]
    partner = np.arange(count) - behind
    return _moved(points[:count], points[behind:], np.maximum(partner, -1), sigma, shift, generator)


class Closed(NamedTuple):
    """A problem with a hard assignment Z, and the closed forms that follow from it."""

    source: Float64  # (N, D)
    target: Float64  # (M, D)
    translation: Float64  # (D,) where the log-likelihoods are taken
    sigma: float
    assignment: Float64  # (N, M) Z
    squares: Float64  # (N,) ‖p_i + T - q_(the one assigned to i)‖²
    maximizer: Float64  # (D,) the M-step's T for R = Z


def identity_assignment(count: int, dimension: int, seed: int = 0) -> Closed:
    """N = M and p_i belongs to q_i: Z = I, and the M-step's T is mean(q) - mean(p)."""
    generator = np.random.default_rng(seed)
    p, q = cloud(count, dimension, generator), cloud(count, dimension, generator)
    t = cloud(1, dimension, generator)[0]
    squares = np.square(p + t - q).sum(1)
    return Closed(p, q, t, 0.3, np.eye(count), squares, q.mean(0) - p.mean(0))


def two_targets(count: int, dimension: int, seed: int = 0) -> Closed:
    """The first ⌊N/2⌋ source points belong to q_1 and the others to q_2: T = (⌊N/2⌋ q_1 + ⌈N/2⌉ q_2)/N - mean(p)."""
    generator = np.random.default_rng(seed)
    p, (q_1, q_2) = cloud(count, dimension, generator), cloud(2, dimension, generator)
    t = cloud(1, dimension, generator)[0]
    half = count // 2
    first = (np.arange(count) < half).astype(np.float64)
    squares = np.concatenate([np.square(p[:half] + t - q_1).sum(1), np.square(p[half:] + t - q_2).sum(1)])
    maximizer = (half * q_1 + (count - half) * q_2) / count - p.mean(0)
    return Closed(p, np.stack([q_1, q_2]), t, 0.3, np.stack([first, 1 - first], 1), squares, maximizer)


def one_point_between_two(a: float, first: float, sigma: float, iterations: int) -> list[float]:
    """T after each iteration for the source {0} and the target {-a, a} in one dimension, from T(0) = `first`.

    With the free prior, R(t) is the logistic function of 2a Σ_{s<=t} T(s) / σ², so T(t+1) = a tanh(a Σ_s T(s) / σ²).
    """
    total, now, translations = 0.0, first, []
    for _ in range(iterations):
        total += now
        now = a * math.tanh(a * total / sigma**2)
        translations.append(now)
    return translations


def _pair(n: int, both: int, target_only: int, dimension: int, sigma: float, shift: float, seed: int) -> Instance:
    generator = np.random.default_rng(seed)
    source, extra = cloud(n, dimension, generator), cloud(target_only, dimension, generator)
    target = np.concatenate([source[n - both :], extra])
    order = generator.permutation(len(target))
    partner = np.full((n,), -1)
    partner[n - both :] = order.argsort()[:both]
    return _moved(source, target[order], partner, sigma, shift, generator)


def _moved(
    source: Float64, target: Float64, partner: Int64, sigma: float, shift: float, generator: np.random.Generator
) -> Instance:
    direction = generator.normal(size=source.shape[1])
    translation = np.asarray(shift * direction / np.linalg.norm(direction))
    noise = sigma * generator.normal(size=target.shape)
    return Instance(source, target + translation + noise, translation, partner, sigma)
