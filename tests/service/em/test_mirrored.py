"""Mirror images of a source whose fit is weak."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from service.em.checks import check
from service.em.mirrored import against_mirror_image
from service.em.outcome import Outcome
from service.em.problem import Problem
from service.em.quality.alternatives import MIRRORED
from service.em.register import register
from service.em.solving.weighted import register_weighted
from service.errors import InvalidInput
from tests.problems.poses import posed

MIRROR = np.array([-1.0, 1, 1])


def weak(outcome: Outcome, evidence: float = 0.2) -> Outcome:
    """The outcome, as if its points agreed by a little more than chance."""
    assert outcome.quality is not None
    quality = outcome.quality._replace(verdict="good", reasons=(), evidence=evidence)
    return outcome._replace(quality=quality, warnings=())


@contextmanager
def counted() -> Iterator[list[int]]:
    """The numbers of source points of all mirror images that are registered within the block."""
    calls: list[int] = []

    def spied(problem: Problem) -> Outcome:
        calls.append(len(problem.source))
        return register_weighted(problem)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("service.em.mirrored.register_weighted", spied)
        yield calls


def shell(dimension: int = 3, noise: float = 0.004) -> Problem:
    pair = posed("shell", 150, dimension=dimension, noise=noise, overlap=0.9, outliers=0.2, seed=4)
    return Problem(pair.source, pair.target, transform="rigid")


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_weak_fit_is_doubtful_if_the_mirror_image_fits_far_better(dimension: int) -> None:
    sound = shell(dimension)
    # A map coordinate, so that a reflection at the origin would lose digits.
    problem = check(sound._replace(source=sound.source * MIRROR[:dimension] + 4e5))
    found = register(problem)
    assert found.quality is not None
    assert found.quality.verdict != "good"
    doubted = against_mirror_image(problem, weak(found))
    assert doubted.quality is not None
    assert doubted.quality.verdict == "doubtful"
    assert doubted.quality.reasons == doubted.warnings == (MIRRORED,)
    assert doubted.quality.evidence == 0.2


def test_a_weak_fit_stays_good_if_the_mirror_image_fits_no_better() -> None:
    problem = check(shell())
    found = weak(register(problem), 1.0)
    with counted() as calls:
        assert against_mirror_image(problem, found) is found
    assert calls == [len(problem.source)]


def test_a_cloud_that_is_its_own_mirror_image_stays_good() -> None:
    rng = np.random.default_rng(0)
    half = rng.normal(size=(60, 3)) + np.array([1.5, 0, 0])
    whole = np.concatenate([half, half * MIRROR])
    problem = check(Problem(whole + 0.3 * rng.normal(size=whole.shape), whole, transform="rigid"))
    found = register(problem)
    assert found.quality is not None
    kept = weak(found, found.quality.evidence)
    with counted() as calls:
        assert against_mirror_image(problem, kept) is kept
    assert calls == [len(whole)]


def test_points_of_weight_0_take_no_part() -> None:
    sound = shell()
    added = np.random.default_rng(3).uniform(-9, 9, size=(700, 3))
    source = np.concatenate([sound.source * MIRROR, added])
    weights = np.r_[np.ones(len(sound.source)), np.zeros(len(added))]
    problem = check(sound._replace(source=source, source_weights=weights))
    with counted() as calls:
        doubted = against_mirror_image(problem, weak(register(problem), 0.3))
    assert calls == [len(sound.source)]
    assert doubted.warnings == (MIRRORED,)


def test_an_error_of_the_mirror_image_is_none_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_problem: Problem) -> Outcome:
        raise InvalidInput("too few voxels", pointer="/sampling", allowed="smaller ones")

    problem = check(shell())
    found = weak(register(problem))
    monkeypatch.setattr("service.em.mirrored.register_weighted", refused)
    assert against_mirror_image(problem, found) is found


def not_searched() -> Iterator[Problem]:
    sound = shell()
    yield sound._replace(transform="translation")
    yield sound._replace(transform="affine")
    yield sound._replace(init="identity")
    yield sound._replace(pairs=np.array([[0.0, 0], [1, 1], [2, 2], [3, 3]]))


@pytest.mark.parametrize("problem", [*not_searched()])
def test_no_mirror_image_is_tried_where_no_pose_is_searched(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    found = weak(register(problem))
    monkeypatch.setattr("service.em.mirrored.register_weighted", None)
    assert against_mirror_image(problem, found) is found


def test_a_clear_fit_needs_no_mirror_image(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = check(shell())
    found = weak(register(problem), 3.0)
    monkeypatch.setattr("service.em.mirrored.register_weighted", None)
    assert against_mirror_image(problem, found) is found


def test_a_cancelled_mirror_image_changes_nothing() -> None:
    problem = check(shell())
    found = weak(register(problem))
    assert against_mirror_image(problem.until(lambda: True), found) is found
