"""Archives of arrays: what NumPy writes is read to the bit, and hostile archives cost no more than they hold."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from typing import Any

import numpy as np
import pytest

from service.errors import BodyTooLarge, InvalidInput, LatentserveError, MalformedBody
from service.formats.arrays import to_npy
from service.formats.npz import read_arrays, write_arrays
from tests.service.archives import OF_EVERY_KIND, arrays, npz
from tests.service.formats.clouds.builders import archive, npy

LIMIT = 10**6
FIELDS: dict[str, Any] = {"points": np.arange(6.0).reshape(3, 2), **OF_EVERY_KIND}


@pytest.mark.parametrize("compressed", [False, True])
def test_what_numpy_writes_is_read_to_the_bit(compressed: bool) -> None:
    found = read_arrays(npz(FIELDS, compressed=compressed), LIMIT)
    assert found.keys() == FIELDS.keys()
    for name, value in FIELDS.items():
        array = found[name]
        assert array.shape == np.shape(value)
        assert array.dtype == np.asarray(value).dtype.newbyteorder("=")
        assert array.tobytes() == np.asarray(value).astype(array.dtype).tobytes()
        assert array.flags.carray


def test_what_is_written_is_read_by_numpy_to_the_bit() -> None:
    native = {name: np.asarray(value) for name, value in FIELDS.items()}
    data = write_arrays(native)
    assert write_arrays(native) == data
    for found in (arrays(bytes(data)), read_arrays(bytes(data), LIMIT)):
        assert found.keys() == native.keys()
        assert all(np.array_equal(found[name], native[name]) for name in native)
    with zipfile.ZipFile(io.BytesIO(data)) as archive_:
        assert archive_.testzip() is None
        assert {info.date_time for info in archive_.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive_.read("points.npy")[-48:] == native["points"].tobytes()
    assert read_arrays(bytes(write_arrays({})), LIMIT) == {}


@pytest.mark.parametrize(
    "array",
    [
        np.ones((2, 2), complex), np.ones(2, "M8[s]"), np.array([b"bytes"]), np.zeros(2, [("x", "f8")]),
        np.ones(2, np.longdouble), np.ones((1,) * 9),
    ],
    ids=["complex", "dates", "bytes", "records", "long", "axes"],
)  # fmt: skip
def test_other_types_are_refused_with_a_pointer(array: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_arrays(npz({"a/b": array}), LIMIT)
    assert caught.value.pointer == "/a~1b"
    assert caught.value.allowed


def test_pickles_are_never_loaded() -> None:
    out = io.BytesIO()
    np.savez(out, allow_pickle=True, source=np.array([{"x": 1}], object))
    with pytest.raises(InvalidInput, match="pickled") as caught:
        read_arrays(out.getvalue(), LIMIT)
    assert caught.value.pointer == "/source"


def _declaring(shape: str, content: bytes = b"", dtype: str = "<f8") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("member", "kind"),
    [
        (_declaring("(999999999999, 3)"), BodyTooLarge),
        (_declaring("(0, 999999999999999999)"), BodyTooLarge),
        (_declaring("(1,)", dtype="<U999999"), MalformedBody),
        (_declaring("(2,)", dtype="<U999999"), BodyTooLarge),
        (_declaring("(400000,)"), MalformedBody),
        (_declaring("(2,)", bytes(15)), MalformedBody),
        (_declaring("(2,)", bytes(17)), MalformedBody),
        (_declaring("(2,)", bytes(10**7)), MalformedBody),
        (_declaring("()", bytes(8)).replace(b"NUMPY\x01", b"NUMPY\x09"), MalformedBody),
        (_declaring("()", bytes(8))[:40], MalformedBody),
        (b"", MalformedBody),
        (b"\x80\x04N.", MalformedBody),
    ],
)
def test_headers_that_lie_allocate_nothing(compression: int, member: bytes, kind: type[LatentserveError]) -> None:
    body = archive({"source.npy": member}, compression)
    tracemalloc.start()
    with pytest.raises(kind) as caught:
        read_arrays(body, LIMIT)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
    assert caught.value.pointer == "/source"


def test_a_bomb_is_refused_by_what_all_its_arrays_declare() -> None:
    bomb = npz({f"f{i}": np.zeros(LIMIT // 4) for i in range(5)}, compressed=True)
    assert len(bomb) < LIMIT / 50
    with pytest.raises(BodyTooLarge) as caught:
        read_arrays(bomb, LIMIT)
    assert caught.value.pointer == "/f4"
    with pytest.raises(BodyTooLarge):
        read_arrays(npz({"word": np.array("x" * (LIMIT + 1))}, compressed=True), LIMIT)


def test_two_members_of_one_name_are_refused() -> None:
    for second in ("twin", "twin.npy"):
        body = archive({"same.npy": npy(np.ones(2)), second: npy(np.ones(2))})
        with pytest.raises(InvalidInput, match="one name"):
            read_arrays(body.replace(b"twin", b"same"), LIMIT)


def test_more_members_than_an_archive_may_have_are_not_even_listed() -> None:
    with pytest.raises(InvalidInput, match="too many members"):
        read_arrays(archive({f"{index}.npy": b"" for index in range(100)}), LIMIT)
    # The number in the end is a lie, so the directory's size is limited too.
    body = bytearray(archive({f"{index}{'x' * 900}.npy": b"" for index in range(100)}))
    body[-14:-10] = struct.pack("<HH", 1, 1)
    with pytest.raises(InvalidInput, match="too many members"):
        read_arrays(bytes(body), LIMIT)


def test_archives_of_several_disks_encrypted_or_in_zip64_are_malformed() -> None:
    whole = npz({"a": np.ones(2)})
    end = len(whole) - 22
    entry = whole.index(b"PK\x01\x02")
    changes = {
        "disks": whole[: end + 4] + b"\1\0" + whole[end + 6 :],
        "entries": whole[: end + 8] + b"\0\0" + whole[end + 10 :],
        "zip64": whole[:end] + b"PK\x06\x07" + bytes(16) + whole[end:],
        "encrypted": whole[: entry + 8] + b"\1\0" + whole[entry + 10 :],
        "checksum": whole.replace(np.ones(2).tobytes(), np.zeros(2).tobytes()),
        "no end": whole[:-1],
        "empty": b"",
        "no archive": b"PK\x03\x04" + bytes(100),
    }
    for name, body in changes.items():
        assert body != whole, name
        with pytest.raises(MalformedBody):
            read_arrays(body, LIMIT)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_archive_is_an_error_or_has_the_same_arrays(compressed: bool) -> None:
    values = np.arange(60.0).reshape(-1, 2)
    whole = npz({"a": values, "b": np.array("word")}, compressed=compressed)
    for at in range(len(whole)):
        for flip in (0x55, 0xFF):
            damaged = bytearray(whole)
            damaged[at] ^= flip
            try:
                found = read_arrays(bytes(damaged), LIMIT)
            except LatentserveError:
                continue
            for array in found.values():
                assert array.size <= values.size


def test_a_header_of_ours_is_that_of_numpy() -> None:
    for value in FIELDS.values():
        array = np.asarray(value, order="C")
        data = write_arrays({"a": array})
        assert to_npy(array) in data
