"""Between the wire and the mathematics: a request's body to a Problem, an Outcome to the body of an answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..formats.arrays import Float64
from . import checks
from .batched.covariance import MAX_DIMENSION
from .checks import check_pair, check_sigma, check_translation
from .outcome import Outcome
from .problem import Init, Pose, Problem, Transform
from .representations import Iterations
from .schemas.options import GivenTransform
from .schemas.registration import RegisterRequest
from .schemas.steps import Pair, Parameters
from .steps import Parameters as Psi


def problem(body: RegisterRequest, *, path: bool = False) -> Problem:
    prior = torch.from_numpy(body.prior) if isinstance(body.prior, np.ndarray) else body.prior
    return Problem(
        torch.from_numpy(body.source),
        torch.from_numpy(body.target),
        sigma=body.sigma,
        transform=body.transform,
        prior=prior,
        outlier_weight=body.outlier_weight,
        normalize=body.normalize,
        init=_init(body),
        max_iterations=body.max_iterations,
        tolerance=body.tolerance,
        matching=body.matching,
        refine=body.refine,
        beta=body.beta,
        stiffness=body.stiffness,
        responsibilities="responsibilities" in body.include,
        registered="registered" in body.include,
        trace="trace" in body.include,
        path=path,
    )


def _init(body: RegisterRequest) -> Init | Tensor | Pose:
    init = body.init
    if isinstance(init, str):
        return init
    if not isinstance(init, GivenTransform):
        return torch.from_numpy(init)
    dimension = body.source.shape[1]
    if init.matrix is not None:
        linear, translation = init.matrix[:-1, :-1], init.matrix[:-1, -1]
    else:
        turn = np.eye(dimension) if init.rotation is None else init.rotation
        linear = init.scale * turn
        translation = np.zeros(dimension) if init.translation is None else init.translation
    if init.matrix is None and init.rotation is None and init.scale == 1:
        return torch.from_numpy(translation)
    return Pose(torch.from_numpy(np.ascontiguousarray(linear)), torch.from_numpy(np.ascontiguousarray(translation)))


def registration(outcome: Outcome, transform: Transform) -> dict[str, Any]:
    translation = outcome.translation.numpy()
    dimension = len(translation)
    matrices = dimension <= MAX_DIMENSION
    linear = (np.eye(dimension) if outcome.linear is None else outcome.linear.numpy()) if matrices else None
    rotation, scale = linear, None if transform == "affine" else 1.0
    if linear is not None and transform == "affine":
        rotation = None
    elif linear is not None and transform != "translation":
        # ‖sR‖² = s² D; a determinant would underflow sooner.
        scale = float(np.linalg.norm(linear)) / math.sqrt(dimension) if transform == "similarity" else 1.0
        rotation = linear / scale
    found: dict[str, Any] = {
        "translation": translation,
        "rotation": rotation,
        "scale": scale,
        "matrix": None if linear is None else _matrix(linear, translation),
        "matching": [None if j < 0 else j for j in outcome.matching.tolist()],
        "matching_probability": outcome.matching_probability.numpy(),
        "outlier_weight": outcome.outlier_weight,
        "outlier_probability": _numbers(outcome.outlier_probability),
        "sigma": outcome.sigma,
        "log_likelihood": outcome.log_likelihood,
        "translation_covariance": _numbers(outcome.translation_covariance),
        "rotation_covariance": _numbers(outcome.rotation_covariance),
        "iterations": outcome.iterations,
        "converged": outcome.converged,
        "stop_reason": outcome.stop_reason,
        "start": outcome.start,
        "runner_up": None
        if outcome.runner_up is None
        else {
            "matrix": _matrix(outcome.runner_up.pose.linear.numpy(), outcome.runner_up.pose.translation.numpy()),
            "log_likelihood_gap": outcome.runner_up.gap,
        },
        "warnings": outcome.warnings,
    }
    for name in ("responsibilities", "registered", "displacement"):
        values = getattr(outcome, name)
        if values is not None:
            found[name] = values.numpy()
    if outcome.trace is not None:
        found["trace"] = {name: _numbers(values) for name, values in outcome.trace._asdict().items()}
    return found


def iterations(body: RegisterRequest, outcome: Outcome) -> Iterations:
    """The source on its way, for a picture that moves."""
    poses = outcome.path
    if not poses and outcome.trace is not None:
        return Iterations(body.source, outcome.trace.translation.numpy())
    dimension = body.source.shape[1]
    if not poses:
        return Iterations(body.source, np.empty((0, dimension)))
    translations = np.stack([pose.translation.numpy() for pose in poses])
    linear = np.stack([pose.linear.numpy() for pose in poses])
    return Iterations(body.source, translations, linear, _numbers(outcome.displacement))


def points(body: Pair) -> tuple[Tensor, Tensor]:
    return check_pair(torch.from_numpy(body.source), torch.from_numpy(body.target))


def parameters(body: Parameters, source: Tensor, target: Tensor, at: str) -> Psi:
    (n, dimension), m = source.shape, len(target)
    translation = torch.zeros(dimension, dtype=torch.float64)
    if body.translation is not None:
        translation = check_translation(torch.from_numpy(body.translation), dimension, f"{at}/translation")
    prior = torch.full((1, 1), 1 / m, dtype=torch.float64)
    if body.prior is not None:
        prior = checks.check_distribution(torch.from_numpy(body.prior), (n, m), f"{at}/prior")
    sigma = torch.tensor(check_sigma(body.sigma, f"{at}/sigma"), dtype=torch.float64)
    return Psi(translation, prior, sigma)


def _numbers(values: Tensor | None) -> Float64 | None:
    return None if values is None else values.numpy()


def _matrix(linear: Float64, translation: Float64) -> Float64:
    matrix = np.eye(len(translation) + 1)
    matrix[:-1, :-1] = linear
    matrix[:-1, -1] = translation
    return matrix
