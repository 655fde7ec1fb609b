"""Nearest neighbours by brute force, a block of rows at a time; distances are squared throughout.

‖x - y‖² = ‖x‖² + ‖y‖² - 2 x·y, in the points' own precision. Points are best centred near zero, where the difference
loses the fewest digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_ROWS = 500


class Balls(NamedTuple):
    """A ball around each of N points that reaches to its k-th nearest neighbour among the others."""

    centres: Tensor
    """(N, D)."""
    squared_radii: Tensor
    """(N,)."""


def balls(points: Tensor, k: int) -> Balls:
    """The balls of points (N, D), N above `k`."""
    parts = []
    for start, distances in _blocks(points, points):
        # A point is no neighbour of its own.
        distances.diagonal(start).fill_(torch.inf)
        parts.append(distances.topk(k, largest=False).values[:, -1])
    return Balls(points, torch.cat(parts))


def lie_inside(points: Tensor, around: Balls) -> Tensor:
    """Whether each of points (N, D) lies in any of the balls, (N,) bool."""
    # A minimum is found in less time than comparisons are counted.
    parts = _blocks(points, around.centres)
    return torch.cat([part.sub_(around.squared_radii).amin(1) <= 0 for _, part in parts])


def count_around(points: Tensor, around: Balls) -> Tensor:
    """How many of the balls each of points (N, D) lies in, (N,) int64."""
    return torch.cat([(part <= around.squared_radii).sum(1) for _, part in _blocks(points, around.centres)])


def nearest(points: Tensor, others: Tensor) -> Tensor:
    """The squared distance (N,) of each of points (N, D) to the nearest of others (M, D)."""
    return torch.cat([part.amin(1) for _, part in _blocks(points, others)])


def _blocks(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Squared distances (rows, M) of some rows of `a` to all of `b`, with the number of the first row."""
    norms = b.square().sum(1)
    for index, rows in enumerate(torch.split(a, BLOCK_ROWS)):
        distances = torch.addmm(norms, rows, b.T, alpha=-2)
        distances += rows.square().sum(1, keepdim=True)
        yield index * BLOCK_ROWS, distances.clamp_(min=0)
