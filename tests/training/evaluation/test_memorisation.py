"""Memorisation detects copies, and does not mistake new images for copies."""

from __future__ import annotations

import pytest
import torch

from training.evaluation.memorisation import memorisation
from training.evaluation.neighbours import nearest_squared_distances


def test_new_images_are_as_far_from_the_training_images_as_test_images_are() -> None:
    training, test, samples = torch.randn(3, 1000, 8, generator=torch.Generator().manual_seed(0)).unbind()
    found = memorisation(
        nearest_squared_distances(samples, training).sqrt(), nearest_squared_distances(test, training).sqrt()
    )
    assert found.median_ratio == pytest.approx(1, abs=0.05)
    assert found.share_close == pytest.approx(0.01, abs=0.01)
    assert abs(found.auc - 0.5) < found.auc_error < 0.04


def test_copies_are_closer_than_test_images() -> None:
    training, test = torch.randn(2, 1000, 8, generator=torch.Generator().manual_seed(1)).unbind()
    samples = torch.cat([test[:800], training[:200] + 1e-3])
    found = memorisation(
        nearest_squared_distances(samples, training).sqrt(), nearest_squared_distances(test, training).sqrt()
    )
    assert found.share_close == pytest.approx(0.2, abs=0.02)
    # Each copy is closer than all test images. The other samples are as close as test images.
    assert found.auc == pytest.approx(0.4, abs=0.02)
    assert found.auc + found.auc_error < 0.5


def test_the_auc_is_the_fraction_of_pairs_with_ties_counted_half() -> None:
    assert memorisation(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2.0, 3.0])).auc == pytest.approx(2.5 / 6)


def test_the_95_percent_interval_of_the_auc_covers_one_half_in_95_percent_of_cases() -> None:
    randomness = torch.Generator().manual_seed(2)
    found = [memorisation(*torch.rand(2, 60, generator=randomness)) for _ in range(500)]
    covered = sum(abs(one.auc - 0.5) <= one.auc_error for one in found) / len(found)
    assert covered == pytest.approx(0.95, abs=0.03)
