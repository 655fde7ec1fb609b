"""NumPy files: every plain type and order; no pickle, no lies about sizes, no bombs."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from service.errors import BodyTooLarge, InvalidInput, LatentserveError, MalformedBody
from service.formats.clouds.reading import read_cloud
from tests.service.formats.clouds.builders import archive, npy

POINTS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


@pytest.mark.parametrize("code", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_every_type_in_both_byte_and_both_memory_orders(code: str) -> None:
    for order in "<>":
        array = POINTS.astype(order + code)
        for data in (npy(array), npy(np.asfortranarray(array)), archive({"points.npy": npy(array)})):
            assert np.array_equal(read_cloud(data), POINTS)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_header(version: tuple[int, int]) -> None:
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }".ljust(117) + b"\n"
    length = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    assert np.array_equal(read_cloud(b"\x93NUMPY" + bytes(version) + length + text + POINTS.tobytes()), POINTS)


@pytest.mark.parametrize(
    "array",
    [
        np.ones(3), np.ones((1, 2, 3)), np.float64(1), np.ones((2, 2), bool), np.ones((2, 2), complex),
        np.array([["a"]]), np.zeros(2, [("x", "f8")]), np.ones((0, 3)), np.ones((3, 0)), np.ones((2, 2), "M8[s]"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_cloud_are_refused(array: object) -> None:
    with pytest.raises(InvalidInput):
        read_cloud(npy(np.asarray(array)), pointer="/source")


def test_pickles_are_never_loaded() -> None:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }".ljust(117) + b"\n"
    with pytest.raises(InvalidInput, match="no plain numbers"):
        read_cloud(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\x80\x04N.")


@pytest.mark.parametrize("rows", [10**6, 10**12, 10**17, int("9" * 18)])
def test_a_declared_shape_allocates_nothing(rows: int) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d, 3), }" % rows
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(240)
    for file in (data, archive({"points.npy": data})):
        tracemalloc.start()
        with pytest.raises((BodyTooLarge, MalformedBody)):
            read_cloud(file)
        assert tracemalloc.get_traced_memory()[1] < 10**6
        tracemalloc.stop()


def test_data_behind_the_array_is_refused() -> None:
    for data in (npy(POINTS) + b"\0", archive({"a.npy": npy(POINTS) + b"\0"})):
        with pytest.raises(MalformedBody, match="more data"):
            read_cloud(data)


def test_the_array_of_an_archive_is_the_only_one_or_the_one_named_for_it() -> None:
    other = npy(POINTS + 1)
    assert np.array_equal(read_cloud(archive({"whatever.npy": npy(POINTS)})), POINTS)
    for name in ("points", "xyz"):
        assert np.array_equal(read_cloud(archive({"normals.npy": other, f"{name}.npy": npy(POINTS)})), POINTS)
    with pytest.raises(InvalidInput, match=r"2 arrays \(a, b\)"):
        read_cloud(archive({"a.npy": npy(POINTS), "b.npy": other}))
    with pytest.raises(InvalidInput, match="0 arrays"):
        read_cloud(archive({}))


def test_a_bomb_is_refused_by_what_it_declares_and_costs_no_more_than_it_may_hold() -> None:
    zeros = npy(np.zeros((10**6, 2)))
    bomb = archive({"points.npy": zeros})
    assert len(bomb) < len(zeros) / 500
    with pytest.raises(BodyTooLarge):
        read_cloud(bomb, max_elements=10**5)
    liar = archive({"points.npy": npy(POINTS) + bytes(10**7)})
    tracemalloc.start()
    with pytest.raises(MalformedBody, match="more data"):
        read_cloud(liar)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_an_archive_of_very_many_members_is_not_even_listed() -> None:
    with pytest.raises(InvalidInput, match="too many members"):
        read_cloud(archive({f"{index}": b"" for index in range(100)}))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_write_are_refused(compression: int) -> None:
    with pytest.raises(MalformedBody, match="deflate"):
        read_cloud(archive({"points.npy": npy(POINTS)}, compression))


def test_damaged_archives_are_malformed() -> None:
    whole = archive({"points.npy": npy(np.arange(200.0).reshape(-1, 2))})
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        try:
            assert read_cloud(bytes(damaged), "a.npz").shape == (100, 2)
        except LatentserveError:
            continue
    name = whole.rindex(b"points.npy")
    with pytest.raises(MalformedBody, match="cannot be read"):  # a name ends at its first NUL, and this one is empty
        read_cloud(whole[:name] + b"\0" + whole[name + 1 :])
    start = whole.index(b"points.npy") + 10
    with pytest.raises(MalformedBody):
        read_cloud(whole[: start + 5] + bytes(20) + whole[start + 25 :])


@pytest.mark.parametrize(
    "header", [b"", b"{}", b"{'shape': " + b"(" * 9000, b"{'descr': '<f1', 'fortran_order': True, 'shape': (1, 1)}"]
)
def test_headers_that_are_none_are_malformed(header: bytes) -> None:
    with pytest.raises(MalformedBody):
        read_cloud(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
