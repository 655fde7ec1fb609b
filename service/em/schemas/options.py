"""Types of single fields: numbers with ranges, starts, priors and outlier weights."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ...formats.arrays import UNION_TAG, Float64, Matrix, Vector
from ..choices import INITS, PRIORS, SAMPLINGS, Init, Prior, Sampling
from ..problem import MAX_ITERATIONS, MAX_OUTLIER_WEIGHT, MAX_PRIOR_PAIRS, MAX_SIGMA, MIN_SIGMA

# The most numbers of an N x M array in an answer, about 80 MB of JSON: as many as a request's prior may have.
MAX_WIRE_PAIRS = MAX_PRIOR_PAIRS

# The most points of one registration, source and target together. The computation takes about 400 bytes for each.
MAX_WIRE_POINTS = 2_500_000

# The most known pairs in JSON, which become objects; arrays may have more.
MAX_WIRE_KNOWN = 100_000

Number = Annotated[float, Field(allow_inf_nan=False)]
# `checks.check` checks ranges, for the wire and for the library. The document shows the same constants.
Sigma = Annotated[Number, WithJsonSchema({"type": "number", "minimum": MIN_SIGMA, "maximum": MAX_SIGMA})]
Iterations = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_ITERATIONS})]
Positive = Annotated[Number, WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]
NotNegative = Annotated[Number, WithJsonSchema({"type": "number", "minimum": 0})]
Share = Annotated[Number, WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_OUTLIER_WEIGHT})]


class GivenTransform(BaseModel):
    """A transform to start from: `matrix`, or `translation`, `rotation` and `scale`. Names are as in the answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    translation: Vector | None = Field(None, description="T, D numbers; zeros by default")
    rotation: Matrix | None = Field(None, description="R, D x D, a proper rotation; the identity by default")
    scale: Number = Field(1.0, gt=0, description="s")
    matrix: Matrix | None = Field(
        None, description="(D+1) x (D+1), with the last row 0 … 0 1; excludes the other fields"
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.matrix is not None:
            if self.model_fields_set - {"matrix"}:
                raise PydanticCustomError(
                    "transform_twice", "matrix excludes translation, rotation and scale", {"field": "matrix"}
                )
            side = len(self.matrix)
            last = [0.0] * (side - 1) + [1.0]
            if side < 2 or self.matrix.shape != (side, side) or self.matrix[-1].tolist() != last:
                raise PydanticCustomError(
                    "no_transform",
                    "matrix is not an affine transform in homogeneous coordinates",
                    {"field": "matrix", "allowed": "(D+1) x (D+1) numbers with the last row 0 ... 0 1"},
                )
        return self


def _start_kind(value: object) -> str:
    kind = "vector" if isinstance(value, (list, np.ndarray)) else "transform" if isinstance(value, dict) else "named"
    return f"{UNION_TAG}{kind}"


def _names(names: Collection[str], *others: str) -> BeforeValidator:
    """A check that a text is one of `names`; its error also lists the `others`, the forms that are not texts."""

    def check(value: object) -> object:
        if value in names:
            return value
        raise PydanticCustomError("name", "{value} is not known", {"value": repr(value), "allowed": [*names, *others]})

    return BeforeValidator(check)


def _pairs(value: object, handler: core_schema.ValidatorFunctionWrapHandler) -> Float64:
    """Pairs as an array (K, 3), null as an infinite strength; an array (K, 2) or (K, 3) as it is."""
    if not isinstance(value, np.ndarray):
        # NaN is no index, which `checks.check` refuses.
        rows = [
            [np.nan if i is None else i, np.nan if j is None else j, np.inf if s is None else s]
            for i, j, s in ((*row, None)[:3] for row in handler(value))
        ]
        return np.array(rows, np.float64).reshape(-1, 3)
    if value.dtype != np.float64 or value.ndim != 2 or value.shape[1] not in {2, 3}:
        raise PydanticCustomError(
            "array",
            "the array has the shape {shape} and the dtype {dtype}",
            {"shape": str(value.shape), "dtype": value.dtype.name, "allowed": "numbers, K x 2 or K x 3"},
        )
    return value


class _Pairs:
    """Annotation of a field whose value is a list of [i, j] or [i, j, strength] in JSON."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        number = core_schema.nullable_schema(core_schema.float_schema(strict=True, allow_inf_nan=False))
        row = core_schema.list_schema(number, min_length=2, max_length=3, strict=True, fail_fast=True)
        rows = core_schema.list_schema(row, max_length=MAX_WIRE_KNOWN, strict=True, fail_fast=True)
        return core_schema.no_info_wrap_validator_function(_pairs, rows)


KnownPairs = Annotated[
    Float64,
    _Pairs(),
    WithJsonSchema(
        {
            "type": "array",
            "maxItems": MAX_WIRE_KNOWN,
            "items": {
                "type": "array",
                "minItems": 2,
                "maxItems": 3,
                "prefixItems": [
                    {"type": "integer", "minimum": 0},
                    {"type": "integer", "minimum": 0},
                    {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]},
                ],
            },
        }
    ),
]

Start = Annotated[
    Annotated[Init, _names(INITS, "a translation", "a transform"), Tag(f"{UNION_TAG}named")]
    | Annotated[Vector, Tag(f"{UNION_TAG}vector")]
    | Annotated[GivenTransform, Tag(f"{UNION_TAG}transform")],
    Discriminator(_start_kind),
]


def _prior_kind(value: object) -> str:
    return f"{UNION_TAG}named" if isinstance(value, str) else f"{UNION_TAG}matrix"


GivenPrior = Annotated[
    Annotated[Prior, _names(PRIORS, "an N x M matrix"), Tag(f"{UNION_TAG}named")]
    | Annotated[Matrix, Tag(f"{UNION_TAG}matrix")],
    Discriminator(_prior_kind),
]


def _weight_kind(value: object) -> str:
    return f"{UNION_TAG}named" if isinstance(value, str) else f"{UNION_TAG}number"


OutlierWeight = Annotated[
    Annotated[Literal["auto"], _names(["auto"], f"a number from 0 to {MAX_OUTLIER_WEIGHT}"), Tag(f"{UNION_TAG}named")]
    | Annotated[Share, Tag(f"{UNION_TAG}number")],
    Discriminator(_weight_kind),
]


VoxelSide = Annotated[Number, WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]
GivenSampling = Annotated[
    Annotated[Sampling, _names(SAMPLINGS, "a length > 0"), Tag(f"{UNION_TAG}named")]
    | Annotated[VoxelSide, Tag(f"{UNION_TAG}number")],
    Discriminator(_weight_kind),
]
