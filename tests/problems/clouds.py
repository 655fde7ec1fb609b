"""Clouds under known transforms; and the likelihood with all N x M terms, in torch for its derivatives."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from service.em.outcome import Outcome
from service.em.problem import Pose, Problem

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Posed(NamedTuple):
    """Two clouds, the transform between them, and the partner of each source point."""

    source: Float64  # (N, D)
    target: Float64  # (M, D)
    pose: Pose  # the true one
    partner: Int64  # (N,) the true j, or -1
    sigma: float


def turned(dimension: int, angle: float, rng: np.random.Generator) -> Float64:
    """A rotation (D, D) by `angle` radians in a random plane."""
    frame, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
    plane = np.eye(dimension)
    plane[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    return np.asarray(frame @ plane @ frame.T)


def linear(kind: str, dimension: int, angle: float, rng: np.random.Generator) -> Float64:
    """The A of a random transform of its kind."""
    if kind == "translation":
        return np.eye(dimension)
    out = turned(dimension, angle, rng)
    if kind == "similarity":
        out = 1.7 * out
    if kind == "affine":
        out = out @ (np.eye(dimension) + 0.2 * rng.uniform(-1, 1, size=(dimension, dimension)))
    return out


def posed(
    both: int,
    *,
    kind: str = "rigid",
    source_only: int = 0,
    target_only: int = 0,
    dimension: int = 3,
    sigma: float = 0.0,
    angle: float = 2.0,
    shift: float = 1.0,
    seed: int = 0,
) -> Posed:
    """`both` points of the unit cube are in the source and, moved and with noise, in the target; others in one."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(size=(source_only + both + target_only, dimension))
    A = linear(kind, dimension, angle, rng)
    T = shift * rng.uniform(-1, 1, size=dimension)
    source, target = points[: source_only + both], points[source_only:] @ A.T + T
    target = target + sigma * rng.normal(size=target.shape)
    order = rng.permutation(len(target))
    partner = np.full(len(source), -1)
    partner[source_only:] = np.argsort(order)[:both]
    return Posed(source, target[order], Pose(A, T), partner, sigma)


def sliced(count: int, overlap: float, *, sigma: float, seed: int, angle: float) -> Posed:
    """Two windows on one cloud along its first axis, `count` points each, that share the fraction `overlap`."""
    rng = np.random.default_rng(seed)
    behind = round(count * (1 - overlap))
    points = rng.uniform(size=(count + behind, 3)) * [1.5, 1, 1]
    points = points[np.argsort(points[:, 0])]
    A, T = turned(3, angle, rng), 0.02 * rng.uniform(-1, 1, size=3)
    target = points[behind:] @ A.T + T + sigma * rng.normal(size=(count, 3))
    partner = np.maximum(np.arange(count) - behind, -1)
    return Posed(points[:count], target, Pose(A, T), partner, sigma)


def moved(source: Float64, pose: Pose) -> Float64:
    """y = A p + T."""
    return source @ pose.linear.T + pose.translation


def pose_of(outcome: Outcome) -> Pose:
    """The transform of an outcome."""
    D = len(outcome.translation)
    A = np.eye(D) if outcome.linear is None else outcome.linear
    return Pose(A, outcome.translation)


def angle_between(a: Float64, b: Float64) -> float:
    """Degrees from one rotation (D, D) to the other, 2 or 3 coordinates."""
    D = len(a)
    skew = (a @ b.T - (a @ b.T).T) / 2
    sine, cosine = float(np.linalg.norm(skew)) / math.sqrt(2), (float(np.trace(a @ b.T)) - (D - 2)) / 2
    return math.degrees(math.atan2(sine, cosine))


def box(cloud: Float64) -> float:
    """The volume that outliers spread over: of the cloud's box, no side under a tenth of its longest."""
    sides = cloud.max(0) - cloud.min(0)
    return float(np.maximum(sides, sides.max() / 10).prod())


def log_terms(x: Tensor, y: Tensor, sigma: Tensor, exponent: int) -> Tensor:
    """log N(x_i; y_j, σ² I) (N, M), with σ^-exponent in its factor."""
    squares = (x[:, None] - y).square().sum(-1)
    return -squares / (2 * sigma**2) - exponent * (0.5 * math.log(2 * math.pi) + torch.log(sigma))


def log_likelihood(
    x: Tensor,
    y: Tensor,
    sigma: Tensor,
    *,
    exponent: int,
    outliers: float = 0.0,
    volume: float = 1.0,
    log_prior: Tensor | None = None,
) -> Tensor:
    """Σ_i log((1 - w) Σ_j π_j N(x_i; y_j, σ² I) + w/V), each x_i drawn from all y_j; π_j = 1/M without a prior."""
    log_prior = torch.full((len(y),), -math.log(len(y)), dtype=torch.float64) if log_prior is None else log_prior
    terms = log_prior + log_terms(x, y, sigma, exponent)
    if outliers > 0:
        bins = torch.full((len(x), 1), math.log(outliers / volume), dtype=torch.float64)
        terms = torch.cat([terms + math.log(1 - outliers), bins], 1)
    return torch.logsumexp(terms, 1).sum()


def direct(
    problem: Problem, A: Tensor, T: Tensor, sigma: Tensor, *, outliers: float = 0.0, volume: float = 1.0
) -> Tensor:
    """The log-likelihood of a problem with equal weights at y = A p + T, with all N x M terms."""
    x, y = torch.from_numpy(problem.source) @ A.T + T, torch.from_numpy(problem.target)
    if problem.resolved_normalize == "columns":
        x, y = y, x
    literal = problem.sigma is not None and outliers == 0
    return log_likelihood(x, y, sigma, exponent=1 if literal else x.shape[1], outliers=outliers, volume=volume)
