"""Products of lower triangular matrices, in blocks of rows. Results do not depend on the blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from ..runtime import turns
from . import parts


class Block(NamedTuple):
    """Some rows of some matrices."""

    matrices: slice
    rows: slice


def blocks(shape: torch.Size) -> Iterator[Block]:
    """Blocks of matrices of `shape` (R, D, D), each with at most about `parts.PART_ELEMENTS` elements."""
    count, width, _ = shape
    if width * width <= parts.PART_ELEMENTS:
        for matrices in parts.spans(count, width * width):
            yield Block(matrices, slice(0, width))
        return
    for number in range(count):
        turns.give_way()
        for rows in parts.spans(width, width):
            yield Block(slice(number, number + 1), rows)


def fold(terms: torch.Tensor) -> torch.Tensor:
    """Sums (...) of `terms` (..., D) over the last axis, by adding its second half to the first until one is left.

    The additions are elementwise, so their order depends on D alone. (With MKL, the last bits of bmm and einsum depend
    on the number of matrices, measured from D = 33.) `terms` is overwritten.
    """
    while (width := terms.shape[-1]) > 1:
        half = width // 2
        terms[..., :half] += terms[..., width - half :]
        terms = terms[..., : width - half]
    return terms[..., 0]


def times(factor: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """L v of matrices `factor` (R, D, D) and vectors (R, D), (R, D)."""
    found = torch.empty_like(vectors)
    for block in blocks(factor.shape):
        found[block] = fold(factor[block] * vectors[block.matrices, None, :])
    return found


def outer(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """tril(u vᵀ) of vectors u and v (R, D), (R, D, D)."""
    found = left.new_empty((*left.shape, left.shape[-1]))
    for block in blocks(found.shape):
        product = left[block][..., None] * right[block.matrices, None, :]
        found[block] = product.tril(block.rows.start)
    return found


def is_lower(factor: torch.Tensor) -> bool:
    """Whether all elements above the diagonals of `factor` (R, D, D) are 0."""
    return not any(bool(factor[block].triu(block.rows.start + 1).any()) for block in blocks(factor.shape))


def below(factor: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The elements below the diagonals of `factor` (R, D, D), times one of `weights` (R,) for each matrix, (R, D, D),
    and the sums of their squares without weights, (R,).
    """
    found, squares = torch.empty_like(factor), factor.new_empty(factor.shape[:2])
    for block in blocks(factor.shape):
        elements = factor[block].tril(block.rows.start - 1)
        found[block] = weights[block.matrices, None, None] * elements
        squares[block] = fold(elements * elements)
    return found, fold(squares)
