"""The contract of the iterations, in four parts, and the driver that runs them.

A loop has an initial state (`init`), a step from state to state (`step`), a test of the last step (`converged`), and a
result made from the last state (`outcome`). The driver counts the steps, asks the caller whether to continue, and ends.
The docstring of the package has a table of all loops. Compiled loops cannot take objects with methods; their docstrings
state which lines are which part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

StateT = TypeVar("StateT")
OutcomeT = TypeVar("OutcomeT")
OutcomeT_co = TypeVar("OutcomeT_co", covariant=True)


class Ending(NamedTuple):
    """How an iteration ended: by `converged`, by `accept`, or, if both are False, by its limit."""

    iterations: int
    converged: bool
    stopped: bool


class Loop(Protocol[StateT, OutcomeT_co]):
    """The four parts of an iteration."""

    def init(self) -> StateT:
        """The state before the first step."""

    def step(self, state: StateT) -> StateT:
        """The state after one more step. It may overwrite arrays of earlier states, but none of `state`."""

    def converged(self, state: StateT) -> bool:
        """Whether the step that led to `state` was small enough to be the last."""

    def outcome(self, state: StateT, ending: Ending) -> OutcomeT_co:
        """The result of the iteration, from its last state."""


def iterate(
    loop: Loop[StateT, OutcomeT],
    *,
    max_iterations: int,
    accept: Callable[[StateT], bool] | None = None,
) -> OutcomeT:
    """Run a loop for at least one step and at most `max_iterations` steps.

    `accept` receives the state after each step, the last one included, and ends the iteration by returning False. It
    may raise; the exception passes through.
    """
    state, iterations = loop.init(), 0
    while True:
        state = loop.step(state)
        iterations += 1
        converged = loop.converged(state)
        stopped = accept is not None and not accept(state)
        if converged or stopped or iterations >= max_iterations:
            return loop.outcome(state, Ending(iterations, converged, stopped))
