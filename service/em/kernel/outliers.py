"""The outlier bin: what having no partner weighs beside having one."""

from __future__ import annotations

import math

from ..jit import compiled


@compiled
def bin_weight(outliers: float, sigma: float, dimension: int, log_volume: float, largest: float) -> float:
    """β of `truncated`: the bin beside Gaussians without their factor, of which the largest weight is 1.

    β = w/(1 - w) · (√(2π)σ)^D / V / max_j π_j, with the share of outliers w, spread over the volume V, and `largest`
    the greatest π_j. Under a kernel wider than V outliers are no denser than everything else.
    """
    gauss = dimension * (0.5 * math.log(2 * math.pi) + math.log(sigma)) - log_volume
    return outliers / (1 - outliers) / largest * math.exp(min(gauss, 0.0))
