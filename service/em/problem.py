"""One registration problem, its answer, and what makes a problem computable.

Source p_i (N, D), target q_j (M, D), translation T (D,), noise scale σ in the units of the coordinates. Everything
is float64; a length is in the caller's own unit throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from service.errors import InvalidInput

Prior = Literal["free", "uniform"]
Init = Literal["auto", "identity", "centroid"]
Matching = Literal["nearest", "one_to_one"]
StopReason = Literal["tolerance", "max_iterations", "cancelled"]

# Squares of coordinates, divided by squares of σ and summed over pairs and iterations, must stay below 1e300, where
# the padding of a batch begins: (2e75)² · D / (1e-50)² = 4e250 · D leaves room for any N, D and max_iterations.
MAX_COORDINATE = 1e75
MIN_SIGMA = 1e-50
MAX_SIGMA = 1e75
# scipy's solver works on a dense N x M matrix of costs; 25e6 of them are 200 MB and some ten seconds.
MAX_ONE_TO_ONE_PAIRS = 25_000_000

PRIORS = ("free", "uniform")
INITS = ("auto", "identity", "centroid")
MATCHINGS = ("nearest", "one_to_one")


def never() -> bool:
    """The hook of a problem that nobody cancels."""
    return False


class Problem(NamedTuple):
    """What to register, and how; tensors are on the CPU.

    `sigma` None estimates σ. `prior` None means "free" for a given σ and "uniform" for an estimated one. `init` is a
    name or a translation (D,). `tolerance` is the change of T relative to σ below which the iteration stops; 0 never
    stops it early. The three flags ask for fields of the outcome that cost memory. `cancelled` is polled once per
    iteration.
    """

    source: Tensor
    target: Tensor
    sigma: float | None = None
    prior: Prior | None = None
    init: Init | Tensor = "auto"
    max_iterations: int = 100
    tolerance: float = 1e-6
    matching: Matching = "nearest"
    responsibilities: bool = False
    registered: bool = False
    trace: bool = False
    cancelled: Callable[[], bool] = never

    @property
    def resolved_prior(self) -> Prior:
        """The prior in force: the one given, or the default that goes with σ."""
        return self.prior or ("uniform" if self.sigma is None else "free")


class Trace(NamedTuple):
    """The k iterations, one row each, as they stand after their M-step."""

    log_likelihood: Tensor  # (k,) observed-data log-likelihood at (Π, T, σ)
    sigma: Tensor  # (k,)
    translation: Tensor  # (k, D)


class Outcome(NamedTuple):
    """The answer to one problem, on the CPU, in the caller's coordinates.

    A cancelled problem carries its last T and σ, a NaN `log_likelihood`, and no matching, covariance or extras.
    """

    translation: Tensor  # (D,)
    sigma: float
    log_likelihood: float  # observed-data, at the returned Π, T, σ
    matching: Tensor  # (N,) int64: the matched j, or -1 for none
    matching_probability: Tensor  # (N,) r_i,match(i) of the last E-step; 0 where there is no match
    translation_covariance: Tensor | None  # (D, D), or None where the information is not positive definite or D > 256
    iterations: int
    converged: bool
    stop_reason: StopReason
    start: str  # which start won: identity, centroid, given, anneal or vote
    responsibilities: Tensor | None  # (N, M), of the last E-step: the R that T was computed from
    registered: Tensor | None  # (N, D) source + T
    trace: Trace | None


def check(problem: Problem) -> Problem:
    """The same problem in contiguous float64, ready for `register_batch`.

    Raises InvalidInput, with a pointer and what is allowed, for empty sets, shapes that do not fit, values that are
    not finite or whose squares would overflow, and options out of range.
    """
    source, target = check_pair(problem.source, problem.target)
    dimension = source.shape[1]
    if problem.sigma is not None:
        check_sigma(problem.sigma)
    if problem.prior is not None and problem.prior not in PRIORS:
        raise InvalidInput(f"prior {problem.prior!r} is not known", pointer="/prior", allowed=PRIORS)
    if problem.matching not in MATCHINGS:
        raise InvalidInput(f"matching {problem.matching!r} is not known", pointer="/matching", allowed=MATCHINGS)
    pairs = len(source) * len(target)
    if problem.matching == "one_to_one" and pairs > MAX_ONE_TO_ONE_PAIRS:
        raise InvalidInput(
            f"one_to_one needs all {len(source)} x {len(target)} = {pairs} costs at once; use nearest, or fewer points",
            pointer="/matching",
            allowed=f"at most {MAX_ONE_TO_ONE_PAIRS} pairs",
        )
    if problem.max_iterations < 1:
        raise InvalidInput(
            f"max_iterations is {problem.max_iterations}; at least one E-step is needed for an answer",
            pointer="/max_iterations",
            allowed="an integer >= 1",
        )
    if not 0 <= problem.tolerance < math.inf:
        raise InvalidInput(
            f"tolerance is {problem.tolerance}; it is a change of T in units of sigma, and 0 never stops early",
            pointer="/tolerance",
            allowed="a finite number >= 0",
        )
    init = problem.init
    if isinstance(init, Tensor):
        init = check_translation(init, dimension, "/init")
    elif init not in INITS:
        raise InvalidInput(f"init {init!r} is not known", pointer="/init", allowed=(*INITS, "a translation"))
    return problem._replace(source=source, target=target, init=init)


def check_pair(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both clouds as `check_points` gives them. Raises InvalidInput also where their D differ."""
    source, target = check_points(source, "/source"), check_points(target, "/target")
    dimension = source.shape[1]
    if target.shape[1] != dimension:
        raise InvalidInput(
            f"source has {dimension} coordinates a point and target has {target.shape[1]}; they must agree",
            pointer="/target",
            allowed=f"points of {dimension} coordinates",
        )
    return source, target


def check_points(points: Tensor, pointer: str) -> Tensor:
    """`points` as contiguous float64 (N, D). Raises InvalidInput if empty, not a matrix, or out of range."""
    if points.ndim != 2 or 0 in points.shape:
        raise InvalidInput(
            f"a point set of shape {tuple(points.shape)} has no points to match",
            pointer=pointer,
            allowed="N x D numbers with N >= 1 and D >= 1",
        )
    points = points.detach().to(torch.float64).contiguous()
    _check_range(points, pointer)
    return points


def check_translation(translation: Tensor, dimension: int, pointer: str) -> Tensor:
    """`translation` as float64 (D,). Raises InvalidInput on another shape, or out of range."""
    if translation.shape != (dimension,):
        raise InvalidInput(
            f"a translation of shape {tuple(translation.shape)} does not move points of {dimension} coordinates",
            pointer=pointer,
            allowed=f"{dimension} numbers",
        )
    translation = translation.detach().to(torch.float64).contiguous()
    _check_range(translation, pointer)
    return translation


def check_sigma(sigma: float, pointer: str = "/sigma") -> float:
    """`sigma` itself. Raises InvalidInput unless MIN_SIGMA <= sigma <= MAX_SIGMA."""
    if not MIN_SIGMA <= sigma <= MAX_SIGMA:
        raise InvalidInput(
            f"sigma is {sigma}; it is the noise's standard deviation, in the unit of the coordinates",
            pointer=pointer,
            allowed=f"a number from {MIN_SIGMA} to {MAX_SIGMA}",
        )
    return float(sigma)


def _check_range(values: Tensor, pointer: str) -> None:
    # One reduction decides: NaN compares false with everything. The culprit is looked for only when there is one.
    if torch.linalg.vector_norm(values, torch.inf).item() <= MAX_COORDINATE:
        return
    culprit = torch.nonzero(~(values.abs() <= MAX_COORDINATE))[0].tolist()
    value = values[tuple(culprit)].item()
    raise InvalidInput(
        f"the value at {culprit} is {value}, whose square cannot be computed with",
        pointer=pointer,
        allowed=f"finite numbers of magnitude up to {MAX_COORDINATE}",
    )
