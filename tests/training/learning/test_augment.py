"""Laws of the translation of images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.learning.augment import BLACK, translate


def pictures(count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 8, 6, generator=generator, dtype=torch.float64) * 2 - 1


def test_a_shift_of_0_changes_nothing() -> None:
    assert torch.equal(translate(pictures(), torch.zeros(5, 2, dtype=torch.int64), 2), pictures())


@pytest.mark.parametrize(("down", "right"), [(0, 2), (3, 0), (2, 1), (-1, -3), (-2, 2)])
def test_an_image_moves_down_and_right_and_leaves_black_behind(down: int, right: int) -> None:
    images = pictures()
    moved = translate(images, torch.tensor([[down, right]]).expand(5, 2), 3)
    for row in range(8):
        for column in range(6):
            inside = 0 <= row - down < 8 and 0 <= column - right < 6
            expected = images[:, 0, row - down, column - right] if inside else torch.full((5,), BLACK)
            torch.testing.assert_close(moved[:, 0, row, column], expected, check_dtype=False)


def test_each_image_moves_by_its_own_shift() -> None:
    images, shifts = pictures(), torch.tensor([[0, 1], [2, 0], [0, 0], [-1, 2], [1, 1]])
    moved = translate(images, shifts, 2)
    for index in range(5):
        assert torch.equal(moved[index : index + 1], translate(images[index : index + 1], shifts[index : index + 1], 2))


def test_pixels_that_leave_the_image_are_lost() -> None:
    assert bool((translate(pictures(), torch.full((5, 2), 100), 100) == BLACK).all())


def test_the_gradient_of_a_pixel_is_at_its_original_position() -> None:
    images = pictures(1).requires_grad_()
    (gradient,) = torch.autograd.grad(translate(images, torch.tensor([[1, 2]]), 2)[0, 0, 4, 5], images)
    assert gradient.nonzero().tolist() == [[0, 0, 3, 3]]
