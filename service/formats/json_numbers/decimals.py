"""One JSON number to the nearest float64, ties to even.

The method is that of Lemire, "Number parsing at a gigabyte per second" (2021), with the proof that it needs no
fallback by Mushtak and Lemire, "Fast number parsing without fallback" (2022).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .jit import always_inline, as_float, byte_at, high_product, leading_zeros, load_word, trailing_zeros
from .powers import LARGEST, POWERS_OF_FIVE, SMALLEST

Text = NDArray[np.uint8]

# What `read_number` found instead of a number.
BROKEN, TOO_LONG = -1, -2
# Longer texts of numbers are not read. Python's reader takes microseconds for one of this length.
MAX_LENGTH = 1024

MINUS, PLUS, POINT, ZERO, NINE = (ord(character) for character in "-+.09")
LOWER_E, CASE = ord("e"), 0x20
# Digits that a uint64 always has room for.
_DIGITS = 19
# No more digits are added to an exponent of this magnitude: all beyond it are zero or infinite.
_MAX_EXPONENT = 100_000
_MANTISSA_BITS, _EXPONENT_BIAS, _INFINITE_POWER = 52, 1023, 0x7FF
# A product of exactly representable factors may lie half way between two floats only for these powers of ten.
_TIE_SMALLEST, _TIE_LARGEST = -4, 23
_ZERO, _ONE, _TEN, _THREE = np.uint64(0), np.uint64(1), np.uint64(10), np.uint64(3)
_SIGN = np.uint64(1 << 63)
_INFINITY = np.uint64(_INFINITE_POWER << _MANTISSA_BITS)
_HIDDEN = np.uint64(1 << _MANTISSA_BITS)
# A NaN, which no number of JSON is. Its lower bits are free for a position.
_MARK = np.uint64(0x7FF8 << 48)
POSITION_BITS = 48
# Bits of a product that rounding drops, of 64: if all are ones, the lower half of the power may change the others.
_DROPPED = np.uint64(2 ** (64 - _MANTISSA_BITS - 3) - 1)

_EIGHT_DIGITS = np.uint64(10**8)
_HIGH_NIBBLES, _LOW_NIBBLES = np.uint64(0xF0F0F0F0F0F0F0F0), np.uint64(0x0F0F0F0F0F0F0F0F)
_SIXES, _THREES = np.uint64(0x0606060606060606), np.uint64(0x3333333333333333)
_PAIRS, _QUADS = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
_BY_10, _BY_100, _BY_10000 = (np.uint64((base << bits) + 1) for base, bits in ((10, 8), (100, 16), (10000, 32)))
_3, _4, _8, _16, _32 = (np.uint64(bits) for bits in (3, 4, 8, 16, 32))
_POWERS_OF_TEN = np.array([10**digits for digits in range(8)], np.uint64)


@always_inline
def is_digit(character: np.uint8) -> np.bool:
    """Whether a byte is a digit."""
    return ZERO <= character <= NINE


@always_inline
def _leading_digits(word: np.uint64) -> int:
    """The number of digits at the start of 8 bytes.

    The upper half of a digit is 3, also after 6 is added, which changes those of : to ?. A carry of the sum changes
    only bytes after the first byte that is not a digit.
    """
    halves: np.uint64 = (word & _HIGH_NIBBLES) | (((word + _SIXES) & _HIGH_NIBBLES) >> _4)
    return int(trailing_zeros(halves ^ _THREES) >> _3)


@always_inline
def _eight_digits(word: np.uint64) -> np.uint64:
    """The number that 8 digits write. Neighbours are joined to pairs, pairs to fours, and those to the number."""
    pairs = ((word & _LOW_NIBBLES) * _BY_10) >> _8
    quads = ((pairs & _PAIRS) * _BY_100) >> _16
    return ((quads & _QUADS) * _BY_10000) >> _32


@always_inline
def _append(mantissa: np.uint64, character: np.signedinteger) -> np.uint64:
    return mantissa * _TEN + np.uint64(character - ZERO)


@always_inline
def nearest_bits(mantissa: np.uint64, power: int) -> np.uint64:
    """The bits of the float64 nearest to mantissa · 10^power; those of infinity beyond the range."""
    if mantissa == _ZERO or power < SMALLEST:
        return _ZERO
    if power > LARGEST:
        return _INFINITY
    shift = leading_zeros(mantissa)
    scaled = mantissa << shift
    row = power - SMALLEST
    high = high_product(scaled, POWERS_OF_FIVE[row, 0])
    low = scaled * POWERS_OF_FIVE[row, 0]
    if high & _DROPPED == _DROPPED:
        carry = high_product(scaled, POWERS_OF_FIVE[row, 1])
        low += carry
        if low < carry:
            high += _ONE
    top = high >> np.uint64(63)
    drop = top + np.uint64(64 - _MANTISSA_BITS - 3)
    rounded: np.uint64 = high >> drop  # 54 bits: the mantissa, and one for rounding
    # 217706 / 2^16 approximates log2(10) closely enough for the floor of all powers.
    exponent = ((217706 * power) >> 16) + 63 + np.int64(top) - np.int64(shift) + _EXPONENT_BIAS
    if exponent <= 0:  # subnormal
        if exponent <= -63:
            return _ZERO
        rounded >>= np.uint64(1 - exponent)
        rounded += rounded & _ONE
        return rounded >> _ONE  # 2^52, the smallest normal number, has the right bits
    exact = _TIE_SMALLEST <= power <= _TIE_LARGEST and low <= _ONE
    if exact and rounded & _THREE == _ONE and rounded << drop == high:
        rounded &= ~_ONE  # a tie, and the mantissa is even
    rounded += rounded & _ONE
    rounded >>= _ONE
    # A carry to 2^53 leaves a mantissa of zero and raises the exponent by one, as it should.
    bits: np.uint64 = rounded - _HIDDEN + (np.uint64(exponent) << np.uint64(_MANTISSA_BITS))
    return _INFINITY if bits > _INFINITY else bits


@always_inline
def _first_digits(text: Text, start: int, stop: int) -> tuple[np.uint64, int, bool]:
    """The first 19 significant digits of a number, their power of ten, and whether one after them is not 0."""
    mantissa, count, power, after_point, more = _ZERO, 0, 0, False, False
    for index in range(start, stop):
        character = np.int64(byte_at(text, index))
        if character == POINT:
            after_point = True
        elif count < _DIGITS:
            mantissa = _append(mantissa, character)
            count += mantissa != _ZERO
            power -= after_point
        else:
            more |= character != ZERO
            power += not after_point
    return mantissa, power, more


@always_inline
def read_number(text: Text, start: int, end: int) -> tuple[int, float]:
    """The number at `start` of `text`, which ends at `end`: the position after it, and its value.

    An integer is never -0. A number beyond the range is infinite. A number that this function cannot decide is NaN,
    with `start` in its lower POSITION_BITS. The position is negative, BROKEN or TOO_LONG, if there is no number, or one
    with more than MAX_LENGTH characters.
    """
    index = start
    negative = byte_at(text, index) == MINUS
    index += negative
    first = index
    mantissa, power = _ZERO, 0
    while index < end and is_digit(byte_at(text, index)):
        mantissa = _append(mantissa, np.int64(byte_at(text, index)))
        index += 1
    digits = index - first
    if digits == 0 or (digits > 1 and byte_at(text, first) == ZERO):
        return BROKEN, 0.0
    whole = True
    if index < end and byte_at(text, index) == POINT:
        whole = False
        index += 1
        fraction = index
        while index + 8 <= end:
            word = load_word(text, index)
            count = _leading_digits(word)
            if count < 8:
                # Zeros come before the digits. Two shifts, because one by 64 bits is undefined.
                word = (word << _8) << np.uint64(56 - 8 * count)
                mantissa = mantissa * _POWERS_OF_TEN[count] + _eight_digits(word)
                index += count
                break
            mantissa = mantissa * _EIGHT_DIGITS + _eight_digits(word)
            index += 8
        while index < end and is_digit(byte_at(text, index)):
            mantissa = _append(mantissa, np.int64(byte_at(text, index)))
            index += 1
        if index == fraction:
            return BROKEN, 0.0
        power = fraction - index
        digits -= power
    last, exponent = index, 0
    if index < end and byte_at(text, index) | CASE == LOWER_E:
        whole = False
        index += 1
        below = index < end and byte_at(text, index) == MINUS
        if below or (index < end and byte_at(text, index) == PLUS):
            index += 1
        begin = index
        while index < end and is_digit(byte_at(text, index)):
            if exponent < _MAX_EXPONENT:
                exponent = exponent * 10 + int(byte_at(text, index)) - ZERO
            index += 1
        if index == begin:
            return BROKEN, 0.0
        exponent = -exponent if below else exponent
    if index - start > MAX_LENGTH:
        return TOO_LONG, 0.0

    truncated = False
    if digits > _DIGITS:
        mantissa, power, truncated = _first_digits(text, first, last)
    power += exponent
    if whole and mantissa == _ZERO:
        return index, 0.0
    bits = nearest_bits(mantissa, power)
    if truncated and bits != nearest_bits(mantissa + _ONE, power):
        return index, as_float(_MARK | np.uint64(start))
    return index, as_float(bits | _SIGN if negative else bits)
