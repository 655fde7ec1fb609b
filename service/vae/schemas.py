"""Schemas and limits of the VAE's requests and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag, model_validator
from pydantic_core import PydanticCustomError

from ..errors import InvalidInput
from ..formats.arrays import UNION_TAG, MatrixOrStack, ScalarOrVector, VectorOrMatrix
from ..web.problems import as_validation
from ..web.seeds import MAX_SEED
from .encoder import CovarianceKind
from .inputs import require
from .reparameterization import PARAMETRIZATIONS, Parametrization

MAX_DIMENSION = 2**31
ONE_PARAMETRIZATION: Final = "one_parametrization"


class ReparameterizeRequest(BaseModel):
    """mu, exactly one of sigma, log_variance, softplus and scale_tril, and grad_z; (D,) or (B, D) throughout."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"mu": [0.5, -1.0], "sigma": [1.0, 2.0], "grad_z": [1.0, 1.0], "seed": 7}]},
    )

    mu: VectorOrMatrix = Field(description="mean, (D,) or (B, D)")
    sigma: VectorOrMatrix | None = Field(None, description="standard deviation > 0, of mu's shape")
    log_variance: VectorOrMatrix | None = Field(None, description="log σ², of mu's shape")
    softplus: VectorOrMatrix | None = Field(None, description="ρ with σ = log(1 + exp ρ), of mu's shape")
    scale_tril: MatrixOrStack | None = Field(
        None, description="lower triangular L with positive diagonal, z = μ + L v; (D, D) or (B, D, D)"
    )
    grad_z: VectorOrMatrix = Field(description="∂L/∂z, of mu's shape")
    noise: VectorOrMatrix | None = Field(None, description="v, of mu's shape; drawn from seed if omitted")
    seed: int | None = Field(
        None, ge=0, le=MAX_SEED, description="seed of the noise; default: a random one, which the answer contains"
    )
    kl_weight: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="β: adds β times the gradients of KL(q‖N(0, I))"
    )

    @property
    def parametrization(self) -> Parametrization:
        """The parametrization that was given."""
        return next(name for name in PARAMETRIZATIONS if getattr(self, name) is not None)

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        given = [name for name in PARAMETRIZATIONS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise PydanticCustomError(
                ONE_PARAMETRIZATION,
                "exactly one parametrization is required, but the request has {found}",
                {"found": found, "allowed": list(PARAMETRIZATIONS)},
            )
        if self.noise is not None and self.seed is not None:
            raise PydanticCustomError(
                "noise_and_seed",
                "noise and seed both determine v; leave one out",
                {"allowed": ["noise", "seed"], "field": "seed"},
            )
        return self


def errors_beside(fields: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Errors, in pydantic's form, of the scale in a reparameterization that does not fit its schema.

    `errors` are those of the schema; a field that they name is not checked.
    """
    found: list[dict[str, Any]] = []
    given = [name for name in PARAMETRIZATIONS if fields.get(name) is not None]
    if len(given) != 1 and all(error["type"] != ONE_PARAMETRIZATION for error in errors):
        found.append(
            {
                "type": ONE_PARAMETRIZATION,
                "loc": (),
                "msg": f"exactly one parametrization is required, but the request has {' and '.join(given) or 'none'}",
                "ctx": {"allowed": list(PARAMETRIZATIONS)},
            }
        )
    if "sigma" in given and not any("sigma" in error["loc"][:1] for error in errors):
        sigma = np.array(fields["sigma"], np.float64)
        try:
            require(sigma > 0, "sigma", sigma, "> 0")
        except InvalidInput as error:
            found.append(as_validation(error))
    return found


class Reparameterized(BaseModel):
    """z and the gradients. Only the parametrization of the request has gradients."""

    model_config = ConfigDict(extra="forbid")

    z: list[Any]
    noise: list[Any] = Field(description="v, given or drawn")
    seed: int | None = Field(description="seed of the noise; null if noise was given")
    grad_mu: list[Any]
    grad_sigma: list[Any] = Field(default=[])
    grad_log_variance: list[Any] = Field(default=[])
    grad_softplus: list[Any] = Field(default=[])
    grad_scale_tril: list[Any] = Field(default=[])
    kl: float | list[float] | None = Field(None, description="KL(q‖N(0, I)) in nats, unweighted, for each row")
    kl_grad_mu: list[Any] = Field(default=[], description="the part of grad_mu due to the KL")
    kl_grad_sigma: list[Any] = Field(default=[])
    kl_grad_log_variance: list[Any] = Field(default=[])
    kl_grad_softplus: list[Any] = Field(default=[])
    kl_grad_scale_tril: list[Any] = Field(default=[])


class Gaussian(BaseModel):
    """A diagonal Gaussian: mu, and sigma or log_variance."""

    model_config = ConfigDict(extra="forbid", strict=True)

    mu: VectorOrMatrix
    sigma: VectorOrMatrix | None = Field(None, description="standard deviation > 0")
    log_variance: VectorOrMatrix | None = None

    @property
    def parametrization(self) -> Literal["sigma", "log_variance"]:
        """The parametrization that was given."""
        return "sigma" if self.sigma is not None else "log_variance"

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        if (self.sigma is None) == (self.log_variance is None):
            raise PydanticCustomError(
                "one_scale",
                "exactly one of sigma and log_variance is required",
                {"allowed": ["sigma", "log_variance"]},
            )
        return self


class GaussianRequest(BaseModel):
    """KL(q‖p) of two diagonal Gaussians of one shape."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"q": {"mu": [0.5, -1.0], "sigma": [1.0, 2.0]}}]}
    )

    q: Gaussian
    p: Gaussian | None = Field(None, description="default: N(0, I)")


class LogisticRequest(BaseModel):
    """-log Q(y|x) of a label under the logistic model Q(y=0|x) = sigmoid(wᵀx)."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"x": [1.0, 2.0], "w": [0.5, -0.25], "y": 1}]}
    )

    x: VectorOrMatrix = Field(description="features, (D,) or (B, D)")
    w: VectorOrMatrix = Field(description="weights, (D,) or of x's shape")
    y: ScalarOrVector = Field(description="label 0 or 1, one for each row of x")


def _kind(value: object) -> str:
    fields = set(value) if isinstance(value, dict) else set()
    return f"{UNION_TAG}logistic" if fields & {"x", "w", "y"} else f"{UNION_TAG}gaussian"


class KLRequest(
    RootModel[
        Annotated[
            Annotated[GaussianRequest, Tag(f"{UNION_TAG}gaussian")]
            | Annotated[LogisticRequest, Tag(f"{UNION_TAG}logistic")],
            Discriminator(_kind),
        ]
    ]
):
    """Two diagonal Gaussians (q and p), or a label against the logistic model (x, w and y)."""


class GaussianGradient(BaseModel):
    """Gradients in the parameters that were given."""

    model_config = ConfigDict(extra="forbid")

    mu: list[Any]
    sigma: list[Any] = []
    log_variance: list[Any] = []


class Divergence(BaseModel):
    """The divergence of each row, in nats, and its gradients."""

    model_config = ConfigDict(extra="forbid")

    divergence: float | list[float]
    grad_q: GaussianGradient | None = None
    grad_p: GaussianGradient | None = None
    logit: float | list[float] | None = Field(None, description="wᵀx")
    grad_w: list[Any] = []
    grad_x: list[Any] = []


class EncoderSizeQuery(BaseModel):
    """A latent's dimension and the kind of its covariance."""

    model_config = ConfigDict(extra="forbid")

    dimension: int = Field(ge=1, le=MAX_DIMENSION, description="d")
    covariance: CovarianceKind = "diagonal"


class EncoderSizeAnswer(BaseModel):
    """The number of encoder outputs, and their explanation."""

    size: int
    mean: int
    covariance: int
    explanation: str
