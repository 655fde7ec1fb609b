"""Checks of a registration's input: shapes, values and ranges."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from .choices import INITS, MATCHINGS, NORMALIZES, PRIORS, TRANSFORMS, Init, Prior, Transform
from .kinds import KINDS
from .pairs import check_pairs, pair_errors
from .problem import (
    MAX_BETA,
    MAX_ITERATIONS,
    MAX_OUTLIER_WEIGHT,
    MAX_PRIOR_PAIRS,
    MAX_SIGMA,
    MAX_STIFFNESS,
    MIN_BETA,
    MIN_SIGMA,
    MIN_STIFFNESS,
    Pose,
    Problem,
    is_given_linear,
)
from .sampling import options as sampling_options
from .surfaces.normals import normal_errors
from .values import check_range, float64
from .weights import check_weights, weight_errors

Float64 = NDArray[np.float64]

# Deviation from 1 that the sum of a row may have, after its probabilities were rounded to seven digits for transport.
ROW_SUM_TOLERANCE = 1e-6


def check(problem: Problem) -> Problem:
    """The same problem with contiguous, writable float64 arrays, ready for `plan`.

    Arrays of another type or layout are copied; all others are used as they are.

    Raises InvalidInput, with a pointer and the allowed values, for empty sets, shapes that do not fit, values that are
    not finite or too large, and options out of range. Several mistakes are one error; see `InvalidInput.others`.
    """
    try:
        source, target = check_pair(problem.source, problem.target)
    except InvalidInput as error:
        raise InvalidInput.together([error, *option_errors(problem)]) from None
    errors = [*option_errors(problem)]
    if errors:
        raise InvalidInput.together(errors)
    dimension = source.shape[1]
    allowed = problem.kind.dimensions
    if allowed is not None and dimension not in allowed:
        errors.append(
            InvalidInput(
                f"transform {problem.transform} needs points of {' or '.join(map(str, allowed))} coordinates; "
                f"these have {dimension}",
                pointer="/transform",
                allowed=[name for name, kind in KINDS.items() if kind.allows(dimension)],
            )
        )
    try:
        problem = check_pairs(check_weights(problem, len(source), len(target)), len(source), len(target))
        errors += [*weight_errors(problem), *pair_errors(problem)]
    except InvalidInput as error:
        errors.append(error)
    errors.extend(sampling_options.dimension_errors(problem, dimension))
    errors.extend(normal_errors(problem, source, target))
    prior, init = problem.prior, problem.init
    try:
        prior = _check_prior(problem, len(source), len(target))
    except InvalidInput as error:
        errors.append(error)
    try:
        init = _check_init(problem, dimension)
    except InvalidInput as error:
        errors.append(error)
    if errors:
        raise InvalidInput.together(errors)
    if source is problem.source and target is problem.target and prior is problem.prior and init is problem.init:
        return problem  # `_replace` takes as long as the checks
    return problem._replace(source=source, target=target, init=init, prior=prior)


def option_errors(problem: Problem) -> Iterator[InvalidInput]:
    """One error for each option whose value is not allowed, whatever the points are."""
    if problem.sigma is not None and not MIN_SIGMA <= problem.sigma <= MAX_SIGMA:
        yield _sigma_error(problem.sigma, "/sigma")
    if problem.transform not in TRANSFORMS:
        yield _unknown("transform", problem.transform, TRANSFORMS)
    if problem.normalize is not None and problem.normalize not in NORMALIZES:
        yield _unknown("normalize", problem.normalize, NORMALIZES)
    if problem.matching not in MATCHINGS:
        yield _unknown("matching", problem.matching, MATCHINGS)
    if not _is_outlier_weight(problem.outlier_weight):
        yield InvalidInput(
            f"outlier_weight is {problem.outlier_weight}; it is the share of points without a partner",
            pointer="/outlier_weight",
            allowed=f'a number from 0 to {MAX_OUTLIER_WEIGHT}, or "auto"',
        )
    kind = KINDS.get(problem.transform)
    deforms = kind is not None and kind.deforms
    for name, number, least, most in (
        ("beta", problem.beta, MIN_BETA, MAX_BETA),
        ("stiffness", problem.stiffness, MIN_STIFFNESS, MAX_STIFFNESS),
    ):
        if number is not None and (not deforms or not least <= number <= most):
            yield InvalidInput(
                f"{name} is {number}; it needs transform nonrigid, and a value within its bounds",
                pointer=f"/{name}",
                allowed=f"a number from {least:g} to {most:g}, with transform nonrigid",
            )
    yield from sampling_options.option_errors(problem)
    if problem.refine and deforms:
        yield InvalidInput("a nonrigid transform cannot be refined", pointer="/refine", allowed=[False])
    if not 1 <= problem.max_iterations <= MAX_ITERATIONS:
        reason = "an answer takes at least one E-step"
        if problem.max_iterations > MAX_ITERATIONS:
            reason = f"at most {MAX_ITERATIONS} are allowed"
        yield InvalidInput(
            f"max_iterations is {problem.max_iterations}; {reason}",
            pointer="/max_iterations",
            allowed=f"an integer from 1 to {MAX_ITERATIONS}",
        )
    if not 0 <= problem.tolerance < math.inf:
        yield InvalidInput(
            f"tolerance is {problem.tolerance}; it is a change in units of sigma, and 0 disables early stopping",
            pointer="/tolerance",
            allowed="a finite number >= 0",
        )


def _unknown(name: str, value: str, allowed: Sequence[str]) -> InvalidInput:
    return InvalidInput(f"{name} {value!r} is not known", pointer=f"/{name}", allowed=allowed)


def _is_outlier_weight(weight: object) -> bool:
    if weight is None or isinstance(weight, str):
        return weight in {None, "auto"}
    return isinstance(weight, (int, float)) and 0 <= weight <= MAX_OUTLIER_WEIGHT


def _check_prior(problem: Problem, n: int, m: int) -> Prior | Float64 | None:
    prior = problem.prior
    if prior is None:
        return None
    if isinstance(prior, np.ndarray):
        if n * m > MAX_PRIOR_PAIRS:
            raise InvalidInput(
                f"a prior of {n} x {m} numbers is too large; prior mixing estimates {m} weights instead",
                pointer="/prior",
                allowed=f"at most {MAX_PRIOR_PAIRS} pairs",
            )
        prior = check_distribution(prior, (n, m), "/prior")
    elif prior not in PRIORS:
        raise InvalidInput(f"prior {prior!r} is not known", pointer="/prior", allowed=(*PRIORS, "an N x M matrix"))
    name = problem.prior_name
    plain = problem.resolved_normalize == "rows" and not problem.kind.deforms
    if name in {"given", "free"} and not plain:
        raise InvalidInput(
            "a prior for each pair needs normalize rows and a transform other than nonrigid",
            pointer="/prior",
            allowed=["uniform", "mixing"],
        )
    if name == "free" and problem.outlier_weight not in {None, 0.0}:
        raise InvalidInput(
            "prior free, Π ← R, has no outlier weight",
            pointer="/outlier_weight",
            allowed="0, or prior uniform or mixing",
        )
    if name == "mixing" and (problem.resolved_normalize == "sinkhorn" or problem.kind.deforms):
        raise InvalidInput(
            "prior mixing needs normalize rows or columns, and a transform other than nonrigid",
            pointer="/prior",
            allowed=["uniform"],
        )
    return prior


def _check_init(problem: Problem, dimension: int) -> Init | Float64 | Pose:
    init = problem.init
    if isinstance(init, Pose):
        return _check_pose(init, dimension, problem.transform)
    if isinstance(init, np.ndarray):
        return check_translation(init, dimension, "/init")
    if init not in INITS:
        raise InvalidInput(
            f"init {init!r} is not known", pointer="/init", allowed=(*INITS, "a translation", "a transform")
        )
    return init


def _check_pose(pose: Pose, dimension: int, transform: Transform) -> Pose:
    translation = check_translation(pose.translation, dimension, "/init/translation")
    linear = np.asarray(pose.linear)
    if linear.shape != (dimension, dimension):
        raise InvalidInput(
            f"the linear part has shape {linear.shape}; the points have {dimension} coordinates",
            pointer="/init",
            allowed=f"{dimension} x {dimension} numbers",
        )
    linear = float64(linear, "/init")
    check_range(linear, "/init")
    if not is_given_linear(linear, KINDS[transform]):
        raise InvalidInput(
            f"init is not a valid {transform} transform",
            pointer="/init",
            allowed="the identity rotation, and scale 1"
            if KINDS[transform].given_linear == "identity"
            else "a proper rotation, times a scale for similarity; rotations are orthogonal with determinant +1",
        )
    return Pose(linear, translation)


def check_pair(source: NDArray[Any], target: NDArray[Any]) -> tuple[Float64, Float64]:
    """Source (N, D) and target (M, D) as `check_points` returns them. Raises InvalidInput if their D differ."""
    errors: list[InvalidInput] = []
    pair: list[Float64] = []
    for points, pointer in ((source, "/source"), (target, "/target")):
        try:
            pair.append(check_points(points, pointer))
        except InvalidInput as error:
            errors.append(error)
    if errors:
        raise InvalidInput.together(errors)
    source, target = pair
    dimension = source.shape[1]
    if target.shape[1] != dimension:
        raise InvalidInput(
            f"source points have {dimension} coordinates and target points {target.shape[1]}; they must agree",
            pointer="/target",
            allowed=f"points of {dimension} coordinates",
        )
    return source, target


def check_points(points: NDArray[Any], pointer: str) -> Float64:
    """`points` as contiguous float64 (N, D).

    Raises InvalidInput if they are empty, not a matrix, not real numbers, or out of range.
    """
    points = np.asarray(points)
    if points.ndim != 2 or not points.size:
        raise InvalidInput(
            f"the point set has shape {points.shape}; it must be a matrix with at least one point",
            pointer=pointer,
            allowed="N x D numbers with N >= 1 and D >= 1",
        )
    points = float64(points, pointer)
    check_range(points, pointer)
    return points


def check_translation(translation: NDArray[Any], dimension: int, pointer: str) -> Float64:
    """`translation` as contiguous float64 (D,).

    Raises InvalidInput if it has another shape, is not real numbers, or is out of range.
    """
    translation = np.asarray(translation)
    if translation.shape != (dimension,):
        raise InvalidInput(
            f"the translation has shape {translation.shape}; the points have {dimension} coordinates",
            pointer=pointer,
            allowed=f"{dimension} numbers",
        )
    translation = float64(translation, pointer)
    check_range(translation, pointer)
    return translation


def check_sigma(sigma: float, pointer: str = "/sigma") -> float:
    """`sigma` itself. Raises InvalidInput unless MIN_SIGMA <= sigma <= MAX_SIGMA."""
    if not MIN_SIGMA <= sigma <= MAX_SIGMA:
        raise _sigma_error(sigma, pointer)
    return float(sigma)


def _sigma_error(sigma: float, pointer: str) -> InvalidInput:
    return InvalidInput(
        f"sigma is {sigma}; it is the standard deviation of the noise in the unit of the coordinates",
        pointer=pointer,
        allowed=f"a number from {MIN_SIGMA} to {MAX_SIGMA}",
    )


def check_distribution(rows: NDArray[Any], shape: tuple[int, int], pointer: str) -> Float64:
    """`rows` as contiguous float64 (N, M).

    Raises InvalidInput unless the shape is (N, M), no value is negative or NaN, and each row sums to one.
    """
    rows = np.asarray(rows)
    if rows.shape != shape:
        raise InvalidInput(
            f"the matrix has shape {rows.shape}; the problem has {shape[0]} x {shape[1]} pairs",
            pointer=pointer,
            allowed=f"{shape[0]} x {shape[1]} numbers",
        )
    rows = float64(rows, pointer)
    if not rows.min() >= 0:  # NaN compares false with all numbers
        i, j = np.argwhere(~(rows >= 0))[0].tolist()
        raise InvalidInput(f"{rows[i, j].item()} is not a probability", pointer=f"{pointer}/{i}/{j}", allowed=">= 0")
    sums = rows.sum(-1)
    off = ~(np.abs(sums - 1) <= ROW_SUM_TOLERANCE)
    if off.any():
        i = int(off.argmax())
        raise InvalidInput(f"row {i} sums to {sums[i]:.9g}", pointer=f"{pointer}/{i}", allowed="rows that sum to one")
    return rows


def check_assignment(rows: NDArray[Any], shape: tuple[int, int], pointer: str) -> Float64:
    """`rows` as contiguous float64 (N, M). Raises InvalidInput unless each row has one 1 and is 0 elsewhere."""
    rows = check_distribution(rows, shape, pointer)
    wrong = (rows != 0) & (rows != 1)
    if wrong.any():
        i, j = np.argwhere(wrong)[0].tolist()
        raise InvalidInput(
            f"{rows[i, j].item()} is not an assignment; it must be 0 or 1", pointer=f"{pointer}/{i}/{j}", allowed=[0, 1]
        )
    return rows
