"""A cancelled registration ends at its next poll, in every phase, and polls are frequent."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.em.batched import loops, registration, starts
from service.em.cancellation import Cancellation, Cancelled
from service.em.choices import Init, Transform
from service.em.kernel.expectation import expect
from service.em.outcome import Outcome
from service.em.problem import Problem
from service.em.register import register, register_batch
from service.em.solving import literal_poses, poses
from service.em.starting import annealing, global_start, hypotheses, pose_starts, translations
from service.em.starting.congruence import congruent
from service.em.starting.tuning import ANNEALING, CONGRUENCE, SEARCH
from tests.problems.clouds import posed
from tests.problems.registration import overlapping
from tests.problems.tight import tight

Float64 = NDArray[np.float64]


class Hook:
    """`Problem.cancelled`: True from the call after the first `free` calls on."""

    def __init__(self, free: float = math.inf) -> None:
        self._free = free
        self.calls = 0

    def __call__(self) -> bool:
        self.calls += 1
        return self.calls > self._free


def square(**options: Any) -> Problem:
    """The corners of a square, which four rotations leave as they are."""
    corners = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    return tight(corners, corners + 5, **options)


def poses_of(**options: Any) -> Problem:
    """A problem with a rotation of 0.2 rad."""
    instance = posed(150, sigma=0.02, angle=0.2, seed=1)
    return tight(instance.source, instance.target, **options)


def shifted(**options: Any) -> Problem:
    """A problem with a translation, between clouds that share two thirds of their points."""
    instance = overlapping(40, 80, 40, 3, sigma=0.01, shift=3.0, seed=1)
    return tight(instance.source, instance.target, **options)


PHASES: dict[str, tuple[ModuleType, str, Problem]] = {
    "the search of a batch": (registration, "start", shifted()),
    "the vote within that search": (starts, "search", shifted(sigma=0.02)),
    "the answers of a batch": (registration, "answers", shifted(init="centroid", matching="one_to_one")),
    "a start near a rigid pose": (pose_starts, "near_start", poses_of(transform="rigid", init="identity")),
    "a start near a similarity": (pose_starts, "near_start", poses_of(transform="similarity", init="centroid")),
    "a start near an affine map": (pose_starts, "near_start", poses_of(transform="affine", init="centroid")),
    "candidate translations": (pose_starts, "translation_start", shifted(outlier_weight=0.1)),
    "the vote for a translation": (translations, "search_one", shifted(outlier_weight=0.1)),
    "the search for a pose": (pose_starts, "find_start", poses_of(transform="rigid")),
    "affine candidates": (pose_starts, "affine_start", poses_of(transform="affine")),
    "the choice between two poses": (poses, "_ranked", square(transform="rigid")),
    "a matching": (poses, "correspondence", poses_of(transform="rigid", init="identity", matching="one_to_one")),
    "a literal matching": (
        literal_poses, "correspondence", poses_of(transform="rigid", prior="free", outlier_weight=0.0, init="centroid")
    ),
}  # fmt: skip


@pytest.mark.parametrize("phase", PHASES)
def test_a_problem_that_is_cancelled_in_a_phase_ends_at_the_next_poll(
    phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, problem = PHASES[phase]
    function: Callable[..., Any] = getattr(module, name)
    hook, spans = Hook(), []

    def observed(*args: Any) -> Any:
        before = hook.calls
        result = function(*args)
        spans.append((before, hook.calls))
        return result

    with monkeypatch.context() as patch:
        patch.setattr(module, name, observed)
        assert register(problem._replace(cancelled=hook)).stop_reason != "cancelled"
    first, end = spans[0]
    assert end > first
    for free in {first, (first + end) // 2, end - 1}:
        late = Hook(free)
        assert_cancelled(register(problem._replace(cancelled=late)))
        assert late.calls == free + 1


def test_a_whole_batch_that_is_cancelled_ends_at_the_next_poll() -> None:
    problems = [shifted()._replace(cancelled=Hook(3)) for _ in range(4)]
    for outcome in register_batch(problems):
        assert_cancelled(outcome)
    assert all(isinstance(one.cancelled, Hook) and one.cancelled.calls == 4 for one in problems)


def test_batch_mates_of_a_problem_that_is_cancelled_in_the_search_have_the_outcome_that_they_have_alone() -> None:
    alone = register(shifted())
    stopped, mate = register_batch([shifted(cancelled=Hook(2)), shifted()])
    assert_cancelled(stopped)
    assert np.array_equal(mate.translation, alone.translation)
    assert (mate.sigma, mate.log_likelihood, mate.iterations) == (alone.sigma, alone.log_likelihood, alone.iterations)


def test_a_poll_of_a_batch_raises_once_all_of_its_problems_are_cancelled() -> None:
    hooks = [Hook(1), Hook(0), Hook(2)]
    cancellation = Cancellation([shifted(cancelled=hook) for hook in hooks])
    cancellation.poll()  # stops at the first problem that is not cancelled
    cancellation.poll()
    cancellation.poll()
    with pytest.raises(Cancelled):
        cancellation.poll()
    # A hook that has returned True is not called again.
    assert [hook.calls for hook in hooks] == [2, 1, 3]


@pytest.mark.parametrize("count", [1, 24])
def test_the_pairs_that_a_batch_visits_between_two_polls_are_few(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = []
    visited, marks = 0, [0]
    compiled: Callable[..., int] = loops.posterior

    def counted(first: int, pairs: int, source: Float64, target: Float64, *others: Float64) -> int:
        nonlocal visited
        after = int(compiled(first, pairs, source, target, *others))
        visited += (after - first) * target.shape[2]
        return after

    def hook() -> bool:
        marks.append(visited)
        return False

    for seed in range(count):
        instance = overlapping(100, 300, 120, 3, sigma=0.01, shift=3.0, seed=seed)
        problems.append(tight(instance.source, instance.target, cancelled=hook))
    monkeypatch.setattr(loops, "posterior", counted)
    register_batch(problems)
    assert np.diff([*marks, visited]).max() <= 0.1 * visited


@pytest.mark.parametrize("transform", ["translation", "rigid", "similarity", "affine"])
@pytest.mark.parametrize("init", ["auto", "centroid"])
def test_a_start_polls_at_each_level_of_an_annealing(
    transform: Transform, init: Init, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, marks = 0, [0]

    def counted(*args: Any) -> None:
        nonlocal steps
        steps += 1
        expect(*args)

    def hook() -> bool:
        marks.append(steps)
        return False

    monkeypatch.setattr(annealing, "expect", counted)
    register(poses_of(transform=transform, init=init, outlier_weight=0.1, cancelled=hook))
    assert np.diff([*marks, steps]).max() <= ANNEALING.most_steps


def assert_cancelled(outcome: Outcome) -> None:
    """The outcome has no field of a finished problem."""
    assert (outcome.stop_reason, outcome.converged) == ("cancelled", False)
    assert math.isnan(outcome.log_likelihood)
    assert (outcome.matching == -1).all()
    assert outcome.translation_covariance is None
    assert outcome.registered is None
    assert outcome.runner_up is None


def test_a_search_in_space_polls_between_parts_of_a_triangle_and_of_the_rotations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = {"rotations": 0, "hypotheses": 0}
    marks = [(0, 0)]
    judge = global_start._judge

    def judged(starts: Float64, *others: Any) -> None:
        done["rotations"] += len(starts)
        judge(starts, *others)

    def tested(*arguments: Any) -> int:
        progress = arguments[-3]
        before = progress[1] + progress[2] // CONGRUENCE.looks
        count = congruent(*arguments)
        done["hypotheses"] += count - before
        return count

    def hook() -> bool:
        marks.append((done["rotations"], done["hypotheses"]))
        return False

    monkeypatch.setattr(global_start, "_judge", judged)
    monkeypatch.setattr(hypotheses, "congruent", tested)
    source, target = np.random.default_rng(0).normal(size=(2, 200, 3))
    register(Problem(source, target, transform="rigid", cancelled=hook))
    rotations, tests = np.diff([*marks, (done["rotations"], done["hypotheses"])], axis=0).T
    assert done["rotations"] == SEARCH.rotations_in_space
    assert rotations.max() <= SEARCH.rotations_together
    # A part ends with the triangles of one corner.
    assert CONGRUENCE.part < tests.max() < 2 * CONGRUENCE.part < done["hypotheses"]
