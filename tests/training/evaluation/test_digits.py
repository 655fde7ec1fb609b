"""The measurements of digits on request, in cases with a known answer."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from training.evaluation.classifier import Predictions
from training.evaluation.digits import check_digit, count_distinct


def predictions(features: Tensor, classes: Tensor) -> Predictions:
    return Predictions(features, one_hot(classes, 10).double())


def normal(count: int, seed: int) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def test_images_distributed_like_the_class_cover_as_much_as_plain_samples() -> None:
    plain = predictions(torch.cat([normal(300, 0), normal(300, 1) + 50]), torch.tensor([3] * 300 + [8] * 300))
    found = check_digit(3, predictions(normal(300, 2), torch.tensor([3] * 270 + [5] * 30)), plain, normal(300, 3))
    assert found.agreement == pytest.approx(0.9)
    assert found.coverage_ratio == pytest.approx(1, abs=0.05)


def test_a_single_repeated_image_covers_little() -> None:
    plain = predictions(normal(300, 0), torch.full((300,), 3))
    found = check_digit(3, predictions(normal(1, 1).repeat(300, 1), torch.full((300,), 3)), plain, normal(300, 3))
    assert found.agreement == 1
    assert found.coverage_ratio is not None
    assert found.coverage_ratio < 0.1


def test_coverage_is_compared_for_equal_numbers_of_images() -> None:
    # Of 1,000 requested images only 50 count, because there are 50 plain samples of that digit.
    plain = predictions(normal(100, 0), torch.tensor([3] * 50 + [4] * 50))
    found = check_digit(3, predictions(normal(1000, 1), torch.full((1000,), 3)), plain, normal(300, 3))
    assert found.coverage_ratio == pytest.approx(1, abs=0.2)


def test_there_is_no_ratio_if_no_plain_sample_has_the_digit() -> None:
    plain = predictions(normal(50, 0), torch.full((50,), 4))
    assert check_digit(3, predictions(normal(50, 1), torch.full((50,), 3)), plain, normal(50, 2)).coverage_ratio is None


def test_equal_images_count_once() -> None:
    images = torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1).expand(5, 1, 32, 32)
    assert count_distinct(torch.cat([images, images[:3]])) == 5
