"""The Fréchet distance in cases with a closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.evaluation.frechet import frechet_distance, frechet_limit, gaussian_distance


def random_covariance(dimension: int, seed: int) -> Tensor:
    root = torch.randn(dimension, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T


def test_diagonal_gaussians_differ_by_their_means_and_their_standard_deviations() -> None:
    mean_a, mean_b = torch.tensor([1.0, 2, 3]).double(), torch.tensor([0.0, 4, 3]).double()
    sigma_a, sigma_b = torch.tensor([1.0, 2, 0]).double(), torch.tensor([3.0, 2, 0.5]).double()
    distance = gaussian_distance(mean_a, sigma_a.square().diag(), mean_b, sigma_b.square().diag())
    assert distance == pytest.approx((1 + 4 + 0) + (4 + 0 + 0.25))


def test_a_covariance_scaled_by_9_is_at_4_times_its_trace() -> None:
    covariance, mean = random_covariance(6, 0), torch.zeros(6, dtype=torch.float64)
    assert gaussian_distance(mean, covariance, mean, 9 * covariance) == pytest.approx(4 * covariance.trace().item())


def test_the_distance_is_symmetric_and_invariant_under_rotation() -> None:
    a, b = random_covariance(5, 1), random_covariance(5, 2)
    mean_a, mean_b = torch.arange(5).double(), torch.ones(5).double()
    rotation = torch.linalg.qr(random_covariance(5, 3)).Q
    distance = gaussian_distance(mean_a, a, mean_b, b)
    assert gaussian_distance(mean_b, b, mean_a, a) == pytest.approx(distance)
    turned = gaussian_distance(
        rotation @ mean_a, rotation @ a @ rotation.T, rotation @ mean_b, rotation @ b @ rotation.T
    )
    assert turned == pytest.approx(distance)


def test_the_distance_of_features_to_themselves_is_0_even_if_one_is_constant() -> None:
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    features[:, 3] = 1.0
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)


def test_shifted_features_differ_by_the_squared_shift() -> None:
    features = torch.randn(50, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert frechet_distance(features, features + 0.5) == pytest.approx(8 * 0.25)


def test_the_extrapolation_removes_the_bias_of_small_sets() -> None:
    randomness = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 4000, 16, generator=randomness, dtype=torch.float64)
    # For two sets from N(0, I) the bias is about D (D + 7) / (4 N).
    assert frechet_distance(a, b) > 0.015
    assert abs(frechet_limit(a, b)) < 0.005
    assert frechet_limit(a, b + 0.5) == pytest.approx(16 * 0.25, abs=0.15)
