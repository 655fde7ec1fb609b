"""EM registration's wire shapes and limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from ..formats.arrays import UNION_TAG, Matrix, Vector
from .problem import (
    DEFAULT_ITERATIONS,
    DEFAULT_TOLERANCE,
    MAX_ITERATIONS,
    MAX_OUTLIER_WEIGHT,
    MAX_SIGMA,
    MIN_SIGMA,
    Init,
    Matching,
    Normalize,
    Prior,
    Transform,
)

MAX_PROBLEMS = 1024
# N x M arrays on the wire: 4 million numbers are about 80 MB of JSON.
MAX_WIRE_PAIRS = 4_000_000

Include = Literal["responsibilities", "trace", "registered"]
Number = Annotated[float, Field(allow_inf_nan=False)]
# `checks.check` checks ranges, for the wire and for the library; the document shows the same constants.
Sigma = Annotated[Number, WithJsonSchema({"type": "number", "minimum": MIN_SIGMA, "maximum": MAX_SIGMA})]
Iterations = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_ITERATIONS})]
Positive = Annotated[Number, WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]
NotNegative = Annotated[Number, WithJsonSchema({"type": "number", "minimum": 0})]
Share = Annotated[Number, WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_OUTLIER_WEIGHT})]


class GivenTransform(BaseModel):
    """A transform to start from, named as in the answer: `matrix`, or `translation`, `rotation` and `scale`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    translation: Vector | None = Field(None, description="T, D numbers; 0 when left out")
    rotation: Matrix | None = Field(None, description="R, D x D, determinant +1; the identity when left out")
    scale: Number = Field(1.0, gt=0, description="s")
    matrix: Matrix | None = Field(None, description="(D+1) x (D+1), the last row 0 … 0 1; in place of the others")

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Self:
        if self.matrix is not None:
            if self.model_fields_set - {"matrix"}:
                raise PydanticCustomError(
                    "transform_twice", "matrix says it all; leave the others out", {"field": "matrix"}
                )
            side = len(self.matrix)
            last = [0.0] * (side - 1) + [1.0]
            if side < 2 or self.matrix.shape != (side, side) or self.matrix[-1].tolist() != last:
                raise PydanticCustomError(
                    "no_transform",
                    "this is no transform of homogeneous columns",
                    {"field": "matrix", "allowed": "(D+1) x (D+1) numbers with the last row 0 ... 0 1"},
                )
        return self


def _start_kind(value: object) -> str:
    kind = "vector" if isinstance(value, list) else "transform" if isinstance(value, dict) else "named"
    return f"{UNION_TAG}{kind}"


Start = Annotated[
    Annotated[Init, Tag(f"{UNION_TAG}named")]
    | Annotated[Vector, Tag(f"{UNION_TAG}vector")]
    | Annotated[GivenTransform, Tag(f"{UNION_TAG}transform")],
    Discriminator(_start_kind),
]


def _prior_kind(value: object) -> str:
    return f"{UNION_TAG}named" if isinstance(value, str) else f"{UNION_TAG}matrix"


GivenPrior = Annotated[
    Annotated[Prior, Tag(f"{UNION_TAG}named")] | Annotated[Matrix, Tag(f"{UNION_TAG}matrix")],
    Discriminator(_prior_kind),
]


def _weight_kind(value: object) -> str:
    return f"{UNION_TAG}named" if isinstance(value, str) else f"{UNION_TAG}number"


OutlierWeight = Annotated[
    Annotated[Literal["auto"], Tag(f"{UNION_TAG}named")] | Annotated[Share, Tag(f"{UNION_TAG}number")],
    Discriminator(_weight_kind),
]


class RegisterRequest(BaseModel):
    """Two point sets, and how to register them."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "source": [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]],
                    "target": [[5.0, 7.0], [6.0, 7.0], [5.0, 9.0]],
                    "matching": "one_to_one",
                }
            ]
        },
    )

    source: Matrix = Field(description="N x D points p_i that are moved")
    target: Matrix = Field(description="M x D points q_j that they are moved onto")
    transform: Transform = Field("translation", description="what may happen to the source")
    sigma: Sigma | None = Field(None, description="noise scale in the target's unit; null estimates it")
    prior: GivenPrior | None = Field(
        None,
        description="free: Π ← R, the literal model; uniform: Π stays 1/M; mixing: one weight for each target is "
        "estimated; or Π itself, N x M, rows summing to one. By default free for a translation with sigma given and "
        "no outliers, else uniform",
    )
    outlier_weight: OutlierWeight | None = Field(
        None,
        description="share of points without a partner; auto estimates it. By default none for a translation, auto "
        "for the others",
    )
    normalize: Normalize | None = Field(
        None,
        description="rows: each source point has one partner; columns: each target point has one; sinkhorn: both. By "
        "default rows for translation and rigid, columns for the others",
    )
    init: Start = Field(
        "auto", description='auto finds one from anywhere; or D numbers of your own, or {"rotation": ..., ...}'
    )
    max_iterations: Iterations = Field(DEFAULT_ITERATIONS, description="E-steps, each with its M-step")
    tolerance: NotNegative = Field(
        DEFAULT_TOLERANCE,
        description="stop when the points move by less than this many sigma; 0 disables early stopping",
    )
    matching: Matching = Field("nearest", description="argmax of the responsibilities, or the best bijection")
    refine: bool = Field(False, description="fit the transform once more, to the matched pairs, each weighing the same")
    beta: Positive | None = Field(
        None, description="nonrigid: how far neighbours move together, in units of the source's RMS extent"
    )
    stiffness: Positive | None = Field(None, description="nonrigid: weight of the penalty on uneven motion")
    include: list[Include] = Field([], max_length=3, description="parts of the answer that are large")

    @model_validator(mode="after")
    def _answer_fits_the_wire(self) -> Self:
        if len(set(self.include)) < len(self.include):
            raise PydanticCustomError("include_twice", "include names a part twice", {"field": "include"})
        pairs = len(self.source) * len(self.target)
        if "responsibilities" in self.include and pairs > MAX_WIRE_PAIRS:
            raise PydanticCustomError(
                "too_many_pairs",
                "responsibilities would be {pairs} numbers; leave them out, or send fewer points",
                {"pairs": pairs, "allowed": f"at most {MAX_WIRE_PAIRS} pairs", "field": "include"},
            )
        if "trace" in self.include and self._trace_numbers > MAX_WIRE_PAIRS:
            raise PydanticCustomError(
                "too_long_a_trace",
                "a trace of {iterations} iterations is too long; omit it, or lower max_iterations",
                {"iterations": self.max_iterations, "allowed": "fewer max_iterations", "field": "include"},
            )
        return self

    @property
    def wire_numbers(self) -> int:
        """Numbers that the large parts of the answer may have."""
        pairs = len(self.source) * len(self.target) if "responsibilities" in self.include else 0
        return pairs + (self._trace_numbers if "trace" in self.include else 0)

    @property
    def _trace_numbers(self) -> int:
        dimension = int(self.source.shape[1])
        # The range is checked later; until then a count out of range must not corrupt a sum.
        iterations = min(max(self.max_iterations, 1), MAX_ITERATIONS)
        return iterations * (dimension * (dimension + 1) + 2)


class Trace(BaseModel):
    """The iterations as they stood after their M-step; those that acceleration tried and threw away left out."""

    log_likelihood: list[float | None]
    sigma: list[float]
    translation: list[list[float]]
    linear: list[list[list[float]]] | None = Field(None, description="A = s·R, D x D each; null for a translation")


class RunnerUp(BaseModel):
    """The best pose that is another one: how far behind, and which."""

    matrix: list[list[float]]
    log_likelihood_gap: float = Field(description="nats by which the log-likelihood is less there")


class Registration(BaseModel):
    """The transform and the matching, in the caller's coordinates."""

    model_config = ConfigDict(extra="forbid")

    translation: list[float] = Field(description="T, D numbers")
    rotation: list[list[float]] | None = Field(
        description="R, D x D, determinant +1; null for an affine transform, and past D = 256"
    )
    scale: float | None = Field(description="s; null for an affine transform")
    matrix: list[list[float]] | None = Field(
        description="(D+1) x (D+1), acts on columns: y = s·R·p + T; null past D = 256"
    )
    matching: list[int | None] = Field(description="for each source point i the matched j, or null")
    matching_probability: list[float | None] = Field(description="r_ij of each matched pair; 0 for an unmatched point")
    outlier_weight: float = Field(description="share of points without a partner, given or estimated")
    outlier_probability: list[float | None] | None = Field(
        description="for each source point that it has no partner; null without an outlier weight"
    )
    sigma: float = Field(description="given or estimated")
    log_likelihood: float | None = Field(description="observed-data, at the returned parameters")
    translation_covariance: list[list[float]] | None = Field(
        description="inverse of the observed information; null where that is not positive definite, and for a "
        "transform of more than 256 numbers"
    )
    rotation_covariance: list[list[float]] | None = Field(
        description="rad², of the rotation vector by which R may be off: 3 x 3 in space, 1 x 1 in the plane"
    )
    iterations: int
    converged: bool
    stop_reason: Literal["tolerance", "max_iterations"]
    start: str = Field(
        description="the start that was taken: identity, centroid, given, anneal, vote, rotation, triangles, whitened"
    )
    runner_up: RunnerUp | None = Field(description="the best other pose that init auto met")
    warnings: list[str] = Field(
        description="what to know before trusting the answer: symmetric shapes, ambiguity, doubtful starts and pairs"
    )
    responsibilities: list[list[float | None]] = Field(default=[], description="N x M, of the last E-step")
    trace: Trace | None = None
    registered: list[list[float | None]] = Field(default=[], description="N x D, the source moved")
    displacement: list[list[float | None]] = Field(
        default=[], description="N x D, nonrigid: registered = matrix · source + displacement"
    )


class RegisterBatchRequest(BaseModel):
    """Many problems in one request; a bad one spoils only its own result."""

    model_config = ConfigDict(extra="forbid", strict=True)

    problems: Annotated[
        list[Any],
        Field(min_length=1, max_length=MAX_PROBLEMS),
        WithJsonSchema(
            {
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_PROBLEMS,
                "items": {"$ref": "#/components/schemas/RegisterRequest"},
            }
        ),
    ]


class RegisterBatchAnswer(BaseModel):
    """One result or one problem for each problem, in order."""

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


class Pair(BaseModel):
    """The two point sets of a single step. Steps hold N x M numbers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: Matrix = Field(description="N x D points p_i")
    target: Matrix = Field(description="M x D points q_j")

    @model_validator(mode="after")
    def _pairs_fit_the_wire(self) -> Self:
        pairs = len(self.source) * len(self.target)
        if pairs > MAX_WIRE_PAIRS:
            raise PydanticCustomError(
                "too_many_pairs",
                "a single step holds N x M = {pairs} numbers; register streams them",
                {"pairs": pairs, "allowed": f"at most {MAX_WIRE_PAIRS} pairs", "field": "target"},
            )
        return self


class Parameters(BaseModel):
    """ψ: translation, prior and σ."""

    model_config = ConfigDict(extra="forbid", strict=True)

    translation: Vector | None = Field(None, description="T, D numbers; 0 when left out")
    prior: Matrix | None = Field(None, description="Π, N x M, rows sum to one; uniform when left out")
    sigma: Sigma = Field(description="noise scale in the coordinates' unit")


class ExpectationRequest(Pair, Parameters):
    """An E-step at ψ; `at` is the second argument of Q, ψ itself when left out."""

    at: Parameters | None = Field(None, description="evaluate Q(at | ψ) in place of Q(ψ | ψ)")


class Expectation(BaseModel):
    """The responsibilities and the expected complete-data log-likelihood."""

    responsibilities: list[list[float]] = Field(description="R, N x M, rows sum to one")
    q: float | None = Field(description="Q; null where it is minus infinity")
    log_likelihood: float | None = Field(description="observed-data, at ψ")


class MaximizationRequest(Pair):
    """An M-step from responsibilities."""

    responsibilities: Matrix = Field(description="R, N x M, rows sum to one")


class Maximization(BaseModel):
    """The parameters that maximise Q."""

    prior: list[list[float]] = Field(description="Π ← R")
    translation: list[float] = Field(description="T ← (1/N) Σ_ij r_ij (q_j - p_i)")


class LogLikelihoodRequest(Pair, Parameters):
    """ψ and, for the complete-data log-likelihood, the assignment Z."""

    assignment: Matrix | None = Field(
        None, description="Z, N x M, each row one 1 and else 0; without it the likelihood is the observed-data one"
    )


class LogLikelihood(BaseModel):
    """The number and, for the complete-data one, its three terms."""

    log_likelihood: float | None = Field(description="null where it is minus infinity")
    log_prior: float | None = Field(None, description="Σ Z_ij log Π_ij")
    log_normaliser: float | None = Field(None, description="-Σ Z_ij log(√(2π)σ)")
    log_distance: float | None = Field(None, description="-Σ Z_ij ‖p_i+T-q_j‖² / 2σ²")
