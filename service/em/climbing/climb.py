"""The iteration: E- and M-steps, accelerated under a safeguard, until the transform settles.

EM is a fixed-point map θ → g(θ) that converges linearly, slowly where the matching is ambiguous. Anderson's method
(1965; Walker and Ni 2011, SIAM J. Numer. Anal. 49) combines the last few steps into a proposal. The E-step at a
proposal gives its log-likelihood. If that is below the last accepted one, the plain EM step replaces the proposal, so
the likelihoods of accepted steps never decrease.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernel.fitting import RIGID, SIMILARITY, mean_square_step, rotation
from ..model import Model, Parameters
from .mixture import Mixture, Step

Float64 = NDArray[np.float64]

# The most steps that a proposal combines; a rigid pose in space with σ has seven numbers.
MEMORY = 6
# Plain steps of a small problem before acceleration pays off.
PLAIN = 12
# The largest proposal, in plain steps; larger ones are shortened.
STRIDE = 30.0
# The relative rounding error of a sum of log-likelihoods.
ROUNDING = 1e-13


class Climb(NamedTuple):
    """Where the iteration ended."""

    parameters: Parameters  # after the last M-step
    last: Step  # that M-step's own
    iterations: int
    converged: bool


def climb(
    mixture: Mixture,
    start: Parameters,
    *,
    tolerance: float,
    max_iterations: int,
    floor: float,
    accept: Callable[[Parameters, float], bool] | None = None,
    anderson: Anderson | None = None,
    at_once: bool = False,
) -> Climb:
    """Iterate from `start` until a step moves the points, root mean square, and σ by less than `tolerance` times σ.

    `floor` is the least σ. `accept` receives the parameters and the log-likelihood of every accepted E-step, and
    ends the iteration by returning False. `anderson` may come from a climb on a sample of the same problem. With
    `at_once` a small problem takes its first, plain steps in one compiled run.
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
    here, fallback, best = start, None, -math.inf
    iteration = taken
    while True:
        iteration += 1
        step = mixture.step(here)
        after = _floored(step.after, floor)
        if fallback is not None and step.log_likelihood < best - ROUNDING * abs(best):
            here, fallback = fallback, None
            anderson.forget()
            continue  # never the last iteration: the last one is not taken at a proposal
        best = step.log_likelihood
        moved = math.sqrt(mean_square_step(step.sums.within, here.transform, after.transform))
        still = moved < tolerance * after.sigma and abs(after.sigma - here.sigma) < tolerance * after.sigma
        going = accept is None or accept(here, step.log_likelihood)
        if not going or still or iteration >= max_iterations:
            return Climb(after, step, iteration, still)
        proposal = anderson.propose(here, after) if iteration + 1 < max_iterations else None
        here, fallback = (after, None) if proposal is None else (_floored(proposal, floor), after)


def _floored(parameters: Parameters, floor: float) -> Parameters:
    return parameters if parameters.sigma >= floor else parameters._replace(sigma=floor)


class Anderson:
    """Anderson's method on the vector of a model's parameters."""

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
        """The parameters to try in place of the plain step from `before` to `after`; None for the plain step."""
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
        # Without w: on its way to 0 it would distort the combination, and it settles by itself.
        return np.array([*parameters.transform.ravel(), math.log(parameters.sigma)])

    def _scale(self, value: Float64, sigma: float) -> Float64:
        out = np.ones(len(value))
        out[-1] = sigma if self._model.estimate_sigma else 0.0
        return out

    def _parameters(self, vector: Float64, like: Parameters) -> Parameters:
        transform = vector[:-1].reshape(like.transform.shape).copy()
        kind, D = self._model.kind, len(transform)
        if kind in {RIGID, SIMILARITY}:
            linear = np.ascontiguousarray(transform[:, :D])
            turned = rotation(linear)
            scale = float((turned * linear).sum()) / D if kind == SIMILARITY else 1.0
            transform[:, :D] = turned * scale
        sigma = like.sigma
        if self._model.estimate_sigma:
            sigma = math.exp(min(max(vector[-1], math.log(sigma) - 1), math.log(sigma) + 1))
        return like._replace(transform=transform, sigma=sigma)
