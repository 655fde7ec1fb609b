"""From a request's body to a Problem, and from an Outcome to the body of an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from ..formats.arrays import Float64
from ..web.problems import as_validation
from .checks import check_distribution, check_pair, check_sigma, check_translation, option_errors
from .choices import Init, Transform
from .iterations import Iterations
from .kernel.truncated import UNMATCHED
from .kinds import KINDS, TransformKind
from .outcome import Outcome, Quality
from .problem import POSE_TOLERANCE, Pose, Problem
from .schemas.answers import MAX_MATRIX_DIMENSION
from .schemas.options import MAX_WIRE_POINTS, GivenTransform
from .schemas.registration import RegisterRequest
from .schemas.steps import GivenParameters, Pair
from .steps import Psi
from .weights import weight_errors

# Points whose matches become Python's numbers in one call.
_PART = 1 << 16


def problem(body: RegisterRequest, *, path: bool = False) -> Problem:
    """The problem of a request, with its source (N, D) and target (M, D). It is not checked: see `checks.check`.

    With `path` the outcome has the poses of all iterations, for a picture. Raises InvalidInput for a start whose matrix
    or rotation does not fit the source, and for more than MAX_WIRE_POINTS points.
    """
    points = len(body.source) + len(body.target)
    if points > MAX_WIRE_POINTS:
        raise InvalidInput(
            f"the two clouds have {points:,} points, which are too many for one request",
            pointer="/source" if len(body.source) > len(body.target) else "/target",
            allowed=f"at most {MAX_WIRE_POINTS:,} points in both clouds",
        )
    return Problem(
        body.source,
        body.target,
        sigma=body.sigma,
        transform=body.transform,
        prior=body.prior,
        outlier_weight=body.outlier_weight,
        normalize=body.normalize,
        init=_init(body),
        max_iterations=body.max_iterations,
        tolerance=body.tolerance,
        matching=body.matching,
        refine=body.refine,
        beta=body.beta,
        stiffness=body.stiffness,
        sampling=body.sampling,
        noise=body.noise,
        source_weights=body.source_weights,
        target_weights=body.target_weights,
        pairs=body.pairs,
        responsibilities="responsibilities" in body.include,
        registered="registered" in body.include,
        trace="trace" in body.include,
        path=path,
        source_normals=body.normals.get("source"),
        target_normals=body.normals.get("target"),
    )


def use_columns(body: RegisterRequest, columns: Mapping[str, str]) -> list[str]:
    """Warnings about the weights that come from columns of files, by the names of the fields that have them.

    Weights that another option excludes are removed from the request: the caller may not know that the file has them.
    """
    warnings: list[str] = []
    excluded = {error.pointer.removeprefix("/"): error.detail for error in weight_errors(problem(body))}
    for name, column in columns.items():
        read = f"{name.removesuffix('_weights')}: the column {column!r} has weights"
        if name in excluded:
            setattr(body, name, None)
            warnings.append(f"{read} that are not used: {excluded[name]}")
        else:
            warnings.append(f"{read}, which are used; {name}=null ignores them")
    return warnings


# Options whose values `checks.option_errors` checks.
OPTIONS = (
    "sigma", "transform", "outlier_weight", "normalize", "matching", "max_iterations", "tolerance", "refine", "beta",
    "stiffness", "sampling", "noise",
)  # fmt: skip


def errors_beside(fields: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Errors, in pydantic's form, of options out of range in a request that does not fit its schema.

    `errors` are those of the schema; the fields that they name are not checked.
    """
    named = {error["loc"][0] for error in errors if error["loc"]}
    options = {name: fields[name] for name in OPTIONS if name in fields and name not in named}
    if "transform" in named:
        options["transform"] = "nonrigid"  # the one transform that beta and stiffness go with
        options.pop("refine", None)
    point = np.zeros((1, 1))
    return [as_validation(error) for error in option_errors(Problem(point, point, **options))]


def _init(body: RegisterRequest) -> Init | Float64 | Pose:
    """The start of a request: a name, a translation (D,), or a pose (A (D, D), T (D,)).

    A transform without a rotation and a scale is a translation, so that the batched engine can take it. The shapes are
    not checked here, but by `checks.check`.
    """
    init = body.init
    if isinstance(init, str):
        return init
    if not isinstance(init, GivenTransform):
        return init
    dimension = body.source.shape[1]
    for name, side in (("matrix", dimension + 1), ("rotation", dimension)):
        given = getattr(init, name)
        if given is not None and given.shape != (side, side):
            raise InvalidInput(
                f"init.{name} is {given.shape[0]} x {given.shape[1]}; {side} x {side} is needed for points of "
                f"{dimension} coordinates",
                pointer=f"/init/{name}",
                allowed=f"{side} x {side} numbers",
            )
    if init.matrix is not None:
        linear, translation = init.matrix[:-1, :-1], init.matrix[:-1, -1]
    else:
        turn = np.eye(dimension) if init.rotation is None else init.rotation
        linear = init.scale * turn
        translation = np.zeros(dimension) if init.translation is None else init.translation
    if init.matrix is None and init.rotation is None and init.scale == 1:
        return translation
    return Pose(linear, translation)


def rotation_and_scale(linear: Float64 | None, kind: TransformKind) -> tuple[Float64 | None, float | None]:
    """R (D, D) and s with A = sR; both None if A (D, D) is no such product, as a given start of a deformation may be.

    A source whose size is not within a factor of 2 of the target's is scaled before it is deformed.
    """
    if linear is None or not (kind.scales or kind.deforms):
        return linear, 1.0
    # ‖sR‖² = s² D, in a unit in which the square neither overflows nor underflows.
    unit = 2.0 ** math.frexp(float(np.abs(linear).max()))[1]
    scale = float(np.linalg.norm(linear / unit)) / math.sqrt(len(linear)) * unit
    if kind.deforms and math.isclose(scale, 1.0, rel_tol=1e-12):
        scale = 1.0
    rotation = linear / scale
    if kind.deforms and np.abs(rotation.T @ rotation - np.eye(len(linear))).max() > POSE_TOLERANCE:
        return None, None
    return rotation, scale


def registration(outcome: Outcome, transform: Transform) -> dict[str, Any]:
    """The fields of `schemas.answers.Registration`, with ndarrays for lists of numbers.

    `matrix` is (D + 1, D + 1), homogeneous, and `rotation` (D, D). Both are None for D > MAX_DIMENSION. `rotation` and
    `scale` are None for an affine transform. For all other shapes see `Outcome`. `transform` is that of the request.
    """
    translation = outcome.translation
    dimension = len(translation)
    matrices = dimension <= MAX_MATRIX_DIMENSION
    linear = (_identity(dimension) if outcome.linear is None else outcome.linear) if matrices else None
    kind = KINDS[transform]
    rotation, scale = (None, None) if kind.shears else rotation_and_scale(linear, kind)
    found: dict[str, Any] = {
        "translation": translation,
        "rotation": rotation,
        "scale": scale,
        "matrix": None if linear is None else homogeneous(linear, translation),
        "matching": _matching(outcome.matching),
        "matching_probability": outcome.matching_probability,
        "outlier_weight": outcome.outlier_weight,
        "outlier_probability": outcome.outlier_probability,
        "sigma": outcome.sigma,
        "noise": outcome.noise,
        "sampling": outcome.sampling,
        "log_likelihood": outcome.log_likelihood,
        "translation_covariance": outcome.translation_covariance,
        "rotation_covariance": outcome.rotation_covariance,
        "iterations": outcome.iterations,
        "converged": outcome.converged,
        "stop_reason": outcome.stop_reason,
        "start": outcome.start,
        "runner_up": None
        if outcome.runner_up is None
        else {
            "matrix": homogeneous(*outcome.runner_up.pose),
            "log_likelihood_gap": outcome.runner_up.gap,
        },
        "warnings": outcome.warnings,
        "quality": None if outcome.quality is None else _quality(outcome.quality),
    }
    if outcome.responsibilities is not None:
        found["responsibilities"] = outcome.responsibilities
    if outcome.registered is not None:
        found["registered"] = outcome.registered
    if outcome.displacement is not None:
        found["displacement"] = outcome.displacement
    if outcome.trace is not None:
        found["trace"] = outcome.trace._asdict()
    return found


def _quality(quality: Quality) -> dict[str, Any]:
    return {
        **quality._asdict(),
        "overlap": quality.overlap._asdict(),
        "degenerate": [freedom._asdict() for freedom in quality.degenerate],
    }


def _matching(matching: NDArray[np.int64]) -> NDArray[np.int64] | list[int | None]:
    """The matching (N,) as it is, or as a list with None for the points without a partner."""
    if matching[matching.argmin()] != UNMATCHED:  # `min` takes four times as long
        return matching
    # Part by part: one list of all numbers would hold the interpreter's lock.
    parts = (matching[start : start + _PART].tolist() for start in range(0, len(matching), _PART))
    return [None if j == UNMATCHED else j for part in parts for j in part]


def iterations(body: RegisterRequest, outcome: Outcome) -> Iterations:
    """The source (N, D) and the k transforms of the iterations, (k, D, D) and (k, D), for an animation.

    The transforms come from the outcome's path, or else from its trace. Without either, k is 0.
    """
    poses = outcome.path
    if not poses and outcome.trace is not None:
        return Iterations(body.source, outcome.trace.translation)
    dimension = body.source.shape[1]
    if not poses:
        return Iterations(body.source, np.empty((0, dimension)))
    translations = np.stack([pose.translation for pose in poses])
    linear = np.stack([pose.linear for pose in poses])
    return Iterations(body.source, translations, linear, outcome.displacement)


def points(body: Pair) -> tuple[Float64, Float64]:
    """Source (N, D) and target (M, D). Raises InvalidInput where `check_pair` does."""
    return check_pair(body.source, body.target)


def parameters(body: GivenParameters, source: Float64, target: Float64, at: str) -> Psi:
    """ψ of one problem, for source (N, D) and target (M, D): T (D,), Π (N, M) or (1, 1), and σ ().

    `at` is the pointer of `body`. Raises InvalidInput for parameters that do not fit or are out of range.
    """
    (n, dimension), m = source.shape, len(target)
    translation = np.zeros(dimension)
    if body.translation is not None:
        translation = check_translation(body.translation, dimension, f"{at}/translation")
    prior = np.full((1, 1), 1 / m)
    if body.prior is not None:
        prior = check_distribution(body.prior, (n, m), f"{at}/prior")
    return Psi(translation, prior, np.array(check_sigma(body.sigma, f"{at}/sigma")))


@lru_cache(maxsize=16)
def _identity(dimension: int) -> Float64:
    """The identity (D, D), read-only."""
    matrix = np.eye(dimension)
    matrix.flags.writeable = False
    return matrix


def homogeneous(linear: Float64, translation: Float64) -> Float64:
    """A (D, D) and T (D,) as one homogeneous matrix (D + 1, D + 1)."""
    side = len(translation) + 1
    matrix = np.zeros((side, side))
    matrix[:-1, :-1] = linear
    matrix[:-1, -1] = translation
    matrix[-1, -1] = 1.0
    return matrix
