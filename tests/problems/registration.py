"""Registration problems whose answers are known: random ones with their true translation, and two in closed form."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Instance(NamedTuple):
    """Two clouds, the translation between them, and who belongs to whom."""

    source: Tensor  # (N, D)
    target: Tensor  # (M, D)
    translation: Tensor  # (D,) the true one
    partner: Tensor  # (N,) int64: the true j, or -1
    sigma: float  # the noise's standard deviation in each coordinate


def cloud(count: int, dimension: int, generator: torch.Generator) -> Tensor:
    """Points (count, dimension), uniform in the unit cube."""
    return torch.rand(count, dimension, generator=generator, dtype=torch.float64)


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
    generator = torch.Generator().manual_seed(seed)
    behind = round(count * (1 - overlap))
    points = cloud(count + behind, dimension, generator)
    points = points[points[:, 0].argsort()]
    partner = torch.arange(count) - behind
    return _moved(points[:count], points[behind:], partner.clamp(min=-1), sigma, shift, generator)


class Closed(NamedTuple):
    """A problem with a hard assignment Z, and the closed forms that follow from it."""

    source: Tensor  # (N, D)
    target: Tensor  # (M, D)
    translation: Tensor  # (D,) where the log-likelihoods are taken
    sigma: float
    assignment: Tensor  # (N, M) Z
    squares: Tensor  # (N,) ‖p_i + T - q_(the one assigned to i)‖²
    maximizer: Tensor  # (D,) the M-step's T for R = Z


def identity_assignment(count: int, dimension: int, seed: int = 0) -> Closed:
    """N = M and p_i belongs to q_i: Z = I, and the M-step's T is mean(q) - mean(p)."""
    generator = torch.Generator().manual_seed(seed)
    p, q = cloud(count, dimension, generator), cloud(count, dimension, generator)
    t = cloud(1, dimension, generator)[0]
    squares = (p + t - q).square().sum(1)
    return Closed(p, q, t, 0.3, torch.eye(count, dtype=torch.float64), squares, q.mean(0) - p.mean(0))


def two_targets(count: int, dimension: int, seed: int = 0) -> Closed:
    """The first ⌊N/2⌋ source points belong to q_1 and the others to q_2: T = (⌊N/2⌋ q_1 + ⌈N/2⌉ q_2)/N - mean(p)."""
    generator = torch.Generator().manual_seed(seed)
    p, (q_1, q_2) = cloud(count, dimension, generator), cloud(2, dimension, generator)
    t = cloud(1, dimension, generator)[0]
    half = count // 2
    first = (torch.arange(count) < half).to(torch.float64)
    squares = torch.cat([(p[:half] + t - q_1).square().sum(1), (p[half:] + t - q_2).square().sum(1)])
    maximizer = (half * q_1 + (count - half) * q_2) / count - p.mean(0)
    return Closed(p, torch.stack([q_1, q_2]), t, 0.3, torch.stack([first, 1 - first], 1), squares, maximizer)


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
    generator = torch.Generator().manual_seed(seed)
    source, extra = cloud(n, dimension, generator), cloud(target_only, dimension, generator)
    target = torch.cat([source[n - both :], extra])
    order = torch.randperm(len(target), generator=generator)
    partner = torch.full((n,), -1)
    partner[n - both :] = order.argsort()[:both]
    return _moved(source, target[order], partner, sigma, shift, generator)


def _moved(
    source: Tensor, target: Tensor, partner: Tensor, sigma: float, shift: float, generator: torch.Generator
) -> Instance:
    direction = torch.randn(source.shape[1], generator=generator, dtype=torch.float64)
    translation = shift * direction / direction.norm()
    noise = sigma * torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return Instance(source, target + translation + noise, translation, partner, sigma)
