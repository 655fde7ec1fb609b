"""The width of the encoder's last layer."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

from service.errors import InvalidInput
from service.vae.encoder import CovarianceKind, encoder_size


@pytest.mark.parametrize(("covariance", "size"), [("identity", 2), ("diagonal", 4), ("full", 5)])
def test_the_sizes_of_a_two_dimensional_latent(covariance: CovarianceKind, size: int) -> None:
    assert encoder_size(2, covariance).size == size


@pytest.mark.parametrize("dimension", [1, 2, 3, 17, 128])
def test_the_covariance_part_counts_its_parameters(dimension: int) -> None:
    assert encoder_size(dimension, "identity").covariance == 0
    assert encoder_size(dimension, "diagonal").covariance == dimension
    assert encoder_size(dimension, "full").covariance == len(np.tril_indices(dimension)[0])


@pytest.mark.parametrize("covariance", get_args(CovarianceKind))
def test_the_parts_add_up_and_the_mean_has_one_number_per_coordinate(covariance: CovarianceKind) -> None:
    for dimension in (1, 5, 10**12):
        answer = encoder_size(dimension, covariance)
        assert answer.size == answer.mean + answer.covariance
        assert answer.mean == dimension


def test_all_kinds_but_identity_agree_in_one_dimension() -> None:
    assert [encoder_size(1, kind).size for kind in get_args(CovarianceKind)] == [1, 2, 2]


@pytest.mark.parametrize(
    ("dimension", "covariance", "words"),
    [
        (2, "identity", "2 means; none for the covariance"),
        (1, "diagonal", "1 mean and 1 log variance,"),
        (2, "diagonal", "2 means and 2 log variances"),
        (1, "full", "1 entry of the lower triangle of the 1×1 Cholesky factor"),
        (3, "full", "3 means and 6 entries of the lower triangle of the 3×3 Cholesky factor"),
    ],
)
def test_the_explanation_names_the_outputs(dimension: int, covariance: CovarianceKind, words: str) -> None:
    assert words in encoder_size(dimension, covariance).explanation


@pytest.mark.parametrize("dimension", [0, -1, True, 2.0, "2", None])
def test_a_dimension_that_is_not_a_positive_integer_is_refused(dimension: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        encoder_size(dimension, "full")
    assert caught.value.pointer == "/dimension"


def test_an_unknown_covariance_is_refused_and_the_error_lists_the_known_ones() -> None:
    unknown: Any = "spherical"
    with pytest.raises(InvalidInput, match="spherical") as caught:
        encoder_size(2, unknown)
    assert caught.value.pointer == "/covariance"
    assert caught.value.allowed == ["identity", "diagonal", "full"]
