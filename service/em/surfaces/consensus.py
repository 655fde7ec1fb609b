"""Poses that many pairs of points agree on, although most of the pairs are wrong.

A rigid motion keeps distances. Two pairs are compatible if the distance between their source points is that between
their targets. Wrong pairs are compatible by chance, but seldom with the same others. The similarity of two compatible
pairs is therefore the number of pairs that are compatible with both (Chen, Sun, Yang and Tao 2022).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import always_inline, compiled
from ..kernel.fitting import Sums, fit
from ..kinds import RIGID
from ..slices import ROW_PAIRS, in_slices, pause

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
UInt64 = NDArray[np.uint64]

# Poses that are proposed, and the pairs that each is computed from at first.
POSES, TOGETHER = 32, 20
# The fewest pairs that support a pose, and the rounds in which it is fitted to those that do.
LEAST_SUPPORT, ROUNDS = 5, 2
# The bits of a word.
WORD = 64


class Proposal(NamedTuple):
    """A pose and the number of pairs that support it."""

    transform: Float64  # (3, 4)
    support: int


def proposals(source: Float64, target: Float64, tolerance: float, apart: float) -> list[Proposal]:
    """Rigid poses from pairs of points (3, K), (3, K), with the most support first.

    Args:
        source: the source point of each pair.
        target: its target.
        tolerance: the error of a distance between compatible pairs.
        apart: the least such distance: nearer pairs are compatible by chance.
    """
    if source.shape[1] < LEAST_SUPPORT:
        return []
    pause()
    common = _similarities(source, target, tolerance, apart)
    weight = common.sum(1)
    left = np.ones(len(weight), np.bool_)
    found: list[Proposal] = []
    while len(found) < POSES and left.any():
        pause()
        centre = int(np.argmax(np.where(left, weight, -1.0)))
        left[centre] = False
        row = common[centre]
        together = np.argsort(-row, kind="stable")[:TOGETHER]
        together = together[row[together] > 0]
        if len(together) < LEAST_SUPPORT:
            continue
        transform = _fitted(source[:, together], target[:, together])
        supports = together
        for _ in range(ROUNDS):
            moved = transform[:, :3] @ source + transform[:, 3:]
            supports = np.flatnonzero(((moved - target) ** 2).sum(0) < (2 * tolerance) ** 2)
            if len(supports) < LEAST_SUPPORT:
                break
            transform = _fitted(source[:, supports], target[:, supports])
        left[supports] = False
        if len(supports) >= LEAST_SUPPORT:
            found.append(Proposal(transform, len(supports)))
    return sorted(found, key=lambda one: -one.support)


def _similarities(source: Float64, target: Float64, tolerance: float, apart: float) -> Int32:
    """The similarity (K, K) of each two pairs: those that are compatible with both; 0 if these two are not."""
    count = source.shape[1]
    fits = np.zeros((count, (count + WORD - 1) // WORD), np.uint64)
    in_slices(count, lambda first, pairs: _compatible_rows(source, target, tolerance, apart, fits, first, pairs))
    common = np.zeros((count, count), np.int32)
    in_slices(count, lambda first, pairs: _common_rows(fits, common, first, pairs))
    return common


@compiled
def _compatible_rows(
    source: Float64, target: Float64, tolerance: float, apart: float, fits: UInt64, first: int, pairs: int
) -> int:
    """Set the bits of the pairs that are compatible with each of those from `first` on. Returns the next row."""
    count = source.shape[1]
    fit = np.zeros(fits.shape[1] * WORD, np.uint64)
    for i in range(first, count):
        a, b, c, u, v, w = source[0, i], source[1, i], source[2, i], target[0, i], target[1, i], target[2, i]
        for j in range(count):
            d, e, f = source[0, j] - a, source[1, j] - b, source[2, j] - c
            one = math.sqrt(d * d + e * e + f * f)
            d, e, f = target[0, j] - u, target[1, j] - v, target[2, j] - w
            other = math.sqrt(d * d + e * e + f * f)
            fit[j] = np.uint64((abs(one - other) < tolerance) & (one > apart) & (other > apart))
        for k in range(fits.shape[1]):
            word = np.uint64(0)
            for bit in range(WORD):
                word |= fit[k * WORD + bit] << np.uint64(bit)
            fits[i, k] = word
        pairs -= count + ROW_PAIRS
        if pairs <= 0:
            return i + 1
    return int(count)


@compiled
def _common_rows(fits: UInt64, common: Int32, first: int, pairs: int) -> int:
    """Count the bits that compatible rows have in common, from the row `first` on. Returns the next row."""
    count, words = fits.shape
    for i in range(first, count):
        for j in range(i):
            if fits[i, j // WORD] >> np.uint64(j % WORD) & np.uint64(1):
                total = np.uint64(0)
                for k in range(words):
                    total += ones(fits[i, k] & fits[j, k])
                common[i, j] = common[j, i] = np.int32(total)
                pairs -= words
        pairs -= i + ROW_PAIRS
        if pairs <= 0:
            return i + 1
    return int(count)


@always_inline
def ones(word: np.uint64) -> np.uint64:
    """The number of bits of a word that are set: sums of pairs, of fours and of eights of bits (Warren 2012, 5-1)."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    word = word + (word >> np.uint64(8))
    word = word + (word >> np.uint64(16))
    return (word + (word >> np.uint64(32))) & np.uint64(127)


def _fitted(source: Float64, target: Float64) -> Float64:
    """The rigid transform (3, 4) of least squares."""
    p = np.vstack([source, np.ones(source.shape[1])])
    return fit(RIGID, np.eye(3, 4), Sums(p @ p.T, np.ascontiguousarray(p @ target.T), 0.0, 0.0))
