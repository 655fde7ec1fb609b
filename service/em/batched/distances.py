"""Squared distances between all pairs of two point sets, tile by tile, in memory that does not grow with N x M.

Distances are Σ_d (x_d - y_d)², one coordinate at a time, in place. The expansion ‖x‖² + ‖y‖² - 2 x·y would be one
matrix product, but would lose all digits of distances that are small relative to the cloud.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .. import slices

# Pairs in a tile: two buffers of 2^16 doubles are 1 MB and stay in a core's level-2 cache. Measured on one core,
# 2-D and 3-D: 3.0 ns a pair at 2^16, 3.2 at 2^17, 3.8 at 2^18, and 4.3 at 2^13, where the cost of calls shows.
TILE = 1 << 16
# Columns in a tile. Longer rows are split into blocks, with a running minimum.
COLUMNS = 512


class Workspace(NamedTuple):
    """Two buffers of TILE doubles, allocated once and used by every tile of every pass."""

    first: Tensor
    second: Tensor

    def view(self, items: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Both buffers as (items, rows, columns), with undefined contents."""
        size, shape = items * rows * columns, (items, rows, columns)
        return self.first[:size].view(shape), self.second[:size].view(shape)


def workspace() -> Workspace:
    """Fresh buffers."""
    return Workspace(*torch.empty(2, TILE, dtype=torch.float64).unbind(0))


class Tile(NamedTuple):
    """A cut of the (B, N, M) pairs, with its distances."""

    items: slice
    rows: slice
    columns: slice
    costs: Tensor  # (items, rows, columns) from `squared_distances`; the receiver may overwrite it
    spare: Tensor  # the same shape, to write in


def tiles(source: Tensor, target: Tensor, cost: Tensor, space: Workspace) -> Iterator[Tile]:
    """All pairs of `source` (B, D, N) and `target` (B, >= D, M), plus `cost` (B, 1, M), by blocks of columns in order.

    The cuts of an item depend on its N and M alone. Small items share a tile.
    """
    items, _, rows = source.shape
    columns = target.shape[2]
    width = min(columns, COLUMNS)
    height = min(rows, TILE // width // 8 * 8)
    depth = max(1, TILE // (height * width))
    dimension = source.shape[1]
    source, target = source[..., None], target[:, :, None]
    work = 0
    for item in range(0, items, depth):
        at = slice(item, min(item + depth, items))
        for row in range(0, rows, height):
            down = slice(row, min(row + height, rows))
            for column in range(0, columns, width):
                across = slice(column, min(column + width, columns))
                costs, spare = space.view(at.stop - item, down.stop - row, across.stop - column)
                squared_distances(source[at, :, down], target[at, :, :, across], cost[at, :, across], costs, spare)
                yield Tile(at, down, across, costs, spare)
                work += costs.numel() * (dimension + 2) // 3
                if work > slices.SLICE_PAIRS:
                    slices.pause()
                    work = 0


def squared_distances(source: Tensor, target: Tensor, cost: Tensor, out: Tensor, spare: Tensor) -> Tensor:
    """out_ij = cost_j + Σ_d (source_i,d - target_j,d)², in place.

    `source` (B, D, n, 1), `target` (B, >= D, 1, m) of which the first D rows are used, `cost` broadcastable to
    (B, n, m), `out` and `spare` (B, n, m). Returns `out`; `spare` is overwritten.
    """
    sofar = cost
    for x, y in zip(source.unbind(1), target.unbind(1), strict=False):
        torch.sub(x, y, out=spare)
        sofar = torch.addcmul(sofar, spare, spare, out=out)
    return out
