"""Metrics of predicted classes: the divergence from the training labels, and the MNIST score."""

from __future__ import annotations

import torch
from torch import Tensor


def class_divergence(counts: Tensor, reference: Tensor) -> float:
    """KL(p ‖ q), in nats, of the histograms `counts` (C,) and `reference` (C,) (Kullback and Leibler, 1951).

    0·log 0 is 0. Each count of the reference is increased by one, so that an absent class does not give infinity.
    """
    p, q = counts.double() / counts.sum(), (reference.double() + 1) / (reference.sum() + len(reference))
    return float(torch.xlogy(p, p / q).sum())


def mnist_score(probabilities: Tensor) -> float:
    """exp(mean KL(p(y|x) ‖ p(y))) of class probabilities p(y|x), (N, C), with mean p(y). It is between 1 and C.

    This is the inception score with a classifier of digits: Salimans, Goodfellow, Zaremba, Cheung, Radford and Chen
    (2016), section 4. It is C if every image has one certain class and all classes are equally frequent. It does not
    measure the variety within a class.
    """
    marginal = probabilities.mean(0)
    # 0 · log 0 is 0, also for a class of probability 0 in all images.
    ratio = torch.where(probabilities > 0, probabilities / marginal, 1.0)
    return float(torch.xlogy(probabilities, ratio).sum(1).mean().exp())
