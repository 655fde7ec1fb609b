"""A batch of centred problems in padded tensors. The padding of one problem does not affect another.

This module turns the arrays of the problems into tensors; `answers` turns tensors back into arrays.

A result must depend on its own request alone, to the bit. Hence the padded size of a problem is a function of its own
size, a problem shares tensors only with problems of the same padded size, and no later operation depends on the number
of items in a batch. Clouds are stored coordinates first, (B, D, N), so that reductions run over the
last, contiguous dimension. There torch's arithmetic for one item does not depend on the others. Sizes are multiples of
eight doubles, so that each item starts at a cache line.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..model import SIGMA_FLOOR
from ..problem import MIN_SIGMA, Problem

# The cost of a padded target point. It exceeds that of any real pair (see MAX_COORDINATE), so its weight is exactly 0.
PADDING_COST = 1e300


@lru_cache(maxsize=1024)
def bucket(count: int) -> int:
    """The padded size for `count` points, a multiple of 8.

    From 64 to 1,024 there are eight sizes an octave (at most 12.5 % more points and 27 % more pairs), so that unequal
    problems can share a batch. A larger problem keeps the processor busy by itself, so its size is only aligned.
    """
    step = 8 if count <= 64 or count > 1024 else 1 << ((count - 1).bit_length() - 4)
    return -(-count // step) * step


def group_key(problem: Problem) -> tuple[int, int, int, str, bool, str]:
    """Problems with equal keys share tensors: padded N and M, D, prior, whether σ is estimated, kind of start."""
    (n, dimension), m = problem.source.shape, problem.target.shape[0]
    return bucket(n), bucket(m), dimension, problem.prior_name, problem.sigma is None, problem.init_name


class Group(NamedTuple):
    """B problems of one key: each cloud about its own median, with zeros after its last point."""

    source: Tensor  # (B, D, N) x_i = p_i - median(p)
    target: Tensor  # (B, D + 1, M) y_j = q_j - median(q) in homogeneous coordinates: the last row is 1, padding 0
    rows: Tensor  # (B, N) 1 for a source point, 0 for padding
    cost: Tensor  # (B, 1, M) added to every pair's cost: 0 for a target point, PADDING_COST for padding
    source_count: Tensor  # (B,) as float64
    target_count: Tensor  # (B,) as float64
    source_variance: Tensor  # (B,) mean ‖x_i - mean(x)‖²
    target_variance: Tensor  # (B,) mean ‖y_j - mean(y)‖²
    centroid: Tensor  # (B, D) mean(y) - mean(x): the translation between the centroids
    shift: Tensor  # (B, 2, D) median(q) - median(p), as an unevaluated sum of two doubles
    floor: Tensor  # (B,) smallest σ that an estimate may take

    @property
    def dimension(self) -> int:
        """D."""
        return self.source.shape[1]

    def select(self, index: Tensor) -> Group:
        """The items at `index` (an int64 tensor), bits unchanged."""
        return Group(*(field.index_select(0, index) for field in self))

    def to_centred(self, translation: Tensor) -> Tensor:
        """T (B, D) of the caller's coordinates as t of the centred ones: x + t - y = p + T - q."""
        return (translation - self.shift[:, 0]) - self.shift[:, 1]

    def to_original(self, translation: Tensor) -> Tensor:
        """t (B, D) of the centred coordinates as T of the caller's."""
        return self.shift[:, 0] + (self.shift[:, 1] + translation)


def pack(problems: Sequence[Problem]) -> Group:
    """The problems, all checked and of one `group_key`, as one Group.

    The floor of σ is SIGMA_FLOOR times √((s² + t²) / 2), where s² and t² are the mean squared distances of the source
    and of the target from their own centroids. The floor is at least the rounding of the largest coordinate and
    MIN_SIGMA.
    """
    sizes = torch.tensor([(len(p.source), len(p.target)) for p in problems], dtype=torch.int64)
    source, target = _stack([p.source for p in problems]), _stack([p.target for p in problems])
    n, m = sizes.unbind(1)
    rows, columns = _valid(n, source.shape[-1]), _valid(m, target.shape[-1])
    magnitude = torch.maximum(source.abs().amax((1, 2)), target.abs().amax((1, 2)))
    source, source_median = _centred(source, rows)
    target, target_median = _centred(target, columns)
    high = target_median - source_median
    source_mean, source_variance = _moments(source, rows, n)
    target_mean, target_variance = _moments(target, columns, m)
    spread = ((source_variance + target_variance) / 2).sqrt()
    # If all points coincide the spread is 0, and the rounding of the coordinates is the smallest meaningful noise.
    floor = torch.maximum(SIGMA_FLOOR * spread, torch.finfo(torch.float64).eps * magnitude).clamp(min=MIN_SIGMA)
    return Group(
        source=source,
        target=torch.cat([target, columns[:, None]], 1),
        rows=rows,
        cost=((1 - columns) * PADDING_COST)[:, None],
        source_count=n.to(torch.float64),
        target_count=m.to(torch.float64),
        source_variance=source_variance,
        target_variance=target_variance,
        centroid=target_mean - source_mean,
        shift=torch.stack([high, _difference_error(target_median, source_median, high)], 1),
        floor=floor,
    )


def _stack(clouds: Sequence[NDArray[np.float64]]) -> Tensor:
    """A copy of the clouds (N_b, D) as (B, D, bucket), with zeros after the last point."""
    out = torch.zeros(len(clouds), clouds[0].shape[1], bucket(len(clouds[0])), dtype=torch.float64)
    for item, cloud in zip(out.numpy(), clouds, strict=True):
        item[:, : len(cloud)] = cloud.T
    return out


def _valid(count: Tensor, size: int) -> Tensor:
    return (torch.arange(size) < count[:, None]).to(torch.float64)


def _centred(points: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """The cloud about its median, coordinate by coordinate, and the median (B, D).

    The median is used because one point at 1e30 would shift the mean until the other points lose their digits. The
    median is also one of the coordinates, so that the subtraction is exact if the cloud is small
    relative to its distance from the origin (Sterbenz).
    """
    median = points.masked_fill(valid[:, None] == 0, torch.nan).nanmedian(-1).values
    return (points - median[..., None]) * valid[:, None], median


def _moments(points: Tensor, valid: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, D) and variance, mean ‖x - mean‖², (B,), of points (B, D, N) of which `valid` (B, N) are real."""
    mean = points.sum(-1) / count[:, None]
    return mean, ((points - mean[..., None]) * valid[:, None]).square().flatten(1).sum(-1) / count


def _difference_error(a: Tensor, b: Tensor, difference: Tensor) -> Tensor:
    """a - b - difference, exactly, for difference = fl(a - b) (Knuth's two-sum)."""
    virtual = a - difference
    return (a - (difference + virtual)) + (virtual - b)
