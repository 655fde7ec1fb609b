"""The number of outputs of an encoder of a Gaussian latent."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from ..errors import InvalidInput

CovarianceKind = Literal["identity", "diagonal", "full"]


class EncoderSize(NamedTuple):
    """`size` = `mean` + `covariance` outputs for one latent, and a sentence that explains them."""

    size: int
    mean: int
    covariance: int
    explanation: str


def encoder_size(dimension: int, covariance: CovarianceKind) -> EncoderSize:
    """The width of the encoder's last layer for a latent of `dimension` d: d, 2d, or d + d(d+1)/2.

    A symmetric d×d covariance has d(d+1)/2 free entries, and so has its Cholesky factor. The encoder outputs the
    factor, because any lower triangle with a positive diagonal gives a valid covariance.

    Raises:
        InvalidInput: d is not an integer ≥ 1, or the kind of the covariance is unknown.
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
        return EncoderSize(d, d, 0, f"{means}; none for the covariance, which is fixed to the identity")
    if covariance == "diagonal":
        return EncoderSize(2 * d, d, d, f"{means} and {_count(d, 'log variance')}, one for each coordinate")
    entries = d * (d + 1) // 2
    factor = f"{_count(entries, 'entry', 'entries')} of the lower triangle of the {d}×{d} Cholesky factor"
    return EncoderSize(d + entries, d, entries, f"{means} and {factor}, its diagonal included")


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
