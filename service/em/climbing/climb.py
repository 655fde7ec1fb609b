"""The climb: accelerated E- and M-steps with a safeguard, until the transform settles.

EM is a fixed-point map θ → g(θ) that converges linearly, slowly where the matching is ambiguous. Anderson's method
(1965; Walker and Ni 2011, SIAM J. Numer. Anal. 49) combines the last few steps into a proposal. The E-step at a
proposal gives its log-likelihood. If that is below the last accepted one, the plain EM step replaces the proposal, so
the likelihoods of accepted steps never decrease.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..kernel.fitting import mean_square_step, rotation
from ..kinds import MAPS
from ..loop import Ending, iterate
from ..model import Model, Parameters

Float64 = NDArray[np.float64]

# The most steps that a proposal combines; a rigid pose in space with σ has seven numbers.
MEMORY = 6
# The most plain steps of a small problem before acceleration.
PLAIN = 12
# The maximum length of a proposal, in plain steps; longer ones are shortened.
STRIDE = 30.0
# The relative rounding error of a sum of log-likelihoods.
ROUNDING = 1e-13


class Taken(Protocol):
    """One E-step, and what its M-step gives."""

    @property
    def after(self) -> Parameters:
        """The parameters after the M-step."""

    @property
    def log_likelihood(self) -> float:
        """The observed-data log-likelihood before it."""

    @property
    def within(self) -> Float64:
        """The moments (D + 1, D + 1) of the matched source points: Σ r p̃ p̃ᵀ, p̃ = p followed by a 1."""


TakenT = TypeVar("TakenT", bound=Taken)


class Steps(Protocol[TakenT]):
    """A mixture whose likelihood is climbed."""

    @property
    def model(self) -> Model:
        """The choices that stay the same."""

    def step(self, parameters: Parameters, spare: TakenT | None = None) -> TakenT:
        """One E-step at `parameters`, and its M-step. It overwrites `spare`, a step that is no longer needed."""

    def ascend(
        self, start: Parameters, *, tolerance: float, max_iterations: int, floor: float
    ) -> tuple[TakenT, list[tuple[Parameters, float]], bool] | None:
        """Plain compiled steps until they settle, or None if there are no such steps; see `mixture.Mixture.ascend`."""


class Climb(NamedTuple, Generic[TakenT]):
    """The end of a climb."""

    parameters: Parameters  # after the last M-step
    last: TakenT  # the last E-step, and its M-step
    iterations: int  # E-steps, with those at rejected proposals
    converged: bool


class Accepted(NamedTuple, Generic[TakenT]):
    """An accepted step."""

    at: Parameters  # of its E-step
    step: TakenT


class Ascent(NamedTuple, Generic[TakenT]):
    """The state of a climb."""

    iterations: int
    after: Parameters  # where plain EM goes on
    best: float  # log-likelihood of the last accepted step
    last: Accepted[TakenT] | None  # None at first, and after a rejected proposal


class _Climbing(Generic[TakenT]):
    """The climb's `loop.Loop`: accelerated steps of a mixture."""

    def __init__(
        self,
        mixture: Steps[TakenT],
        start: Parameters,
        anderson: Anderson,
        *,
        taken: int,
        tolerance: float,
        max_iterations: int,
        floor: float,
    ) -> None:
        self._mixture, self._start, self._anderson = mixture, start, anderson
        self._spares: list[TakenT] = []  # no longer needed; the next steps overwrite their arrays
        self._taken, self._tolerance, self._max_iterations, self._floor = taken, tolerance, max_iterations, floor

    def init(self) -> Ascent[TakenT]:
        """At the start, after the steps that were already taken."""
        return Ascent(self._taken, self._start, -math.inf, None)

    def step(self, state: Ascent[TakenT]) -> Ascent[TakenT]:
        """An E-step at the proposal, or where plain EM goes on. A proposal that lowers the likelihood is rejected."""
        iterations = state.iterations + 1
        proposal = None
        # The last iteration is never at a proposal: it could be rejected.
        if state.last is not None and iterations < self._max_iterations:
            proposal = self._anderson.propose(state.last.at, state.after)
        at = state.after if proposal is None else _floored(proposal, self._floor)
        step = self._mixture.step(at, self._spares.pop() if self._spares else None)
        value = step.log_likelihood
        if state.last is not None:
            self._spares.append(state.last.step)
        if proposal is not None and value < state.best - ROUNDING * abs(state.best):
            self._anderson.forget()
            self._spares.append(step)
            return state._replace(iterations=iterations, last=None)
        return Ascent(iterations, _floored(step.after, self._floor), value, Accepted(at, step))

    def converged(self, state: Ascent[TakenT]) -> bool:
        """Whether the accepted step moved the points and σ by less than the tolerance."""
        if state.last is None:
            return False
        (at, step), after = state.last, state.after
        moved = math.sqrt(mean_square_step(step.within, at.transform, after.transform))
        bound = self._tolerance * after.sigma
        return moved < bound and abs(after.sigma - at.sigma) < bound

    def outcome(self, state: Ascent[TakenT], ending: Ending) -> Climb[TakenT]:
        """The last accepted step."""
        if state.last is None:
            raise AssertionError("the last iteration is not at a proposal")
        return Climb(state.after, state.last.step, state.iterations, ending.converged)


def climb(
    mixture: Steps[TakenT],
    start: Parameters,
    *,
    tolerance: float,
    max_iterations: int,
    floor: float,
    accept: Callable[[Parameters, float], bool] | None = None,
    anderson: Anderson | None = None,
    at_once: bool = False,
) -> Climb[TakenT]:
    """Iterate from `start` until a step moves the points, root mean square, and σ by less than `tolerance` times σ.

    Args:
        mixture: takes the steps.
        start: the first parameters, in the frame's coordinates.
        tolerance: see above; 0 never ends the iteration early.
        max_iterations: the most E-steps, at least 1.
        floor: the least σ, in the target's unit.
        accept: receives the parameters and the log-likelihood of every accepted E-step, and ends the iteration by
            returning False. It may raise.
        anderson: the acceleration of a climb on a sample of the same problem, which continues.
        at_once: take the first, plain steps of a small problem in one compiled run.
    """
    taken = 0
    if at_once:
        plain = min(PLAIN, max_iterations)
        quick = mixture.ascend(start, tolerance=tolerance, max_iterations=plain, floor=floor)
        if quick is not None:
            step, steps, still = quick
            taken = len(steps)
            going = accept is None or all(accept(at, value) for at, value in steps)
            if still or taken == max_iterations or not going:
                return Climb(step.after, step, taken, still)
            start = step.after
    anderson = anderson or Anderson(mixture.model)
    anderson.resume()

    def going_on(state: Ascent[TakenT]) -> bool:
        return accept is None or state.last is None or accept(state.last.at, state.last.step.log_likelihood)

    loop = _Climbing(
        mixture, start, anderson, taken=taken, tolerance=tolerance, max_iterations=max_iterations, floor=floor
    )
    return iterate(loop, max_iterations=max_iterations - taken, accept=going_on)


def _floored(parameters: Parameters, floor: float) -> Parameters:
    return parameters if parameters.sigma >= floor else parameters._replace(sigma=floor)


class Anderson:
    """Anderson's method on the vector of a model's parameters: the transform's numbers and log σ.

    It keeps the last steps, at most MEMORY. Mixing and sinkhorn have further state, and are not accelerated.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._possible = not model.mixing and model.normalize != "sinkhorn"
        self._last: tuple[Float64, Float64] | None = None
        # How values and steps changed from one iteration to the next.
        self._value_changes: list[Float64] = []
        self._step_changes: list[Float64] = []

    def forget(self) -> None:
        """Discard all earlier steps, after a proposal that was worse."""
        self._last = None
        self._value_changes.clear()
        self._step_changes.clear()

    def resume(self) -> None:
        """Continue on other points of the same problem, whose steps change in about the same way."""
        self._last = None

    def propose(self, before: Parameters, after: Parameters) -> Parameters | None:
        """The parameters to try next, after a plain step from `before` to `after`; None for `after` itself."""
        if not self._possible:
            return None
        value = self._vector(after)
        step = value - self._vector(before)
        if self._last is not None:
            self._value_changes.append(value - self._last[0])
            self._step_changes.append(step - self._last[1])
            del self._value_changes[: 1 - MEMORY], self._step_changes[: 1 - MEMORY]
        self._last = value, step
        if not self._step_changes:
            return None
        # The combination Σ α_k g_k, Σ α_k = 1, with the shortest combined step; log σ is scaled to a length.
        scale = self._scale(value, after.sigma)
        shorter, *_ = np.linalg.lstsq((np.array(self._step_changes) * scale).T, step * scale, rcond=1e-8)
        proposal = value - shorter @ np.array(self._value_changes)
        jump = (proposal - value) * scale
        length, plain = float(np.linalg.norm(jump)), float(np.linalg.norm(step * scale))
        if not math.isfinite(length):
            return None
        if length > STRIDE * plain:
            proposal = value + (proposal - value) * (STRIDE * plain / length)
        return self._parameters(proposal, after)

    def _vector(self, parameters: Parameters) -> Float64:
        # w is omitted: while it falls to 0 it would distort the combination, and it settles by itself.
        return np.array([*parameters.transform.ravel(), math.log(parameters.sigma)])

    def _scale(self, value: Float64, sigma: float) -> Float64:
        out = np.ones(len(value))
        out[-1] = sigma if self._model.estimate_sigma else 0.0
        return out

    def _parameters(self, vector: Float64, like: Parameters) -> Parameters:
        transform = vector[:-1].reshape(like.transform.shape).copy()
        kind, D = MAPS[self._model.kind], len(transform)
        if kind.rotates:
            linear = np.ascontiguousarray(transform[:, :D])
            turned = rotation(linear)
            scale = float((turned * linear).sum()) / D if kind.scales else 1.0
            transform[:, :D] = turned * scale
        sigma = like.sigma
        if self._model.estimate_sigma:
            sigma = math.exp(min(max(vector[-1], math.log(sigma) - 1), math.log(sigma) + 1))
        return like._replace(transform=transform, sigma=sigma)
