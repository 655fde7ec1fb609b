"""Precision and recall, density and coverage of samples.

All four count images within balls around the features of other images. The radius of a ball is the distance to the k-th
neighbour. Density and coverage use balls around real images alone, so a single outlier affects them less.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from training.evaluation.neighbours import Balls, count_balls, lie_inside, nearest_squared_distances

PRECISION_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5


class PrecisionRecall(NamedTuple):
    """Two fractions in [0, 1]."""

    precision: float
    """Fraction of the samples that lie in a ball around a real image."""
    recall: float
    """Fraction of the real images that lie in a ball around a sample."""


def precision_recall(real: Balls, samples: Balls) -> PrecisionRecall:
    """Precision and recall of Kynkäänniemi, Karras, Laine, Lehtinen and Aila (2019), eq. 1 and 2, with k = 3."""
    return PrecisionRecall(
        precision=float(lie_inside(samples.centres, real).double().mean()),
        recall=float(lie_inside(real.centres, samples).double().mean()),
    )


class DensityCoverage(NamedTuple):
    """For equally many real images the expected density is 1, and the expected coverage tends to 1 - 2^-k."""

    density: float
    """Mean number of balls around real images that contain a sample, divided by k; may exceed 1."""
    coverage: float
    """Fraction of the real images whose ball contains a sample."""


def density_coverage(real: Balls, samples: Tensor, k: int = DENSITY_NEIGHBOURS) -> DensityCoverage:
    """Density and coverage of Naeem, Oh, Uh, Choi and Yoo (2020), eq. 3 and 4.

    `real` are balls to the k-th neighbour, `samples` are features (N, D).
    """
    return DensityCoverage(
        density=float(count_balls(samples, real).double().mean()) / k,
        coverage=float((nearest_squared_distances(real.centres, samples) <= real.squared_radii).double().mean()),
    )
