"""One registration problem, its answer, and what makes a problem computable.

Source p_i (N, D), target q_j (M, D), translation T (D,), noise scale σ in the units of the coordinates. Everything
is float64; a length is in the caller's own unit throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInput
from .steps import check_distribution

Transform = Literal["translation", "rigid", "similarity", "affine", "nonrigid"]
Prior = Literal["free", "uniform", "mixing"]
Normalize = Literal["rows", "columns", "sinkhorn"]
Init = Literal["auto", "identity", "centroid"]
Matching = Literal["nearest", "one_to_one"]
StopReason = Literal["tolerance", "max_iterations", "cancelled"]

# Squares of coordinates, divided by squares of σ and summed over pairs and iterations, must stay below 1e300, where
# the padding of a batch begins: (2e75)² · D / (1e-50)² = 4e250 · D leaves room for any N, D and max_iterations.
MAX_COORDINATE = 1e75
MIN_SIGMA = 1e-50
MAX_SIGMA = 1e75
# A prior of one's own is an N x M matrix, and so is every E-step with it.
MAX_PRIOR_PAIRS = 4_000_000
MAX_OUTLIER_WEIGHT = 0.99
MAX_ITERATIONS = 100_000
DEFAULT_ITERATIONS = 200
DEFAULT_TOLERANCE = 1e-4
# How far a rotation that comes as text may be from orthogonal.
POSE_TOLERANCE = 1e-6

TRANSFORMS: tuple[Transform, ...] = ("translation", "rigid", "similarity", "affine", "nonrigid")
PRIORS = ("free", "uniform", "mixing")
NORMALIZES: tuple[Normalize, ...] = ("rows", "columns", "sinkhorn")
INITS = ("auto", "identity", "centroid")
MATCHINGS = ("nearest", "one_to_one")


def never() -> bool:
    """The hook of a problem that nobody cancels."""
    return False


class Pose(NamedTuple):
    """A transform in the caller's coordinates: y = A p + T."""

    linear: Tensor  # (D, D) A
    translation: Tensor  # (D,) T


class Problem(NamedTuple):
    """What to register, and how; tensors are on the CPU.

    `sigma` None estimates σ. `prior` is a name, or Π itself (N, M), rows summing to one; None means "free" for a
    translation with a given σ and no outliers, else "uniform". `outlier_weight` is the share w of points without a
    partner, "auto" to estimate it; None means none for a translation and "auto" for all other transforms. `normalize`
    None means "rows" for a translation and a rigid transform, "columns" for the others, which could shrink the source
    to a point otherwise. `init` is a name, a translation (D,) or a pose. `tolerance` is the change of the moved points
    relative to σ below which the iteration stops; 0 never stops it early. `refine` fits the transform once more, to the
    matched pairs. `beta` and `stiffness` are those of a nonrigid transform (see `nonrigid`). The flags ask for fields
    of the outcome that cost memory. `cancelled` is polled once per iteration.
    """

    source: Tensor
    target: Tensor
    sigma: float | None = None
    transform: Transform = "translation"
    prior: Prior | Tensor | None = None
    outlier_weight: float | Literal["auto"] | None = None
    normalize: Normalize | None = None
    init: Init | Tensor | Pose = "auto"
    max_iterations: int = DEFAULT_ITERATIONS
    tolerance: float = DEFAULT_TOLERANCE
    matching: Matching = "nearest"
    refine: bool = False
    beta: float | None = None
    stiffness: float | None = None
    responsibilities: bool = False
    registered: bool = False
    trace: bool = False
    path: bool = False
    cancelled: Callable[[], bool] = never

    @property
    def resolved_outliers(self) -> float | Literal["auto"]:
        """The outlier weight in force: the one given, or the default that goes with the transform."""
        if self.outlier_weight is not None:
            return self.outlier_weight
        return 0.0 if self.transform == "translation" and self.normalize != "sinkhorn" else "auto"

    @property
    def resolved_normalize(self) -> Normalize:
        """The normalisation in force."""
        return self.normalize or ("rows" if self.transform in {"translation", "rigid"} else "columns")

    @property
    def resolved_prior(self) -> Prior | Tensor:
        """The prior in force: the one given, or the default that goes with the other choices."""
        if self.prior is not None:
            return self.prior
        literal = self.transform == "translation" and self.sigma is not None and self.outlier_weight in {None, 0.0}
        return "free" if literal and self.resolved_normalize == "rows" else "uniform"


class Trace(NamedTuple):
    """The k iterations, one row each, as they stand after their M-step."""

    log_likelihood: Tensor  # (k,) observed-data log-likelihood at (Π, T, σ)
    sigma: Tensor  # (k,)
    translation: Tensor  # (k, D)
    linear: Tensor | None = None  # (k, D, D) A; None for a translation


class RunnerUp(NamedTuple):
    """The best pose that is another one."""

    pose: Pose
    gap: float  # nats by which the observed-data log-likelihood is less there


class Outcome(NamedTuple):
    """The answer to one problem, on the CPU, in the caller's coordinates.

    A cancelled problem carries its last T and σ, a NaN `log_likelihood`, and no matching, covariance or extras.
    """

    translation: Tensor  # (D,)
    sigma: float
    log_likelihood: float  # observed-data, at the returned parameters
    matching: Tensor  # (N,) int64: the matched j, or -1 for none
    matching_probability: Tensor  # (N,) r_i,match(i) of the last E-step; 0 where there is no match
    translation_covariance: Tensor | None  # (D, D), or None: no positive definite information, or > 256 numbers
    iterations: int
    converged: bool
    stop_reason: StopReason
    start: str  # which start won: identity, centroid, given, anneal, vote, rotation, triangles or whitened
    responsibilities: Tensor | None  # (N, M), of the last E-step: the R that T was computed from
    registered: Tensor | None  # (N, D) the source, moved
    trace: Trace | None
    linear: Tensor | None = None  # (D, D) A; None for the identity
    rotation_covariance: Tensor | None = None  # (1, 1) or (3, 3), rad², of R's left axis-angle perturbation
    outlier_weight: float = 0.0  # w, given or estimated
    outlier_probability: Tensor | None = None  # (N,) that the point has no partner; None without an outlier weight
    displacement: Tensor | None = None  # (N, D) v of a nonrigid transform: registered = A p + T + v
    runner_up: RunnerUp | None = None
    warnings: tuple[str, ...] = ()
    path: tuple[Pose, ...] = ()  # from the start on, also the steps of the annealing


def check(problem: Problem) -> Problem:
    """The same problem in contiguous float64, ready for `register_batch`.

    Raises InvalidInput, with a pointer and what is allowed, for empty sets, shapes that do not fit, values that are
    not finite or whose squares would overflow, and options out of range.
    """
    source, target = check_pair(problem.source, problem.target)
    dimension = source.shape[1]
    if problem.sigma is not None:
        check_sigma(problem.sigma)
    for name, allowed in (("transform", TRANSFORMS), ("normalize", NORMALIZES), ("matching", MATCHINGS)):
        value = getattr(problem, name)
        if value is not None and value not in allowed:
            raise InvalidInput(f"{name} {value!r} is not known", pointer=f"/{name}", allowed=allowed)
    if problem.transform in {"rigid", "similarity", "nonrigid"} and dimension not in {2, 3}:
        raise InvalidInput(
            f"transform {problem.transform} needs points in the plane or in space; these have {dimension} coordinates",
            pointer="/transform",
            allowed=["translation", "affine"],
        )
    weight: object = problem.outlier_weight
    known = weight in {None, "auto"} or (isinstance(weight, (int, float)) and 0 <= weight <= MAX_OUTLIER_WEIGHT)
    if not known:
        raise InvalidInput(
            f"outlier_weight is {weight}; it is the share of points without a partner",
            pointer="/outlier_weight",
            allowed=f'a number from 0 to {MAX_OUTLIER_WEIGHT}, or "auto"',
        )
    prior = _check_prior(problem, len(source), len(target))
    for name in ("beta", "stiffness"):
        value = getattr(problem, name)
        if value is not None and (problem.transform != "nonrigid" or not 0 < value < math.inf):
            raise InvalidInput(
                f"{name} is {value}; it shapes a nonrigid transform",
                pointer=f"/{name}",
                allowed="a number > 0, with transform nonrigid",
            )
    if problem.refine and problem.transform == "nonrigid":
        raise InvalidInput("a nonrigid transform is not refined on its pairs", pointer="/refine", allowed=[False])
    if not 1 <= problem.max_iterations <= MAX_ITERATIONS:
        raise InvalidInput(
            f"max_iterations is {problem.max_iterations}; an answer takes at least one E-step",
            pointer="/max_iterations",
            allowed=f"an integer from 1 to {MAX_ITERATIONS}",
        )
    if not 0 <= problem.tolerance < math.inf:
        raise InvalidInput(
            f"tolerance is {problem.tolerance}; it is a change of T in units of sigma, and 0 never stops early",
            pointer="/tolerance",
            allowed="a finite number >= 0",
        )
    init = problem.init
    if isinstance(init, Pose):
        init = _check_pose(init, dimension, problem.transform)
    elif isinstance(init, Tensor):
        init = check_translation(init, dimension, "/init")
    elif init not in INITS:
        raise InvalidInput(
            f"init {init!r} is not known", pointer="/init", allowed=(*INITS, "a translation", "a transform")
        )
    return problem._replace(source=source, target=target, init=init, prior=prior)


def _check_prior(problem: Problem, n: int, m: int) -> Prior | Tensor | None:
    prior = problem.prior
    if isinstance(prior, Tensor):
        if n * m > MAX_PRIOR_PAIRS:
            raise InvalidInput(
                f"a prior of {n} x {m} numbers is too large; mixing estimates one from {m} numbers",
                pointer="/prior",
                allowed=f"at most {MAX_PRIOR_PAIRS} pairs",
            )
        prior = check_distribution(prior.detach().to(torch.float64), (n, m), "/prior")
    elif prior is not None and prior not in PRIORS:
        raise InvalidInput(f"prior {prior!r} is not known", pointer="/prior", allowed=(*PRIORS, "an N x M matrix"))
    plain = problem.resolved_normalize == "rows" and problem.transform != "nonrigid"
    if (isinstance(prior, Tensor) or prior == "free") and not plain:
        raise InvalidInput(
            "a prior for each pair goes with rows that sum to one, of a transform that is not nonrigid",
            pointer="/prior",
            allowed=["uniform", "mixing"],
        )
    if prior == "free" and problem.outlier_weight not in {None, 0.0}:
        raise InvalidInput(
            "with the prior free, Π ← R, there is no outlier weight: the recursion is the literal one",
            pointer="/outlier_weight",
            allowed="0, or prior uniform or mixing",
        )
    if prior == "mixing" and (problem.resolved_normalize == "sinkhorn" or problem.transform == "nonrigid"):
        raise InvalidInput("mixing weights are for rows or columns", pointer="/prior", allowed=["uniform"])
    return prior


def _check_pose(pose: Pose, dimension: int, transform: Transform) -> Pose:
    translation = check_translation(pose.translation, dimension, "/init/translation")
    linear = pose.linear.detach().to(torch.float64).contiguous()
    if tuple(linear.shape) != (dimension, dimension):
        raise InvalidInput(
            f"a transform of shape {tuple(linear.shape)} does not turn points of {dimension} coordinates",
            pointer="/init",
            allowed=f"{dimension} x {dimension} numbers",
        )
    _check_range(linear, "/init")
    gram = linear.T @ linear
    scale = float(gram.trace()) / dimension
    off = float((gram - scale * torch.eye(dimension, dtype=torch.float64)).abs().max())
    proper = float(torch.linalg.det(linear)) > 0
    turned = off <= POSE_TOLERANCE * scale and proper
    good = {
        "translation": turned and float((linear - torch.eye(dimension, dtype=torch.float64)).abs().max()) == 0,
        "rigid": turned and abs(scale - 1) <= POSE_TOLERANCE,
        "nonrigid": proper,
        "similarity": turned,
        "affine": scale > 0,
    }
    if not good[transform]:
        raise InvalidInput(
            f"this is no {transform} transform to start from",
            pointer="/init",
            allowed="a proper rotation, times a scale for similarity; rotations are orthogonal with determinant +1",
        )
    return Pose(linear, translation)


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
    if points.is_complex():
        raise InvalidInput("points are complex; coordinates are real", pointer=pointer, allowed="real numbers")
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
    # One number decides: NaN compares false with everything. The culprit is looked for only when there is one.
    if np.abs(values.numpy()).max() <= MAX_COORDINATE:
        return
    culprit = torch.nonzero(~(values.abs() <= MAX_COORDINATE))[0].tolist()
    value = values[tuple(culprit)].item()
    raise InvalidInput(
        f"the value at {culprit} is {value}, whose square cannot be computed with",
        pointer=pointer,
        allowed=f"finite numbers of magnitude up to {MAX_COORDINATE}",
    )
