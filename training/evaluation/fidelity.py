"""Density and coverage of samples, by balls around the features of real images alone.

Unlike precision and recall, a single outlier among the images does not make much of the space count as real.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from training.evaluation.neighbours import Balls, count_around, lie_inside, nearest

PRECISION_NEIGHBOURS = 3
DENSITY_NEIGHBOURS = 5


class PrecisionRecall(NamedTuple):
    """Both are shares in [0, 1]."""

    precision: float
    """Of the samples, how many lie in the ball of a real image."""
    recall: float
    """Of the real images, how many lie in the ball of a sample."""


def precision_recall(real: Balls, samples: Balls) -> PrecisionRecall:
    """Kynkäänniemi, Karras, Laine, Lehtinen and Aila (2019), eq. 1 and 2; balls to the third neighbour."""
    return PrecisionRecall(
        precision=float(lie_inside(samples.centres, real).double().mean()),
        recall=float(lie_inside(real.centres, samples).double().mean()),
    )


class DensityCoverage(NamedTuple):
    """What is expected of as many real images: a density of 1, and a coverage of 1 - 2^-k for many of them."""

    density: float
    """In how many real images' balls a sample lies, over k; may exceed 1."""
    coverage: float
    """Of the real images, how many have a sample in their ball."""


def density_coverage(real: Balls, samples: Tensor, k: int = DENSITY_NEIGHBOURS) -> DensityCoverage:
    """Naeem, Oh, Uh, Choi and Yoo (2020), eq. 3 and 4; `real` reach to the k-th neighbour, samples are (N, D)."""
    return DensityCoverage(
        density=float(count_around(samples, real).double().mean()) / k,
        coverage=float((nearest(real.centres, samples) <= real.squared_radii).double().mean()),
    )
