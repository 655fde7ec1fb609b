"""Metrics of the predicted classes of samples: their divergence from the training labels, and the MNIST score."""

from __future__ import annotations

import torch
from torch import Tensor


def class_divergence(counts: Tensor, reference: Tensor) -> float:
    """KL(p ‖ q) in nats of two histograms (C,), 0·log 0 = 0 (Kullback and Leibler, 1951).

    One is added to each count of the reference, so that a class it happens to lack does not make this infinite.
    """
    p, q = counts.double() / counts.sum(), (reference.double() + 1) / (reference.sum() + len(reference))
    return float(torch.xlogy(p, p / q).sum())


def mnist_score(probabilities: Tensor) -> float:
    """exp(mean KL(p(y|x) ‖ p(y))) of class probabilities (N, C), p(y) their mean; from 1 to C.

    Salimans, Goodfellow, Zaremba, Cheung, Radford and Chen (2016), section 4. It is C where every image is surely of
    one class and all classes are equally frequent, and knows nothing of the variety within a class.
    """
    marginal = probabilities.mean(0)
    # 0 · log 0 = 0, for a class that never comes too.
    ratio = torch.where(probabilities > 0, probabilities / marginal, 1.0)
    return float(torch.xlogy(probabilities, ratio).sum(1).mean().exp())
