"""The digits of an answer."""

from __future__ import annotations

import numpy as np

from service.gan.answers import classes
from service.gan.jobs import Result

IMAGES = np.zeros((3, 32, 32), np.uint8)


def test_the_digit_is_the_most_likely_one_and_on_a_tie_the_smaller_one() -> None:
    by_class = np.zeros((3, 10), np.float32)
    by_class[0, 7] = 1
    by_class[1, [4, 6]] = 0.5
    by_class[2] = 0.1
    assert np.array_equal(classes(Result(IMAGES, class_probabilities=by_class))["digit"], [7, 4, 0])  # type: ignore[arg-type]


def test_without_class_probabilities_there_is_no_digit() -> None:
    assert classes(Result(IMAGES)) == {"class_probabilities": None, "digit": None}
