"""Powers of five to 128 bits, for `decimals`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Beyond these powers of ten, a number of up to 19 digits is zero or infinite in float64.
SMALLEST, LARGEST = -342, 308


def _significant(power: int) -> int:
    """The 128 highest bits of 5^power; rounded down for power >= 0, and up for others."""
    if power >= 0:
        value: int = 5**power
        excess = value.bit_length() - 128
        return value >> excess if excess > 0 else value << -excess
    value = 5 ** abs(power)
    # 2^(127 + length) / 5^-power lies between 2^127 and 2^128.
    return (1 << (127 + value.bit_length())) // value + 1


def _table() -> NDArray[np.uint64]:
    values = [_significant(power) for power in range(SMALLEST, LARGEST + 1)]
    return np.array([[value >> 64, value & (2**64 - 1)] for value in values], np.uint64)


# (651, 2): the upper and the lower 64 bits of 5^q for q = SMALLEST, ..., LARGEST.
POWERS_OF_FIVE = _table()
