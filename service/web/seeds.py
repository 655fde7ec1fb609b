"""Seeds that requests give, and those that the service draws for them."""

from __future__ import annotations

import secrets

MAX_SEED = 2**63 - 1
# JavaScript rounds integers from 2**53 on, so a drawn seed stays below.
DRAWN_SEEDS = 2**53


def random_seed() -> int:
    """An unpredictable seed, from 0 to 2**53 - 1."""
    return secrets.randbelow(DRAWN_SEEDS)
