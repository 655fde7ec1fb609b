"""How many numbers the encoder of a Gaussian latent emits, and why."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from ..errors import InvalidInput

CovarianceKind = Literal["identity", "diagonal", "full"]


class EncoderSize(NamedTuple):
    """`size` = `mean` + `covariance` numbers for one latent, and a sentence that says what they are."""

    size: int
    mean: int
    covariance: int
    explanation: str


def encoder_size(dimension: int, covariance: CovarianceKind) -> EncoderSize:
    """The width of the encoder's last layer for a latent of `dimension` d: d, 2d, or d + d(d+1)/2.

    A symmetric d×d covariance has d(d+1)/2 free entries; its Cholesky factor, which is emitted since any values with
    a positive diagonal make a valid covariance, has as many. Raises InvalidInput for d < 1 and an unknown kind.
    """
    if isinstance(dimension, bool) or not isinstance(dimension, int) or dimension < 1:
        allowed = "an integer ≥ 1"
        raise InvalidInput(f"dimension = {dimension!r}: it must be {allowed}", pointer="/dimension", allowed=allowed)
    kinds = get_args(CovarianceKind)
    if covariance not in kinds:
        detail = f"covariance = {covariance!r}: it must be one of {list(kinds)}"
        raise InvalidInput(detail, pointer="/covariance", allowed=list(kinds))
    d = dimension
    means = _count(d, "mean")
    if covariance == "identity":
        return EncoderSize(d, d, 0, f"{means}; nothing to emit for the covariance, which is fixed to the identity")
    if covariance == "diagonal":
        return EncoderSize(2 * d, d, d, f"{means} and {_count(d, 'log variance')}, one for each coordinate")
    entries = d * (d + 1) // 2
    factor = f"{_count(entries, 'entry', 'entries')} of the lower triangle of the {d}×{d} Cholesky factor"
    return EncoderSize(d + entries, d, entries, f"{means} and {factor}, its diagonal included")


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
