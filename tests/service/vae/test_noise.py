"""Seeded noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.vae.noise import draw_noise


@settings(deadline=None)
@given(seed=st.integers(0, 2**64 - 1), rows=st.integers(1, 30), more=st.integers(0, 300), width=st.integers(1, 9))
def test_row_b_of_the_noise_does_not_depend_on_the_number_of_rows(seed: int, rows: int, more: int, width: int) -> None:
    short, long = draw_noise(seed, (rows, width)), draw_noise(seed, (rows + more, width))
    assert short.tobytes() == long[:rows].tobytes()
    assert draw_noise(seed, width).tobytes() == draw_noise(seed, (width,)).tobytes() == short[0].tobytes()


@settings(deadline=None)
@given(seed=st.integers(0, 2**64 - 1), short=st.integers(1, 300), more=st.integers(0, 3000))
def test_shorter_noise_is_a_prefix_of_longer(seed: int, short: int, more: int) -> None:
    assert draw_noise(seed, short).tobytes() == draw_noise(seed, short + more)[:short].tobytes()


def test_noise_is_the_same_every_time_and_differs_between_seeds() -> None:
    seeds = [0, 1, 2, 2**32, 2**63, 2**64 - 1]
    drawn = [draw_noise(seed, 4).tobytes() for seed in seeds]
    assert drawn == [draw_noise(seed, 4).tobytes() for seed in seeds]
    assert len(set(drawn)) == len(seeds)


def test_noise_is_pinned_to_known_values() -> None:
    np.testing.assert_array_equal(draw_noise(2**64 - 1, 2), [-2.7686715823603945, 1.6779206516595908])


def test_noise_neither_reads_nor_changes_global_generators() -> None:
    np.random.seed(0)  # noqa: NPY002 - the test watches the global generator
    torch.manual_seed(0)
    expected = np.random.standard_normal(), float(torch.randn(()))  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    draw_noise(3, 10)
    assert (np.random.standard_normal(), float(torch.randn(()))) == expected  # noqa: NPY002


def test_noise_is_standard_normal_also_across_seeds() -> None:
    n = 100_000
    stream, first = draw_noise(11, n), np.array([draw_noise(seed, 1)[0] for seed in range(5000)])
    for sample in (stream, first):
        # Standard errors: 1/√n of the mean, √(2/n) of the variance, √(96/n) of the fourth moment, which is 3.
        bound = 5 / np.sqrt(len(sample))
        assert abs(sample.mean()) < bound
        assert abs((sample**2).mean() - 1) < bound * np.sqrt(2)
        assert abs((sample**4).mean() - 3) < bound * np.sqrt(96)


@pytest.mark.parametrize("seed", [-1, 2**64, True, 1.0, "1"])
def test_a_seed_out_of_range_is_refused(seed: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        draw_noise(seed, 2)
    assert caught.value.pointer == "/seed"
