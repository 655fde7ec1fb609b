"""Bodies of the single steps: expectation, maximization and log-likelihood."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ...formats.arrays import Matrix, Vector
from .options import MAX_WIRE_PAIRS, Sigma


class Pair(BaseModel):
    """The two point sets of a single step, which computes N x M numbers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: Matrix = Field(description="N x D, the points p_i")
    target: Matrix = Field(description="M x D, the points q_j")

    @model_validator(mode="after")
    def _pairs_fit_the_wire(self) -> Self:
        pairs = len(self.source) * len(self.target)
        if pairs > MAX_WIRE_PAIRS:
            raise PydanticCustomError(
                "too_many_pairs",
                "a single step would compute N x M = {pairs} numbers; register has no such limit",
                {"pairs": pairs, "allowed": f"at most {MAX_WIRE_PAIRS} pairs", "field": "target"},
            )
        return self


class GivenParameters(BaseModel):
    """ψ: translation, prior and σ."""

    model_config = ConfigDict(extra="forbid", strict=True)

    translation: Vector | None = Field(None, description="T, D numbers; zeros by default")
    prior: Matrix | None = Field(None, description="Π, N x M, rows sum to one; uniform by default")
    sigma: Sigma = Field(description="standard deviation of the noise in each coordinate, in the points' unit")


class ExpectationRequest(Pair, GivenParameters):
    """An E-step at ψ, and the parameters at which Q is evaluated."""

    at: GivenParameters | None = Field(None, description="evaluate Q(at | ψ) in place of Q(ψ | ψ)")


class Expectation(BaseModel):
    """The responsibilities and the expected complete-data log-likelihood."""

    responsibilities: list[list[float]] = Field(description="R, N x M, rows sum to one")
    q: float | None = Field(description="Q, in nats; null if it is minus infinity")
    log_likelihood: float | None = Field(description="observed-data, at ψ, in nats")


class MaximizationRequest(Pair):
    """An M-step from responsibilities."""

    responsibilities: Matrix = Field(description="R, N x M, rows sum to one")


class Maximization(BaseModel):
    """The parameters that maximise Q."""

    prior: list[list[float]] = Field(description="Π ← R")
    translation: list[float] = Field(description="T ← (1/N) Σ_ij r_ij (q_j - p_i)")


class LogLikelihoodRequest(Pair, GivenParameters):
    """ψ and, for the complete-data log-likelihood, the assignment Z."""

    assignment: Matrix | None = Field(
        None,
        description="Z, N x M, with one 1 in each row and 0 elsewhere; without it, the observed-data log-likelihood "
        "is computed",
    )


class LogLikelihood(BaseModel):
    """The log-likelihood in nats. The complete-data one comes with its three terms."""

    log_likelihood: float | None = Field(description="null if it is minus infinity")
    log_prior: float | None = Field(None, description="Σ Z_ij log Π_ij")
    log_normaliser: float | None = Field(None, description="-Σ Z_ij log(√(2π)σ)")
    log_distance: float | None = Field(None, description="-Σ Z_ij ‖p_i+T-q_j‖² / 2σ²")
