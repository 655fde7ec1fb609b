"""Hard matchings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import log_softmax

from service.em.matching import one_to_one
from service.em.register import register
from tests.problems.registration import bijection, cloud, overlapping
from tests.problems.tight import tight


@pytest.mark.parametrize(("n", "m"), [(1, 1), (4, 4), (3, 5), (5, 3)])
def test_one_to_one_is_the_best_of_all_injections(n: int, m: int) -> None:
    logs = log_softmax(10 * cloud(n, m, np.random.default_rng(n)), 1)
    match = one_to_one(logs)
    matched = match >= 0
    assert matched.sum() == min(n, m)
    assert len(set(match[matched].tolist())) == min(n, m)
    best = max(
        sum(logs[i, j].item() for i, j in zip(rows, columns, strict=True))
        for rows in itertools.combinations(range(n), min(n, m))
        for columns in itertools.permutations(range(m), min(n, m))
    )
    assert logs[matched, match[matched]].sum().item() == pytest.approx(best)


def test_nearest_is_the_argmax_of_the_responsibilities() -> None:
    instance = overlapping(5, 20, 10, 2, sigma=0.05)
    for sigma in (None, 0.2):
        outcome = register(tight(instance.source, instance.target, sigma=sigma, responsibilities=True))
        assert outcome.responsibilities is not None
        assert np.array_equal(outcome.matching, outcome.responsibilities.argmax(1))
        np.testing.assert_allclose(outcome.matching_probability, outcome.responsibilities.max(1), rtol=1e-11, atol=0)


def test_one_to_one_finds_a_bijection_that_nearest_misses() -> None:
    instance = bijection(40, 2, sigma=0.03, seed=2)
    problem = tight(instance.source, instance.target, sigma=0.03, prior="uniform", responsibilities=True)
    nearest, bijective = register(problem), register(problem._replace(matching="one_to_one"))
    assert len(set(nearest.matching.tolist())) < 40
    assert sorted(bijective.matching.tolist()) == list(range(40))
    assert bijective.responsibilities is not None
    chosen = bijective.responsibilities[np.arange(40), bijective.matching]
    np.testing.assert_allclose(bijective.matching_probability, chosen, rtol=1e-12, atol=0)


def test_one_to_one_leaves_the_points_over_unmatched() -> None:
    instance = overlapping(3, 7, 0, 2)
    problem = tight(instance.source, instance.target, sigma=0.01, init=instance.translation, max_iterations=1)
    outcome = register(problem._replace(matching="one_to_one"))
    assert np.array_equal(outcome.matching, instance.partner)
    assert np.array_equal(outcome.matching_probability > 0, instance.partner >= 0)


def test_a_factor_for_each_row_changes_nothing_where_every_point_is_matched() -> None:
    logs = 10 * cloud(5, 8, np.random.default_rng(0))
    assert np.array_equal(one_to_one(logs), one_to_one(log_softmax(logs, 1)))


def test_a_cost_too_small_for_a_probability_still_ranks() -> None:
    p = np.array([[0.0], [1.0]])
    problem = tight(p, p, sigma=1e-6, prior="uniform", init=np.array([10.0]), matching="one_to_one")
    assert register(problem._replace(max_iterations=1)).matching.tolist() == [0, 1]
