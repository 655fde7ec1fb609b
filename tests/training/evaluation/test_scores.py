"""Closed forms of the metrics of predicted classes, and of confidence intervals."""

from __future__ import annotations

import pytest
import torch

from training.evaluation.class_scores import class_divergence, mnist_score
from training.evaluation.evaluation import estimate


def test_the_score_of_certain_and_equally_frequent_classes_is_their_number() -> None:
    assert mnist_score(torch.eye(10, dtype=torch.float64).repeat(3, 1)) == pytest.approx(10)


def test_the_score_of_a_single_class_and_of_uniform_probabilities_is_1() -> None:
    one_class = torch.zeros(20, 10, dtype=torch.float64)
    one_class[:, 3] = 1
    assert mnist_score(one_class) == pytest.approx(1)
    assert mnist_score(torch.full((20, 10), 0.1, dtype=torch.float64)) == pytest.approx(1)


def test_class_divergence_is_0_for_equal_shares_and_log_of_the_share_for_a_single_class() -> None:
    reference = torch.full((10,), 10**6)
    assert class_divergence(torch.full((10,), 7), reference) == pytest.approx(0, abs=1e-9)
    collapsed = torch.tensor([0, 0, 50, 0, 0, 0, 0, 0, 0, 0])
    assert class_divergence(collapsed, reference) == pytest.approx(torch.log(torch.tensor(10.0)).item())


def test_the_95_percent_interval_has_students_quantile_and_covers_the_mean_in_95_percent_of_cases() -> None:
    # With one degree of freedom the 97.5 % quantile is tan(0.475 π) = 12.706.
    mean, error = estimate([1.0, 3.0])
    assert mean == 2
    assert error == pytest.approx(12.7062, abs=1e-4)
    draws = torch.randn(2000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    covered = sum(abs(mean) <= error for mean, error in map(estimate, draws)) / len(draws)
    assert covered == pytest.approx(0.95, abs=0.02)
