"""The modes of the differences y_j - x_i: each matched pair is a vote for the true translation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..cancellation import Poll
from .padding import Group

# A dense grid on the widest axes, at most three: on more axes each would have too few cells.
CELLS = 1 << 15
AXES = 3
# Cells from each of two grids. The second is shifted by half a cell: a mode on an edge of one is inside the other.
MODES = 2
# The shifts, in cells. The differences of regular clouds are at rational positions. The golden ratio is the number that
# is farthest from all of these, so that rounding does not move such differences into another cell.
FIRST_SHIFT = (math.sqrt(5) - 1) / 4
# Variances of two axes that differ by at most this share are equal.
EQUAL = 1e-9


def votes(group: Group, least: Tensor, poll: Poll) -> tuple[list[Tensor], Tensor]:
    """Candidate translations t, (B, D) each, and the width (B,) of the cells, at least `least` (B,).

    A candidate is the mean difference over the pairs in one of the fullest cells. `poll` is called between the parts of
    the count, and may raise.
    """
    D = group.dimension
    source, target = group.source, group.target[:, :D]
    axes = min(D, AXES)
    side = math.floor(CELLS ** (1 / axes))
    widest = _widest(_variance(source, group.source_count) + _variance(target, group.target_count), axes)
    x = _on_axes(source, widest, group.rows)
    y = _on_axes(target, widest, group.target[:, D])
    low = y.nan_to_num(nan=torch.inf).amin(-1) - x.nan_to_num(nan=-torch.inf).amax(-1)
    high = y.nan_to_num(nan=-torch.inf).amax(-1) - x.nan_to_num(nan=torch.inf).amin(-1)
    width = torch.maximum(((high - low) / (side - 1)).amax(-1), least)
    modes = []
    for offset in (FIRST_SHIFT, FIRST_SHIFT + 0.5):
        poll()
        code = torch.zeros(len(x), x.shape[2], y.shape[2], dtype=torch.float64)
        for a in range(axes):
            cell = y[:, a, None, :] - x[:, a, :, None]
            cell.sub_(low[:, a, None, None]).div_(width[:, None, None]).add_(offset).floor_().clamp_(0, side - 1)
            code.mul_(side).add_(cell)
            poll()
        modes += _fullest(code, side**axes, source, target, poll)
    return modes, width


def _fullest(code: Tensor, cells: int, source: Tensor, target: Tensor, poll: Poll) -> list[Tensor]:
    """Mean differences (B, D) over the MODES fullest cells, given each pair's cell (B, N, M), NaN for no vote."""
    real = (~code.isnan()).to(torch.int64).flatten(1)
    counts = torch.zeros(len(code), cells, dtype=torch.int64)
    poll()
    counts.scatter_add_(1, code.nan_to_num(nan=0.0).to(torch.int64).flatten(1), real)
    # All keys are distinct, so the order does not depend on the algorithm: of equal counts the lower cell is first.
    keys = counts * cells + torch.arange(cells).flip(0)
    modes = []
    for top in keys.topk(min(MODES, cells), -1).indices.unbind(1):
        poll()
        members = (code == top[:, None, None]).to(torch.float64)
        per_source, per_target = members.sum(-1), members.mT.contiguous().sum(-1)
        total = (target * per_target[:, None]).sum(-1) - (source * per_source[:, None]).sum(-1)
        modes.append(total / per_source.sum(-1).clamp(min=1)[:, None])
    return modes


def _widest(variance: Tensor, count: int) -> Tensor:
    """The axes (B, count) of the largest of `variance` (B, D), in rising order; of equal ones the first axes."""
    left, chosen = variance.clone(), []
    for _ in range(count):
        first = (left >= (1 - EQUAL) * left.amax(-1, keepdim=True)).to(torch.uint8).argmax(-1, keepdim=True)
        left.scatter_(1, first, -torch.inf)
        chosen.append(first)
    return torch.cat(chosen, 1).sort(-1).values


def _variance(points: Tensor, count: Tensor) -> Tensor:
    return points.square().sum(-1) / count[:, None]


def _on_axes(points: Tensor, axes: Tensor, real: Tensor) -> Tensor:
    """The coordinates of (B, D, N) on `axes` (B, A), NaN for padding."""
    taken = points.gather(1, axes[..., None].expand(-1, -1, points.shape[2]))
    return torch.where(real[:, None] > 0, taken, torch.nan)
