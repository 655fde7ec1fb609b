"""The headers of .npy files, without pickle.

Regular expressions parse them, so that their cost is bounded; they are never evaluated as Python. Headers that
they do not match are refused. An array is a view of the file's bytes, so that a declared shape allocates nothing.
"""

from __future__ import annotations

import re
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import BodyTooLarge, InvalidInput, MalformedBody

MAGIC = b"\x93NUMPY"
MAX_HEADER = 2**16
# Bytes before the text of a header of version 1.
_START = 10
# Maximum axes of an array; the fields of requests have at most three.
MAX_RANK = 8

FORTRAN = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(((?:\s*\d{1,18}\s*,)*\s*(?:\d{1,18})?)\s*\)""")
DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>|=]?)(f[248]|[iu][1248]|b1|U[1-9]\d{0,7})['"]""")

# The type of elements that are not plain: its letter and its size in bytes.
OTHER = re.compile(r"""['"]descr['"]\s*:\s*['"][<>|=]?([a-zA-Z])(\d{0,4})""")
# NumPy's names for the letters; a name that ends in {} has the number of bits.
NAMES = {"f": "float{}", "c": "complex{}", "O": "object", "S": "bytes", "M": "datetime64", "m": "timedelta64"}
AS_SAVED = "an array as numpy.save writes it"

Buffer = bytes | bytearray | memoryview


class Declared(NamedTuple):
    """What the header of an array declares, whatever the type of its elements."""

    text: str
    fortran: bool
    shape: tuple[int, ...]
    start: int
    """The byte at which the values begin."""


def declared(data: Buffer, pointer: str = "") -> Declared:
    """The header at the beginning of `data`; `pointer` is the JSON pointer of the array's field, for errors.

    Raises MalformedBody if there is no header of version 1, 2 or 3.
    """
    head = bytes(data[:12])
    start = {b"\x01": 10, b"\x02": 12, b"\x03": 12}.get(head[6:7], 0)
    if not head.startswith(MAGIC) or not start or len(head) < start:
        raise MalformedBody(
            "the array does not begin as a .npy file of version 1, 2 or 3 does", pointer=pointer, allowed=AS_SAVED
        )
    end = start + int.from_bytes(head[8:start], "little")
    if end > min(len(data), MAX_HEADER):
        raise MalformedBody(f"the .npy header ends at byte {end} of {len(data)}", pointer=pointer, allowed=AS_SAVED)
    text = str(data[start:end], "latin-1")
    fortran, shape = FORTRAN.search(text), SHAPE.search(text)
    if fortran is None or shape is None or "descr" not in text:
        raise MalformedBody(f"the .npy header is {text[:100]!r}", pointer=pointer, allowed=AS_SAVED)
    sizes = tuple(int(number) for number in shape[1].split(",") if number.strip())
    return Declared(text, fortran[1] == "True", sizes, end)


class Plain(NamedTuple):
    """An array of numbers, booleans or texts, as its header declares it."""

    dtype: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]
    start: int

    @property
    def elements(self) -> int:
        """Numbers, or characters of texts; at least 1."""
        characters = self.dtype.itemsize // 4 if self.dtype.kind == "U" else 1
        return max(1, prod(self.shape) * characters)

    @property
    def end(self) -> int:
        """The byte after the last value."""
        return self.start + prod(self.shape) * self.dtype.itemsize

    def values(self, data: Buffer) -> NDArray[Any]:
        """A writable copy of the values in native byte order and C order. `data` is `end` bytes long."""
        flat: NDArray[Any] = np.frombuffer(data, self.dtype, prod(self.shape), self.start)
        shaped = flat.reshape(self.shape, order="F" if self.fortran else "C")
        return np.array(shaped, self.dtype.newbyteorder("="), order="C")


def plain(data: Buffer, pointer: str, max_elements: int) -> Plain:
    """The header of an array of plain elements.

    Raises:
        MalformedBody: there is no header.
        InvalidInput: the elements are not numbers of 1 to 8 bytes, booleans or unicode text; or the axes are too many.
        BodyTooLarge: there are more than `max_elements` elements.
    """
    header = declared(data, pointer)
    descr = DESCR.search(header.text)
    if descr is None:
        name = _other_type(header.text)
        pickled = ": its elements are pickled, and pickles are never read" if name == "object" else ""
        raise InvalidInput(
            f"the dtype {name} is not supported{pickled}",
            pointer=pointer,
            allowed="floating or integer numbers of 1 to 8 bytes, booleans, or unicode text (dtype U)",
        )
    if len(header.shape) > MAX_RANK:
        raise InvalidInput(f"the array has {len(header.shape)} axes", pointer=pointer, allowed=f"at most {MAX_RANK}")
    order, kind = descr.groups()
    found = Plain(np.dtype(("" if order == "|" else order) + kind), header.fortran, header.shape, header.start)
    # Empty arrays may declare axes of any length.
    if found.elements > max_elements or max(header.shape, default=0) > max_elements:
        raise BodyTooLarge(
            f"the array has the shape {header.shape}, which is too large",
            pointer=pointer,
            allowed=f"at most {max_elements} numbers or characters in all arrays",
        )
    return found


def _other_type(text: str) -> str:
    """NumPy's name of the type in a header whose elements are not plain."""
    found = OTHER.search(text)
    if found is None:
        return "of records"
    letter, size = found.groups()
    return NAMES.get(letter, letter + size).format(8 * int(size or 0))


def header(values: NDArray[Any]) -> bytes:
    """The beginning of the .npy file of `values`, of a plain type and in C order; the values' bytes follow it."""
    text = f"{{'descr': '{values.dtype.str}', 'fortran_order': False, 'shape': {values.shape}, }}"
    # The values begin at a multiple of 64 bytes, after a line feed.
    length = -(-(_START + len(text) + 1) // 64) * 64 - _START
    return MAGIC + b"\x01\x00" + length.to_bytes(2, "little") + text.ljust(length - 1).encode() + b"\n"
