"""How far the classes of samples are from those of the training images."""

from __future__ import annotations

import torch
from torch import Tensor


def class_divergence(counts: Tensor, reference: Tensor) -> float:
    """KL(p ‖ q) in nats of two histograms (C,), 0·log 0 = 0 (Kullback and Leibler, 1951).

    One is added to each count of the reference, so that a class it happens to lack does not make this infinite.
    """
    p, q = counts.double() / counts.sum(), (reference.double() + 1) / (reference.sum() + len(reference))
    return float(torch.xlogy(p, p / q).sum())
