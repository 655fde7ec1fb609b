"""Precision and recall of samples, by balls around features."""

from __future__ import annotations

from typing import NamedTuple

from training.evaluation.neighbours import Balls, lie_inside

NEIGHBOURS = 3


class PrecisionRecall(NamedTuple):
    """Both are shares in [0, 1]."""

    precision: float
    """Of the samples, how many lie in the ball of a real image."""
    recall: float
    """Of the real images, how many lie in the ball of a sample."""


def precision_recall(real: Balls, samples: Balls) -> PrecisionRecall:
    """Kynkäänniemi, Karras, Laine, Lehtinen and Aila (2019), eq. 1 and 2; balls to the NEIGHBOURS-th neighbour."""
    return PrecisionRecall(
        precision=float(lie_inside(samples.centres, real).double().mean()),
        recall=float(lie_inside(real.centres, samples).double().mean()),
    )
