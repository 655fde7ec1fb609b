"""The Fréchet distance of two sets of features: that of the Gaussians with their moments."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """‖μ_a - μ_b‖² + tr(Σ_a + Σ_b - 2 (Σ_a^½ Σ_b Σ_a^½)^½), with means (D,) and covariances (D, D), float64.

    This is the squared Fréchet (2-Wasserstein) distance of two Gaussians: Dowson and Landau (1982), eq. 4.
    """
    root = _square_root(covariance_a)
    # The product is positive semi-definite, but rounding may make an eigenvalue slightly negative.
    cross = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp(min=0).sqrt().sum()
    difference = (mean_a - mean_b).square().sum()
    return float(difference + covariance_a.trace() + covariance_b.trace() - 2 * cross)


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """`gaussian_distance` between the Gaussians with the moments of features (N, D) and (M, D), N and M at least 2."""
    (mean_a, covariance_a), (mean_b, covariance_b) = _moments(features_a), _moments(features_b)
    return gaussian_distance(mean_a, covariance_a, mean_b, covariance_b)


def frechet_limit(features_a: Tensor, features_b: Tensor, parts: int = 5) -> float:
    """The limit of `frechet_distance` for N → ∞: the intercept of a line through distances against 1/N.

    The distance of two sets of N features has a positive bias of order 1/N (Chong and Forsyth, 2020). Both sets, (N, D)
    each, are divided into 1, 2, ... `parts` parts, and each division gives the mean distance of its pairs of parts.
    Unlike in the paper, both sets shrink together. The limit for two sets from one distribution is therefore 0, and its
    estimate may be negative. The rows must be in random order, and N/`parts` must be much larger than D.
    """
    shares = torch.arange(1, parts + 1, dtype=torch.float64)
    means = []
    for count in range(1, parts + 1):
        size = min(len(features_a), len(features_b)) // count
        pairs = zip(torch.split(features_a, size)[:count], torch.split(features_b, size)[:count], strict=True)
        means.append(sum(frechet_distance(a, b) for a, b in pairs) / count)
    line = torch.linalg.lstsq(
        torch.stack([torch.ones(parts, dtype=torch.float64), shares], 1), torch.tensor(means).double()[:, None]
    )
    return float(line.solution[0])


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    features = features.double()
    return features.mean(0), torch.cov(features.T)


def _square_root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a positive semi-definite (D, D)."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
