"""Nearest neighbours by brute force, in blocks of rows. All distances are squared.

‖x - y‖² = ‖x‖² + ‖y‖² - 2 x·y is computed in the precision of the points. Points should be centred near zero, because
cancellation is then smallest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK_ROWS = 500


class Balls(NamedTuple):
    """A ball around each of N points, with the distance to its k-th nearest other point as radius."""

    centres: Tensor
    """The points, (N, D)."""
    squared_radii: Tensor
    """The squared distances, (N,)."""


def balls(points: Tensor, k: int) -> Balls:
    """The balls around points (N, D) to the k-th neighbour, N > k."""
    parts = []
    for start, distances in _blocks(points, points):
        # A point is not its own neighbour.
        distances.diagonal(start).fill_(torch.inf)
        parts.append(distances.topk(k, largest=False).values[:, -1])
    return Balls(points, torch.cat(parts))


def lie_inside(points: Tensor, around: Balls) -> Tensor:
    """Whether each of points (N, D) lies in at least one of the balls, (N,) bool."""
    # A minimum takes less time than a count of comparisons.
    parts = _blocks(points, around.centres)
    return torch.cat([part.sub_(around.squared_radii).amin(1) <= 0 for _, part in parts])


def count_balls(points: Tensor, around: Balls) -> Tensor:
    """The number of balls that contain each of points (N, D), (N,) int64."""
    return torch.cat([(part <= around.squared_radii).sum(1) for _, part in _blocks(points, around.centres)])


def nearest_squared_distances(points: Tensor, others: Tensor) -> Tensor:
    """The squared distance (N,) from each of points (N, D) to the nearest of others (M, D)."""
    return torch.cat([part.amin(1) for _, part in _blocks(points, others)])


def _blocks(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Blocks of squared distances (rows, M) from rows of `a` to all rows of `b`, with the index of the first row."""
    norms = b.square().sum(1)
    for index, rows in enumerate(torch.split(a, BLOCK_ROWS)):
        distances = torch.addmm(norms, rows, b.T, alpha=-2)
        distances += rows.square().sum(1, keepdim=True)
        yield index * BLOCK_ROWS, distances.clamp_(min=0)
