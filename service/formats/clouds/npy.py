"""NumPy's .npy and .npz, without pickle.

The header is read by three patterns and not as the Python literal that it is: what they do not match is no plain
array, and no header can make them work hard. The array is then a view of the bytes that are there, so that a declared
shape allocates nothing.
"""

from __future__ import annotations

import io
import re
import zipfile
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import LatentserveError
from ..arrays import Float64, to_npy
from .cloud_file import CloudFile

MAGIC = b"\x93NUMPY"
ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
MAX_HEADER = 2**16
# np.savez writes a member for each array; an archive of very many is made to be slow to list.
MAX_MEMBERS = 64
CENTRAL_ENTRY = b"PK\x01\x02"
NAMES = ("points", "xyz")

DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>|=]?)([fiu])([1248])['"]""")
FORTRAN = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(((?:\s*\d{1,18}\s*,)*\s*(?:\d{1,18})?)\s*\)""")


class Header(NamedTuple):
    """What an array's header declares; `start` is where its values begin."""

    dtype: np.dtype[np.generic]
    fortran: bool
    shape: tuple[int, ...]
    start: int

    @property
    def end(self) -> int:
        return self.start + prod(self.shape) * self.dtype.itemsize


def read_npy(file: CloudFile) -> Float64:
    """An array of rank 2, floating or integer, in either byte order.

    Raises:
        MalformedBody: it is no .npy file, or not as long as it declares.
        InvalidInput: its array is of another rank or type.
        BodyTooLarge: it has more than `max_elements` numbers.
    """
    return file.points(_array(file, file.data, _header(file, file.data)))


def read_npz(file: CloudFile) -> Float64:
    """The only array of an archive, or the one that is named `points` or `xyz`.

    Raises:
        MalformedBody: it is damaged, encrypted, or of a compression that NumPy does not write.
        InvalidInput: it holds several arrays of other names, or its array is no cloud.
        BodyTooLarge: its array has more than `max_elements` numbers.
    """
    if file.data.count(CENTRAL_ENTRY) > MAX_MEMBERS:
        raise file.invalid("the archive has too many members", f"at most {MAX_MEMBERS}")
    try:
        with zipfile.ZipFile(io.BytesIO(file.data)) as archive:
            member = _choose(file, archive)
            with archive.open(member) as stream:
                head = stream.read(MAX_HEADER)
                header = _header(file, head)
                # The declared size decides before anything is unpacked, and one byte more than it shows a lie.
                data = head + stream.read(max(header.end + 1 - len(head), 0))
                return file.points(_array(file, data, header))
    except LatentserveError:
        raise
    # zipfile raises BadZipFile, zlib.error, RuntimeError, ValueError, IndexError and more for damaged archives.
    except Exception as error:
        raise file.malformed(f"the .npz archive cannot be read: {error}") from error


def _choose(file: CloudFile, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if info.filename[-1:] != "/"}
    named = [name for name in NAMES if name in members]
    if not named and len(members) != 1:
        listed = ", ".join(list(members)[:10]) or "none"
        raise file.invalid(f"the archive has {len(members)} arrays ({listed})", "one, or one named points or xyz")
    member = members[named[0]] if named else next(iter(members.values()))
    if member.flag_bits & 1 or member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise file.malformed(f"{member.filename!r} is encrypted, or compressed by other means than deflate")
    return member


def _header(file: CloudFile, data: bytes) -> Header:
    version = data[6:7]
    start = {b"\x01": 10, b"\x02": 12, b"\x03": 12}.get(version, 0)
    if not data.startswith(MAGIC) or not start or len(data) < start:
        raise file.malformed("the array does not begin as a .npy file of version 1, 2 or 3 does")
    end = start + int.from_bytes(data[8:start], "little")
    if end > min(len(data), MAX_HEADER):
        raise file.malformed(f"the .npy header ends at byte {end} of {len(data)}")
    text = data[start:end].decode("latin-1")
    fortran, shape, descr = FORTRAN.search(text), SHAPE.search(text), DESCR.search(text)
    if fortran is None or shape is None or "descr" not in text:
        raise file.malformed(f"the .npy header is {text[:100]!r}")
    if descr is None:
        raise file.invalid(
            f"the array's header is {text.strip()[:100]!r}; its elements are no plain numbers of 1 to 8 bytes",
            "a floating or an integer type",
        )
    order, kind, size = descr.groups()
    if kind + size == "f1":
        raise file.malformed("there is no floating type of one byte")
    sizes = tuple(int(number) for number in shape[1].split(",") if number.strip())
    if len(sizes) != 2:
        raise file.invalid(f"the array has the shape {sizes}", "N x D, a row for each point")
    file.check_shape(*sizes)
    return Header(np.dtype(order + kind + size), fortran[1] == "True", sizes, end)


def _array(file: CloudFile, data: bytes, header: Header) -> NDArray[np.generic]:
    if len(data) != header.end:
        more = "more" if len(data) > header.end else "less"
        raise file.malformed(f"there is {more} data than the array's shape {header.shape} and type {header.dtype} need")
    flat = np.frombuffer(data, header.dtype, offset=header.start)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def write_npz(points: Float64) -> bytes:
    """The array under the name `points`; the same bytes for the same array, at any time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        # A ZipInfo is dated 1980 where a name alone would be dated now.
        archive.writestr(zipfile.ZipInfo(f"{NAMES[0]}.npy"), to_npy(points), zipfile.ZIP_DEFLATED)
    return out.getvalue()
