"""Numbers of JSON text: the nearest float64, as Python reads them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from decimal import Decimal, localcontext

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.formats.json_numbers.keys import names
from service.formats.json_numbers.reading import Even, find

NAMES = names({"v": (1, 1)})
DIGITS = st.text("0123456789", min_size=1, max_size=40)
# Bits of positive finite floats: all, subnormal ones, and those near 1.
BITS = st.integers(0, (0x7FF << 52) - 2) | st.integers(0, 1 << 52) | st.integers(1000 << 52, 1050 << 52)


def assert_nearest(texts: Sequence[str]) -> None:
    """The reader and Python give the same bits; Python reads integers as integers, without a negative zero."""
    expected = np.array([float(text) if set(text) & set(".eE") else float(int(text)) for text in texts])
    finite = np.isfinite(expected)
    texts, expected = [text for text, kept in zip(texts, finite, strict=True) if kept], expected[finite]
    # The space makes the array long enough to be found.
    found = find(f'{{"v": [{",".join(["0", *texts])}{" " * 512}]}}'.encode(), NAMES)
    assert len(found) == 1
    assert isinstance(found[0], Even)
    wrong = np.flatnonzero(found[0].numbers[1:].view(np.uint64) != expected.view(np.uint64))
    assert [texts[index] for index in wrong] == []


def test_shortest_and_17_digit_texts_of_random_floats_read_back() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**64, 20_000, dtype=np.uint64).view(np.float64)
    normals = rng.normal(size=20_000) * 10.0 ** rng.integers(-9, 9, 20_000)
    for found in (values[np.isfinite(values)], normals):
        assert_nearest([repr(value) for value in found.tolist()])
        assert_nearest([f"{value:.17g}" for value in found.tolist()])
        assert_nearest([f"{value:.25e}" for value in found.tolist()])


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(["", "-"]), DIGITS, DIGITS | st.none(), st.integers(-400, 400) | st.none(), st.booleans())
@example("-", "0", None, None, False)
@example("-", "0", "0", None, False)
@example("", "9007199254740993", None, None, False)
@example("", "1", None, 23, True)
@example("", "0", "0" * 40, 5, False)
def test_any_number_is_read_as_python_reads_it(
    sign: str, whole: str, fraction: str | None, exponent: int | None, capital: bool
) -> None:
    text = sign + (whole.lstrip("0") or "0")
    if fraction is not None:
        text += f".{fraction}"
    if exponent is not None:
        text += f"{'E+' if capital and exponent >= 0 else 'e'}{exponent}"
    assert_nearest([text])


@settings(max_examples=500, deadline=None)
@given(BITS, st.integers(1, 60))
@example(0, 1)
@example((1 << 52) - 1, 1)
@example((0x7FF << 52) - 2, 1)
def test_numbers_half_way_between_two_floats_and_next_to_it_are_rounded_correctly(bits: int, digits: int) -> None:
    low, high = (Decimal(struct.unpack("d", struct.pack("Q", value))[0]) for value in (bits, bits + 1))
    with localcontext() as context:
        context.prec = 800
        half = f"{(low + high) / 2:e}"
    mantissa, power = half.split("e")
    mantissa = mantissa if "." in mantissa else mantissa + ".0"
    mantissas = (mantissa, mantissa + "0" * digits + "1", mantissa[: 2 + digits], mantissa[:21], mantissa[:-1] + "4")
    # The reader leaves longer texts to others.
    assert_nearest([f"{found}e{power}" for found in mantissas if len(found) < 240])


def test_integers_beyond_2_to_the_53_are_rounded_correctly() -> None:
    rng = np.random.default_rng(1)
    odd = 2 * (rng.integers(0, 1 << 52, 5000) | 1 << 52) + 1
    halves = [int(value) << int(shift) for value, shift in zip(odd, rng.integers(0, 30, 5000), strict=True)]
    for offset in (-1, 0, 1):
        assert_nearest([str(value + offset) for value in halves])
        assert_nearest([f"{value + offset}000.0e-3" for value in halves])
