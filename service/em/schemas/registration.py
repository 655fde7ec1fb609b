"""Requests for registrations: one problem, or a batch of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from ...formats.arrays import Float64, Matrix, Vector
from ..choices import Matching, Noise, Normalize, Transform
from ..problem import DEFAULT_ITERATIONS, DEFAULT_TOLERANCE, MAX_ITERATIONS
from .options import (
    MAX_WIRE_PAIRS,
    GivenPrior,
    GivenSampling,
    Iterations,
    KnownPairs,
    NotNegative,
    OutlierWeight,
    Positive,
    Sigma,
    Start,
)

MAX_PROBLEMS = 1024

Include = Literal["responsibilities", "trace", "registered"]


class RegisterRequest(BaseModel):
    """Two point sets, and how to register them."""

    # Arrays of the body that may have infinite numbers: the strength of an exact pair.
    may_be_infinite: ClassVar[tuple[str, ...]] = ("pairs",)
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

    source: Matrix = Field(description="N x D, the points p_i to move")
    target: Matrix = Field(description="M x D, the points q_j to move them onto")
    transform: Transform = Field("translation", description="the kind of transform to fit")
    sigma: Sigma | None = Field(
        None,
        description="standard deviation of the noise in each coordinate, in the target's unit; null estimates it",
    )
    prior: GivenPrior | None = Field(
        None,
        description="Π, the prior of each pair. free: Π ← R, the literal model; uniform: 1/M; mixing: one weight for "
        "each target, estimated; or an N x M matrix whose rows sum to one. Default: free for a translation with sigma "
        "and without outliers, else uniform",
    )
    outlier_weight: OutlierWeight | None = Field(
        None,
        description="share of points without a partner; auto estimates it. Default: 0 for a translation, auto for the "
        "other transforms",
    )
    normalize: Normalize | None = Field(
        None,
        description="rows: each source point has one partner; columns: each target point has one; sinkhorn: both. "
        "Default: rows for translation and rigid, columns for the other transforms",
    )
    init: Start = Field(
        "auto",
        description="the start. auto searches for one; identity and centroid need no search; or a translation of D "
        'numbers, or a transform such as {"rotation": ..., "translation": ...}',
    )
    max_iterations: Iterations = Field(DEFAULT_ITERATIONS, description="the most E-steps, each with its M-step")
    tolerance: NotNegative = Field(
        DEFAULT_TOLERANCE,
        description="the iteration stops when the points move by less than this, in units of sigma; 0 disables early "
        "stopping",
    )
    matching: Matching = Field(
        "nearest", description="nearest: the likeliest target of each source point; one_to_one: the best assignment"
    )
    refine: bool = Field(False, description="fit the transform once more, to the matched pairs with equal weights")
    beta: Positive | None = Field(
        None,
        description="nonrigid only: the distance over which neighbours move together, in units of the source's RMS "
        "extent; null chooses it",
    )
    stiffness: Positive | None = Field(
        None, description="nonrigid only: the weight of the penalty on uneven motion; null chooses it"
    )
    sampling: GivenSampling = Field(
        "auto",
        description="the points that the transform is estimated from. all; or a length: one point for each voxel of "
        "this edge, in the target's unit; auto: voxels if the clouds are uneven, as those of scanners are, else all. "
        "The matching is for all points in any case",
    )
    noise: Noise = Field(
        "auto",
        description="isotropic: alike in all directions; surface: small across the local surface and large along it, "
        "for rigid transforms of scans; auto: surface if most neighbourhoods of both clouds are flat",
    )
    source_weights: Vector | None = Field(
        None,
        description="N numbers >= 0, how much each source point counts; 0 leaves it out of the fit, and it is matched "
        "and moved all the same",
    )
    target_weights: Vector | None = Field(
        None,
        description="M numbers >= 0, how much each target point counts; 0 leaves it out, and it is no one's partner",
    )
    pairs: KnownPairs | None = Field(
        None,
        description="known correspondences: [i, j] for source point i that belongs to target point j, or "
        "[i, j, strength] for one whose prior is multiplied by exp(strength). Indices begin at 0",
    )
    # The default is a tuple, because pydantic copies a list for each request.
    include: list[Include] = Field(
        (),  # type: ignore[arg-type]
        max_length=3,
        description="large parts of the answer to return as well",
    )

    # No field of the wire: only files bring normals.
    _normals: Mapping[str, Float64] | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _answer_fits_the_wire(self) -> Self:
        if not self.include:
            return self
        if len(set(self.include)) < len(self.include):
            raise PydanticCustomError(
                "include_twice", "include contains a repeated name", {"field": "include", "allowed": "each name once"}
            )
        pairs = len(self.source) * len(self.target)
        if "responsibilities" in self.include and pairs > MAX_WIRE_PAIRS:
            raise PydanticCustomError(
                "too_many_pairs",
                "responsibilities would be {pairs} numbers; omit them, or send fewer points",
                {"pairs": pairs, "allowed": f"at most {MAX_WIRE_PAIRS} pairs", "field": "include"},
            )
        if "trace" in self.include and self._trace_numbers > MAX_WIRE_PAIRS:
            raise PydanticCustomError(
                "too_long_a_trace",
                "a trace of {iterations} iterations is too long; omit it, or lower max_iterations",
                {"iterations": self.max_iterations, "allowed": "fewer max_iterations", "field": "include"},
            )
        return self

    def bring_normals(self, normals: Mapping[str, Float64]) -> None:
        """Keep the normals (N, 3) that files have beside their points, by the names of the clouds."""
        self._normals = normals

    @property
    def normals(self) -> Mapping[str, Float64]:
        """The normals of the points, by the names of the clouds that have some."""
        return self._normals or {}

    @property
    def wire_numbers(self) -> int:
        """The most numbers in the large parts of the answer."""
        pairs = len(self.source) * len(self.target) if "responsibilities" in self.include else 0
        return pairs + (self._trace_numbers if "trace" in self.include else 0)

    @property
    def _trace_numbers(self) -> int:
        dimension = int(self.source.shape[1])
        # `checks.check` checks the range later. Until then a count out of range must not corrupt a sum.
        iterations = min(max(self.max_iterations, 1), MAX_ITERATIONS)
        return iterations * (dimension * (dimension + 1) + 2)


class RegisterBatchRequest(BaseModel):
    """Many problems in one request. An invalid problem affects only its own result."""

    model_config = ConfigDict(extra="forbid", strict=True)
    # The endpoint validates each problem by itself.
    validated_later: ClassVar[tuple[type[BaseModel], ...]] = (RegisterRequest,)

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
