"""Mutations of bytes: what fuzz tests and fuzzed requests do to valid files, archives and texts."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

# Numbers at the ends of their types, as the headers of files have them.
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
# Pieces of text that readers of numbers, of headers and of forms treat specially.
WORDS: tuple[bytes, ...] = (
    b"0", b"-0", b"-1", b"1e308", b"1e-320", b"1e999", b"nan", b"NaN", b"Infinity", b"null", b"true", b"999999999999",
    b".", b"e", b"-", b"+", b",", b";", b":", b"[", b"]", b"{", b"}", b"(", b")", b'"', b"'", b"\\", b"\\ud800", b"#",
    b"//", b" ", b"\t", b"\n", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc3\xa9", b"[[[[[[[[", b"9" * 400,
)  # fmt: skip


def damaged(data: bytes, rng: random.Random, most: int = 4, words: Sequence[bytes] = WORDS) -> bytes:
    """`data` after 1 to `most` mutations: bits, bytes, numbers, words, and pieces that are cut, repeated or moved."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, most)):
        rng.choice(_KINDS)(changed, rng, words)
    return bytes(changed)


def _flip(data: bytearray, rng: random.Random, words: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, rng: random.Random, words: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.randrange(256)


def _number(data: bytearray, rng: random.Random, words: Sequence[bytes]) -> None:
    """Write an integer over the bytes, in either byte order. Half of them go into the first 256, where headers are."""
    value, size = rng.choice(_EDGES), rng.choice("BHI")
    packed = struct.pack(rng.choice("<>") + size, value & (1 << 8 * struct.calcsize(size)) - 1)
    at = rng.randrange(min(len(data), 256) + 1) if rng.random() < 0.5 else rng.randrange(len(data) + 1)
    data[at : at + len(packed)] = packed


def _word(data: bytearray, rng: random.Random, words: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.choice((0, 0, 1, 4))] = rng.choice(words)


def _cut(data: bytearray, rng: random.Random, words: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 2, 8, 64))]


def _truncate(data: bytearray, rng: random.Random, words: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _repeat(data: bytearray, rng: random.Random, words: Sequence[bytes]) -> None:
    """Copy a piece to another place."""
    start, at = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    data[at:at] = data[start : start + rng.choice((1, 4, 16, 100))]


_KINDS: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    _flip, _byte, _number, _number, _word, _word, _cut, _truncate, _repeat,
)  # fmt: skip
