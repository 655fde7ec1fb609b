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
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ...formats.arrays import UNION_TAG, Matrix, Vector
from ..choices import INITS, PRIORS, SAMPLINGS, Init, Prior, Sampling
from ..problem import MAX_ITERATIONS, MAX_OUTLIER_WEIGHT, MAX_PRIOR_PAIRS, MAX_SIGMA, MIN_SIGMA

# The most numbers of an N x M array in an answer, about 80 MB of JSON: as many as a request's prior may have.
MAX_WIRE_PAIRS = MAX_PRIOR_PAIRS

# The most points of one registration, source and target together. The computation takes about 400 bytes for each.
MAX_WIRE_POINTS = 2_500_000

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
