"""Products of lower triangular matrices: their definitions, whatever the blocks."""

from __future__ import annotations

import pytest
import torch

from service.vae import parts
from service.vae.triangular import below, fold, is_lower, outer, times

SHAPES = [(1, 1), (5, 1), (3, 4), (2, 40), (1, 90)]


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 13, 64, 100])
def test_fold_sums_the_last_axis(width: int) -> None:
    terms = torch.arange(3 * width, dtype=torch.float64).reshape(3, width)
    assert torch.equal(fold(terms.clone()), terms.sum(-1))


@pytest.fixture(params=[1, 20, 100, 1 << 17])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elements of one block."""
    monkeypatch.setattr(parts, "PART_ELEMENTS", request.param)


def integers(*shape: int) -> torch.Tensor:
    """Small integers, of which sums and products are exact."""
    return torch.randint(-9, 10, shape, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("blocks")
def test_products_are_those_of_whole_matrices(shape: tuple[int, int]) -> None:
    vectors, others, matrices = integers(*shape), integers(*shape).flip(0), integers(*shape, shape[1])
    assert torch.equal(times(matrices, vectors), torch.einsum("rij,rj->ri", matrices, vectors))
    assert torch.equal(outer(vectors, others), torch.einsum("ri,rj->rij", vectors, others).tril())
    weighted, squares = below(matrices, integers(shape[0]))
    assert torch.equal(weighted, integers(shape[0])[:, None, None] * matrices.tril(-1))
    assert torch.equal(squares, matrices.tril(-1).square().sum((1, 2)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("blocks")
def test_one_element_above_a_diagonal_is_found(shape: tuple[int, int]) -> None:
    count, width = shape
    matrices = integers(count, width, width).tril()
    assert is_lower(matrices)
    for row in range(0, width - 1, 7):
        upper = matrices.clone()
        upper[-1, row, row + 1] = 1
        assert not is_lower(upper)
