"""Elementary functions that stay accurate where the textbook formula cancels or overflows."""

from __future__ import annotations

import torch

# Below this |x|, x - log(1 + x) is summed as a series; above it, the subtraction loses at most four bits.
_NEAR = 0.125


def excess(x: torch.Tensor, log1p_x: torch.Tensor) -> torch.Tensor:
    """x - log(1 + x), elementwise for x ≥ -1 of any shape. It is never negative, 0 only at 0, and accurate near 0.

    Near 0, let r = x/(2 + x). Then log(1 + x) = 2 artanh(r) = 2(r + r³/3 + r⁵/5 + ...) and x - 2r = x·r, so the result
    is r·(x - 2r²(1/3 + r²/5 + ...)), where nothing cancels.

    Args:
        x: of any shape.
        log1p_x: log(1 + x), of the shape of x.
    """
    r = x / (x + 2)
    square = r * r
    series = square * (1 / 13)
    for odd in (11, 9, 7, 5, 3):
        series.add_(1 / odd).mul_(square)
    near = series.mul_(-2).add_(x).mul_(r)
    return torch.where(x.abs() < _NEAR, near, x - log1p_x)


def softplus_and_sigmoid(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log(1 + eᵃ) and 1/(1 + e⁻ᵃ), elementwise for `a` of any shape, to a few ulps for all finite values."""
    e = torch.exp(-a.abs())
    return a.clamp_min(0) + torch.log1p(e), torch.where(a >= 0, torch.ones_like(e), e) / (1 + e)
