"""Few exact pairs among points without a partner are found, and chance is not taken for them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.em.problem import Problem
from service.em.register import register
from service.em.solving.few_pairs import needed_pairs
from tests.problems.scenes.scene import Float64, any_rotation


def _partners(count: int, pairs: int, dimension: int, seed: int) -> tuple[Float64, Float64, Float64]:
    """Points of which the first `pairs` have an exact partner under a rotation, which is the last array."""
    rng = np.random.default_rng(seed)
    source, target = rng.uniform(-100, 100, (count, dimension)), rng.uniform(-100, 100, (count + 4, dimension))
    turn = any_rotation(rng)
    if dimension == 2:
        angle = rng.uniform(0, 6)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    target[:pairs] = source[:pairs] @ turn.T + rng.uniform(-50, 50, dimension)
    return source, target, turn


@pytest.mark.parametrize(("dimension", "pairs"), [(2, 5), (3, 6)])
def test_half_of_ten_points_have_an_exact_partner(dimension: int, pairs: int) -> None:
    right = 0
    for seed in range(12):
        source, target, turn = _partners(10, pairs, dimension, seed)
        found = register(Problem(source, target, transform="rigid"))
        assert found.linear is not None
        if np.abs(found.linear - turn).max() < 1e-5:
            right += 1
            assert found.matching[:pairs].tolist() == list(range(pairs))
            assert (found.matching[pairs:] == -1).all()
            assert found.outlier_weight == pytest.approx(1 - pairs / 10, abs=0.02)
    # The search for a start tries some of the triangles, not all.
    assert right >= 10


def test_fewer_pairs_suffice_the_more_exact_they_are() -> None:
    needed = [needed_pairs(20, 20, 2, sigma, 1.0) for sigma in (1e-8, 1e-4, 1e-2, 1.0)]
    assert needed == sorted(needed)
    assert needed[0] == 4
    assert needed[-1] == 21


def test_pairs_of_random_clouds_are_no_evidence() -> None:
    """The best of many random poses puts fewer points next to targets than are needed, at every distance."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        source, target = rng.uniform(0, 1, (2, 20, 2))
        for sigma in 1e-4, 1e-3, 1e-2:
            most = 0
            for angle in rng.uniform(0, 2 * math.pi, 300):
                turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
                moved = source @ turn.T
                moved += target[rng.integers(20)] - moved[rng.integers(20)]
                off = ((moved[:, None] - target) ** 2).sum(2).min(1)
                most = max(most, int((off < (3 * sigma) ** 2).sum()))
            assert most < needed_pairs(20, 20, 2, sigma, 1.0)
