"""The driver of the loops: it counts steps, and ends by convergence, by the caller, or by the limit."""

from __future__ import annotations

import pytest

from service.em.loop import Ending, iterate


class Halving:
    """x ← x / 2, until x is below 1."""

    def __init__(self, start: float) -> None:
        self.start = start

    def init(self) -> float:
        return self.start

    def step(self, state: float) -> float:
        return state / 2

    def converged(self, state: float) -> bool:
        return state < 1

    def outcome(self, state: float, ending: Ending) -> tuple[float, Ending]:
        return state, ending


def test_the_first_step_that_converges_is_the_last() -> None:
    assert iterate(Halving(8.0), max_iterations=100) == (0.5, Ending(4, converged=True, stopped=False))


def test_the_limit_ends_the_iteration_and_a_step_at_the_limit_may_converge() -> None:
    assert iterate(Halving(8.0), max_iterations=3) == (1.0, Ending(3, converged=False, stopped=False))
    assert iterate(Halving(8.0), max_iterations=4) == (0.5, Ending(4, converged=True, stopped=False))


def test_at_least_one_step_is_taken() -> None:
    assert iterate(Halving(0.5), max_iterations=1) == (0.25, Ending(1, converged=True, stopped=False))


def test_accept_receives_the_state_after_every_step_and_ends_the_iteration() -> None:
    seen: list[float] = []

    def accept(state: float) -> bool:
        seen.append(state)
        return state > 2

    assert iterate(Halving(16.0), max_iterations=100, accept=accept) == (2.0, Ending(3, converged=False, stopped=True))
    assert seen == [8.0, 4.0, 2.0]


def test_accept_receives_the_state_that_converged() -> None:
    seen: list[float] = []

    def accept(state: float) -> bool:
        seen.append(state)
        return True

    iterate(Halving(2.0), max_iterations=100, accept=accept)
    assert seen == [1.0, 0.5]


def test_what_accept_raises_passes_through() -> None:
    def accept(_state: float) -> bool:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        iterate(Halving(8.0), max_iterations=100, accept=accept)
