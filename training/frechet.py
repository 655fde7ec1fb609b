"""The Fréchet distance between two sets of features, each seen as a Gaussian."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """‖μ_a - μ_b‖² + tr(Σ_a + Σ_b - 2 (Σ_a^½ Σ_b Σ_a^½)^½); means (D,), covariances (D, D), float64.

    The squared Fréchet (2-Wasserstein) distance of two Gaussians: Dowson and Landau (1982), eq. 4.
    """
    root = _square_root(covariance_a)
    # The eigenvalues of a positive semi-definite product may round to just below zero.
    cross = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp(min=0).sqrt().sum()
    difference = (mean_a - mean_b).square().sum()
    return float(difference + covariance_a.trace() + covariance_b.trace() - 2 * cross)


def frechet_distance(features_a: Tensor, features_b: Tensor) -> float:
    """`gaussian_distance` between the Gaussians with the moments of features (N, D) and (M, D), N and M at least 2."""
    (mean_a, covariance_a), (mean_b, covariance_b) = _moments(features_a), _moments(features_b)
    return gaussian_distance(mean_a, covariance_a, mean_b, covariance_b)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    features = features.double()
    return features.mean(0), torch.cov(features.T)


def _square_root(matrix: Tensor) -> Tensor:
    """The symmetric square root of a positive semi-definite (D, D)."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
