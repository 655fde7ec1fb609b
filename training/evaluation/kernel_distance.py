"""The kernel distance of two sets of features: a squared maximum mean discrepancy (MMD²)."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_ROWS = 1000


def kernel_distance(features_a: Tensor, features_b: Tensor) -> float:
    """The unbiased MMD² of features (N, D) and (M, D) with k(x, y) = (x·y / D + 1)³, for N and M of at least 2.

    Bińkowski, Sutherland, Arbel and Gretton, "Demystifying MMD GANs" (2018), sections 3 and 4.2. The mean is over all
    pairs, not over subsets. For two sets from one distribution the expectation is 0, so the estimate may be negative.
    """
    n, m = len(features_a), len(features_b)
    within_a = (_sum(features_a, features_a) - _diagonal(features_a)) / (n * (n - 1))
    within_b = (_sum(features_b, features_b) - _diagonal(features_b)) / (m * (m - 1))
    return within_a + within_b - 2 * _sum(features_a, features_b) / (n * m)


def _sum(a: Tensor, b: Tensor) -> float:
    # Products and sums within a row have the precision of the features. Their errors average out over the rows.
    sums = [_kernel(block @ b.T, a.shape[1]).sum(1) for block in torch.split(a, BLOCK_ROWS)]
    return float(torch.cat(sums).double().sum())


def _diagonal(a: Tensor) -> float:
    return float(_kernel(a.square().sum(1), a.shape[1]).sum(dtype=torch.float64))


def _kernel(products: Tensor, dimension: int) -> Tensor:
    return products.div_(dimension).add_(1).pow_(3)
