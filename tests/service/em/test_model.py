"""The shared parts of the model: normaliser, outlier bin, volume and cutoff."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.em.model import EXACT, TRUNCATED, bin_weight, cutoff_for, log_root, outlier_volume
from tests.problems.clouds import box, posed


@pytest.mark.parametrize("sigma", [1e-9, 0.3, 1.0, 7e5])
def test_the_normaliser_makes_a_gaussian_integrate_to_one(sigma: float) -> None:
    x, step = np.linspace(-12 * sigma, 12 * sigma, 20_001, retstep=True)
    assert (np.exp(-((x / sigma) ** 2) / 2 - log_root(sigma)) * step).sum() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_the_bin_is_the_outlier_density_over_the_largest_gaussian_without_its_factor(
    dimension: int,
) -> None:
    w, sigma, volume, largest = 0.2, 0.05, 4.0, 0.01
    gaussian = (1 - w) * largest * (math.sqrt(2 * math.pi) * sigma) ** -dimension
    found = bin_weight(w, sigma, dimension, math.log(volume), largest)
    assert found == pytest.approx(w / volume / gaussian, rel=1e-12)
    assert bin_weight(w, 1e6, dimension, math.log(volume), largest) == pytest.approx(w / (1 - w) / largest)


def test_the_volume_is_that_of_the_clouds_box_and_never_zero() -> None:
    cloud = posed(50).source
    assert outlier_volume(np.ascontiguousarray(cloud.T), 3) == pytest.approx(box(cloud))
    flat = cloud.T * np.array([[1.0], [2.0], [0.0]])
    sides = flat.max(1) - flat.min(1)
    assert outlier_volume(np.ascontiguousarray(flat), 3) == pytest.approx(sides[0] * sides[1] * sides[1] / 10)


def test_the_cutoff_of_small_problems_is_below_the_resolution_of_float64() -> None:
    assert math.exp(-cutoff_for(2048, 2048)) < np.finfo(float).eps
    assert (cutoff_for(10, 10), cutoff_for(10_000, 10_000)) == (EXACT, TRUNCATED)
