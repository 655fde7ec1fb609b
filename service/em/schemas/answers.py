"""Answers of registrations: one result, or one for each problem of a batch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from ..model import MAX_PARAMETERS

# The largest D for which an answer has matrices: beyond it, their D² numbers would outweigh the rest of the answer.
MAX_MATRIX_DIMENSION = 256


class TraceAnswer(BaseModel):
    """The log-likelihood and the parameters after the M-step of each iteration. Rejected proposals are omitted."""

    log_likelihood: list[float | None]
    sigma: list[float]
    translation: list[list[float]]
    linear: list[list[list[float]]] | None = Field(None, description="A = s·R, D x D each; null for a translation")


class RunnerUpAnswer(BaseModel):
    """The best pose that differs from the answer."""

    matrix: list[list[float]]
    log_likelihood_gap: float = Field(description="nats by which its log-likelihood is lower than the answer's")


class OverlapAnswer(BaseModel):
    """The share of each cloud that has a partner in the other."""

    source: float
    target: float


class FreedomAnswer(BaseModel):
    """A motion of the source that changes the fit little: along an axis, or about it."""

    kind: Literal["translation", "rotation"]
    axis: list[float] = Field(description="D numbers, a unit vector in the target's coordinates")


class QualityAnswer(BaseModel):
    """How far the answer can be trusted."""

    verdict: Literal["good", "doubtful", "failed"]
    reasons: list[str] = Field(description="why the verdict is not better; empty for good")
    overlap: OverlapAnswer
    rmse: float | None = Field(
        description="root mean square distance of matched points that noise explains, without the spacing of the "
        "points; null if no points match"
    )
    evidence: float = Field(
        description="nats for each source point by which the clouds agree in more than their outlines: about 0 for "
        "unrelated clouds"
    )
    centroid_standard_error: float | None = Field(
        description="root of the trace of the covariance of the source's centroid, moved; null without a covariance"
    )
    degenerate: list[FreedomAnswer] = Field(description="motions of the source that the clouds hardly determine")


class Registration(BaseModel):
    """The transform and the matching, in the caller's coordinates."""

    model_config = ConfigDict(extra="forbid")

    translation: list[float] = Field(description="T, D numbers")
    rotation: list[list[float]] | None = Field(
        description=f"R, D x D, determinant +1; null for an affine transform, and for D > {MAX_MATRIX_DIMENSION}"
    )
    scale: float | None = Field(description="s; null for an affine transform")
    matrix: list[list[float]] | None = Field(
        description=f"(D+1) x (D+1), acts on columns: y = s·R·p + T; null for D > {MAX_MATRIX_DIMENSION}"
    )
    matching: list[int | None] = Field(
        description="for each source point the index of its target point, from 0; null if it has no partner"
    )
    matching_probability: list[float | None] = Field(description="r_ij of each matched pair; 0 for an unmatched point")
    outlier_weight: float = Field(description="share of points without a partner, given or estimated")
    outlier_probability: list[float | None] | None = Field(
        description="for each source point the probability that it has no partner; null if outlier_weight is 0"
    )
    sigma: float = Field(description="standard deviation of the noise in each coordinate, given or estimated")
    noise: Literal["isotropic", "surface"] = Field(
        description="isotropic: sigma is the noise in all directions; surface: it is the noise across the surfaces"
    )
    sampling: float | None = Field(
        description="edge length of the voxels whose means the transform is estimated from; null for all points"
    )
    log_likelihood: float | None = Field(description="observed-data, at the returned parameters, in nats")
    translation_covariance: list[list[float]] | None = Field(
        description="of T, the inverse of the observed information; null if that is not positive definite, and for a "
        f"transform of more than {MAX_PARAMETERS} numbers"
    )
    rotation_covariance: list[list[float]] | None = Field(
        description="of the rotation vector of a left perturbation of R, in rad²: 3 x 3 in space, 1 x 1 in the plane"
    )
    iterations: int = Field(description="E-steps that were computed")
    converged: bool = Field(description="whether the iteration stopped by the tolerance")
    stop_reason: Literal["tolerance", "max_iterations"]
    start: str = Field(
        description="the start that led to the answer: identity, centroid, given, pairs, anneal, vote, rotation, "
        "triangles or whitened"
    )
    runner_up: RunnerUpAnswer | None = Field(description="the best other pose that init auto found")
    warnings: list[str] = Field(
        description="reasons to doubt the answer: symmetric shapes, ambiguity, poor starts or wrong pairs"
    )
    quality: QualityAnswer = Field(description="whether the answer can be trusted, and why not")
    responsibilities: list[list[float | None]] = Field(default=[], description="R, N x M, of the last E-step")
    trace: TraceAnswer | None = None
    registered: list[list[float | None]] = Field(default=[], description="N x D, the moved source")
    displacement: list[list[float | None]] = Field(
        default=[], description="N x D, nonrigid only: registered = matrix · source + displacement"
    )


class RegisterBatchAnswer(BaseModel):
    """For each problem, in order, its result or its error."""

    results: Annotated[
        list[Any],
        WithJsonSchema(
            {
                "type": "array",
                "items": {
                    "anyOf": [
                        {"$ref": "#/components/schemas/Registration"},
                        {"$ref": "#/components/schemas/ProblemDetails"},
                    ]
                },
            }
        ),
    ]
