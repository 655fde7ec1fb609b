"""Checks of a registration's input: shapes, values and ranges."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidInput
from .problem import (
    INITS,
    MATCHINGS,
    MAX_COORDINATE,
    MAX_ITERATIONS,
    MAX_OUTLIER_WEIGHT,
    MAX_PRIOR_PAIRS,
    MAX_SIGMA,
    MIN_SIGMA,
    NORMALIZES,
    POSE_TOLERANCE,
    PRIORS,
    TRANSFORMS,
    Pose,
    Prior,
    Problem,
    Transform,
)

# Deviation from 1 that the sum of a row may have, after its probabilities were rounded to seven digits for transport.
ROW_SUM_TOLERANCE = 1e-6


def check(problem: Problem) -> Problem:
    """The same problem in contiguous float64, ready for `plan`.

    Raises InvalidInput, with a pointer and the allowed values, for empty sets, shapes that do not fit, values that are
    not finite or too large, and options out of range.
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
            f"transform {problem.transform} needs points of 2 or 3 coordinates; these have {dimension}",
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
        raise InvalidInput("a nonrigid transform cannot be refined", pointer="/refine", allowed=[False])
    if not 1 <= problem.max_iterations <= MAX_ITERATIONS:
        raise InvalidInput(
            f"max_iterations is {problem.max_iterations}; an answer takes at least one E-step",
            pointer="/max_iterations",
            allowed=f"an integer from 1 to {MAX_ITERATIONS}",
        )
    if not 0 <= problem.tolerance < math.inf:
        raise InvalidInput(
            f"tolerance is {problem.tolerance}; it is a change in units of sigma, and 0 disables early stopping",
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
                f"a prior of {n} x {m} numbers is too large; prior mixing estimates {m} weights instead",
                pointer="/prior",
                allowed=f"at most {MAX_PRIOR_PAIRS} pairs",
            )
        prior = check_distribution(prior.detach().to(torch.float64), (n, m), "/prior")
    elif prior is not None and prior not in PRIORS:
        raise InvalidInput(f"prior {prior!r} is not known", pointer="/prior", allowed=(*PRIORS, "an N x M matrix"))
    plain = problem.resolved_normalize == "rows" and problem.transform != "nonrigid"
    if (isinstance(prior, Tensor) or prior == "free") and not plain:
        raise InvalidInput(
            "a prior for each pair needs normalize rows and a transform other than nonrigid",
            pointer="/prior",
            allowed=["uniform", "mixing"],
        )
    if prior == "free" and problem.outlier_weight not in {None, 0.0}:
        raise InvalidInput(
            "prior free, Π ← R, has no outlier weight",
            pointer="/outlier_weight",
            allowed="0, or prior uniform or mixing",
        )
    if prior == "mixing" and (problem.resolved_normalize == "sinkhorn" or problem.transform == "nonrigid"):
        raise InvalidInput(
            "prior mixing needs normalize rows or columns, and a transform other than nonrigid",
            pointer="/prior",
            allowed=["uniform"],
        )
    return prior


def _check_pose(pose: Pose, dimension: int, transform: Transform) -> Pose:
    translation = check_translation(pose.translation, dimension, "/init/translation")
    linear = pose.linear.detach().to(torch.float64).contiguous()
    if tuple(linear.shape) != (dimension, dimension):
        raise InvalidInput(
            f"the linear part has shape {tuple(linear.shape)}; the points have {dimension} coordinates",
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
            f"init is not a valid {transform} transform",
            pointer="/init",
            allowed="a proper rotation, times a scale for similarity; rotations are orthogonal with determinant +1",
        )
    return Pose(linear, translation)


def check_pair(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Source (N, D) and target (M, D) as `check_points` returns them. Raises InvalidInput if their D differ."""
    source, target = check_points(source, "/source"), check_points(target, "/target")
    dimension = source.shape[1]
    if target.shape[1] != dimension:
        raise InvalidInput(
            f"source points have {dimension} coordinates and target points {target.shape[1]}; they must agree",
            pointer="/target",
            allowed=f"points of {dimension} coordinates",
        )
    return source, target


def check_points(points: Tensor, pointer: str) -> Tensor:
    """`points` as contiguous float64 (N, D). Raises InvalidInput if empty, complex, not a matrix, or out of range."""
    if points.ndim != 2 or 0 in points.shape:
        raise InvalidInput(
            f"the point set has shape {tuple(points.shape)}; it must be a matrix with at least one point",
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
            f"the translation has shape {tuple(translation.shape)}; the points have {dimension} coordinates",
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
            f"sigma is {sigma}; it is the standard deviation of the noise in the unit of the coordinates",
            pointer=pointer,
            allowed=f"a number from {MIN_SIGMA} to {MAX_SIGMA}",
        )
    return float(sigma)


def check_distribution(rows: Tensor, shape: tuple[int, int], pointer: str) -> Tensor:
    """`rows` itself. Raises InvalidInput unless it is (N, M), without negative values, and each row sums to one."""
    if tuple(rows.shape) != shape:
        raise InvalidInput(
            f"the matrix is {rows.shape[0]} x {rows.shape[1]}; the problem has {shape[0]} x {shape[1]} pairs",
            pointer=pointer,
            allowed=f"{shape[0]} x {shape[1]} numbers",
        )
    if bool((rows < 0).any()):
        i, j = torch.nonzero(rows < 0)[0].tolist()
        raise InvalidInput(f"{rows[i, j].item()} is not a probability", pointer=f"{pointer}/{i}/{j}", allowed=">= 0")
    off = (rows.sum(-1) - 1).abs() > ROW_SUM_TOLERANCE
    if bool(off.any()):
        i = int(torch.nonzero(off)[0])
        raise InvalidInput(
            f"row {i} sums to {rows[i].sum().item():.9g}", pointer=f"{pointer}/{i}", allowed="rows that sum to one"
        )
    return rows


def check_assignment(rows: Tensor, shape: tuple[int, int], pointer: str) -> Tensor:
    """`rows` itself. Raises InvalidInput unless it is (N, M) with one 1 in each row and 0 elsewhere."""
    check_distribution(rows, shape, pointer)
    if bool(((rows != 0) & (rows != 1)).any()):
        i, j = torch.nonzero((rows != 0) & (rows != 1))[0].tolist()
        raise InvalidInput(
            f"{rows[i, j].item()} is not an assignment; it must be 0 or 1", pointer=f"{pointer}/{i}/{j}", allowed=[0, 1]
        )
    return rows


def _check_range(values: Tensor, pointer: str) -> None:
    # NaN compares false with all numbers, so that this test finds it. The search for its index runs only on failure.
    if np.abs(values.numpy()).max() <= MAX_COORDINATE:
        return
    culprit = torch.nonzero(~(values.abs() <= MAX_COORDINATE))[0].tolist()
    value = values[tuple(culprit)].item()
    raise InvalidInput(
        f"the value at {culprit} is {value}; its square would overflow",
        pointer=pointer,
        allowed=f"finite numbers of magnitude up to {MAX_COORDINATE}",
    )
