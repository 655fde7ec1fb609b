"""NumPy files: every plain type and order; no pickle, no lies about sizes, no bombs."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from collections.abc import Callable

import numpy as np
import pytest

from service.errors import BodyTooLarge, InvalidInput, LatentserveError, MalformedBody
from service.formats.clouds.columns import Columns
from service.formats.clouds.reading import read_cloud
from tests.service.formats.clouds.builders import archive, npy, read_points

POINTS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


@pytest.mark.parametrize("code", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_every_type_in_both_byte_and_both_memory_orders(code: str) -> None:
    for order in "<>":
        array = POINTS.astype(order + code)
        for data in (npy(array), npy(np.asfortranarray(array)), archive({"points.npy": npy(array)})):
            assert np.array_equal(read_points(data), POINTS)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_header(version: tuple[int, int]) -> None:
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3, 2), }".ljust(117) + b"\n"
    length = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    assert np.array_equal(read_points(b"\x93NUMPY" + bytes(version) + length + text + POINTS.tobytes()), POINTS)


@pytest.mark.parametrize(
    "array",
    [
        np.ones(3), np.ones((1, 2, 3)), np.float64(1), np.ones((2, 2), bool), np.ones((2, 2), complex),
        np.array([["a"]]), np.zeros(2, [("x", "f8")]), np.ones((0, 3)), np.ones((3, 0)), np.ones((2, 2), "M8[s]"),
    ],
)  # fmt: skip
def test_arrays_that_are_no_cloud_are_refused(array: object) -> None:
    with pytest.raises(InvalidInput):
        read_points(npy(np.asarray(array)), pointer="/source")


def test_pickles_are_never_loaded() -> None:
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }".ljust(117) + b"\n"
    with pytest.raises(InvalidInput, match="not plain numbers"):
        read_points(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\x80\x04N.")


@pytest.mark.parametrize("rows", [10**6, 10**12, 10**17, int("9" * 18)])
def test_a_declared_shape_allocates_nothing(rows: int) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d, 3), }" % rows
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(240)
    for file in (data, archive({"points.npy": data})):
        tracemalloc.start()
        with pytest.raises((BodyTooLarge, MalformedBody)):
            read_points(file)
        assert tracemalloc.get_traced_memory()[1] < 10**6
        tracemalloc.stop()


def test_data_behind_the_array_is_refused() -> None:
    for data in (npy(POINTS) + b"\0", archive({"a.npy": npy(POINTS) + b"\0"})):
        with pytest.raises(MalformedBody, match="more data"):
            read_points(data)


def test_the_array_of_an_archive_is_the_only_one_or_the_one_named_for_it() -> None:
    other = npy(POINTS + 1)
    assert np.array_equal(read_points(archive({"whatever.npy": npy(POINTS)})), POINTS)
    for name in ("points", "xyz"):
        assert np.array_equal(read_points(archive({"normals.npy": other, f"{name}.npy": npy(POINTS)})), POINTS)
    with pytest.raises(InvalidInput, match=r"2 arrays \(a, b\)"):
        read_points(archive({"a.npy": npy(POINTS), "b.npy": other}))
    with pytest.raises(InvalidInput, match="0 arrays"):
        read_points(archive({}))


def test_a_bomb_is_refused_by_what_it_declares_and_costs_no_more_than_it_may_hold() -> None:
    zeros = npy(np.zeros((10**6, 2)))
    bomb = archive({"points.npy": zeros})
    assert len(bomb) < len(zeros) / 500
    with pytest.raises(BodyTooLarge):
        read_points(bomb, max_elements=10**5)
    liar = archive({"points.npy": npy(POINTS) + bytes(10**7)})
    tracemalloc.start()
    with pytest.raises(MalformedBody, match="more data"):
        read_points(liar)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_an_archive_of_very_many_members_is_not_even_listed() -> None:
    with pytest.raises(InvalidInput, match="too many members"):
        read_points(archive({f"{index}": b"" for index in range(100)}))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_numpy_does_not_write_are_refused(compression: int) -> None:
    with pytest.raises(MalformedBody, match="deflate"):
        read_points(archive({"points.npy": npy(POINTS)}, compression))


def test_damaged_archives_are_malformed() -> None:
    whole = archive({"points.npy": npy(np.arange(200.0).reshape(-1, 2))})
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x55
        try:
            assert read_points(bytes(damaged), "a.npz").shape == (100, 2)
        except LatentserveError:
            continue
    name = whole.rindex(b"points.npy")
    with pytest.raises(MalformedBody, match="cannot be read"):  # a name ends at its first NUL, and this one is empty
        read_points(whole[:name] + b"\0" + whole[name + 1 :])
    start = whole.index(b"points.npy") + 10
    with pytest.raises(MalformedBody):
        read_points(whole[: start + 5] + bytes(20) + whole[start + 25 :])


@pytest.mark.parametrize(
    "header", [b"", b"{}", b"{'shape': " + b"(" * 9000, b"{'descr': '<f1', 'fortran_order': True, 'shape': (1, 1)}"]
)
def test_headers_that_are_none_are_malformed(header: bytes) -> None:
    with pytest.raises(MalformedBody):
        read_points(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("align", [False, True])
def test_records_are_points_by_the_names_of_their_fields(order: str, align: bool) -> None:
    kinds = [("label", "S3"), ("y", f"{order}f4"), ("flag", "?"), ("x", f"{order}f8"), ("z", f"{order}i2"), ("i", "u1")]
    records = np.zeros(4, np.dtype(kinds, align=align))
    points = np.arange(12.0).reshape(4, 3)
    for axis, values in zip("xyz", points.T, strict=True):
        records[axis] = values
    for data in (npy(records), npy(records.reshape(2, 2)), archive({"cloud.npy": npy(records)})):
        assert np.array_equal(read_points(data), points)
    chosen = read_cloud(npy(records), columns=Columns(("z", "x")))
    assert np.array_equal(chosen.points, points[:, [2, 0]])
    with pytest.raises(InvalidInput, match="'flag' is not one number"):
        read_cloud(npy(records), columns=Columns(("flag",)))
    with pytest.raises(InvalidInput, match="'label', 'y', 'flag'"):
        read_points(npy(records[["label", "y", "flag"]].copy()))


def test_a_field_of_three_values_is_a_point() -> None:
    records = np.zeros(5, [("intensity", "f4"), ("xyz", "<f4", (3,))])
    records["xyz"] = np.arange(15).reshape(5, 3)
    assert np.array_equal(read_points(npy(records)), records["xyz"])


def test_arrays_x_y_and_z_of_an_archive_are_coordinates() -> None:
    x, y, z = (npy(column) for column in np.arange(9.0).reshape(3, 3))
    assert read_points(archive({"z.npy": z, "t.npy": x, "y.npy": y, "x.npy": x})).tolist() == [
        [0, 3, 6],
        [1, 4, 7],
        [2, 5, 8],
    ]
    with pytest.raises(InvalidInput, match="has 2 values"):
        read_points(archive({"x.npy": x, "y.npy": npy(np.arange(2.0))}))
    with pytest.raises(InvalidInput, match="shape"):
        read_points(archive({"x.npy": x, "y.npy": npy(np.eye(3))}))


@pytest.mark.parametrize("rows", [2, 3])
def test_a_transposed_array_is_refused_with_its_shape_and_the_cure(rows: int) -> None:
    for array in (np.ones((rows, 500)), np.asfortranarray(np.ones((rows, 500)))):
        with pytest.raises(InvalidInput, match=rf"\({rows}, 500\).*transpose"):
            read_points(npy(array))
    assert read_points(npy(np.ones((4, 500)))).shape == (4, 500)


@pytest.mark.parametrize(("columns", "layout"), [(4, "XYZI"), (6, "XYZRGB"), (7, "XYZIRGB"), (5, "0 to 255")])
@pytest.mark.parametrize("pack", [npy, lambda array: archive({"points.npy": npy(array)})])
def test_attributes_of_an_array_without_names_are_those_of_a_table(
    columns: int, layout: str, pack: Callable[[np.ndarray], bytes]
) -> None:
    array = np.hstack([np.arange(15).reshape(5, 3) + 0.5, np.full((5, columns - 3), 7.0)])
    for kind in ("<f4", ">f8"):
        points, warnings = read_cloud(pack(array.astype(kind)))
        assert np.array_equal(points, array[:, :3])
        assert layout in warnings[0]
        every = read_cloud(pack(array.astype(kind)), columns=Columns(tuple(range(columns))))
        assert np.array_equal(every.points, array)
        assert not every.warnings


@pytest.mark.parametrize("shape", [(2, 5), (3, 6), (3, 23)])
def test_an_array_that_may_be_transposed_has_a_warning(shape: tuple[int, int]) -> None:
    array = np.arange(float(np.prod(shape))).reshape(shape) + 0.5
    assert f"{shape[1]} points of {shape[0]} coordinates" in read_cloud(npy(array)).warnings[-1]
    every = Columns(tuple(range(shape[1])))
    assert not read_cloud(npy(array), columns=every).warnings
    assert not read_cloud(npy(np.eye(3))).warnings


def test_columns_of_an_array_are_chosen_by_position() -> None:
    array = np.arange(20.0).reshape(4, 5)
    assert np.array_equal(read_cloud(npy(array), columns=Columns((4, 0))).points, array[:, [4, 0]])
    with pytest.raises(InvalidInput, match="5 columns without names"):
        read_cloud(npy(array), columns=Columns(("x",)))


def test_a_depth_image_is_a_cloud_in_the_order_of_its_rows() -> None:
    image = np.arange(4.0 * 5 * 3).reshape(4, 5, 3)
    image[1, 2] = np.nan
    for data in (npy(image), archive({"points.npy": npy(image)})):
        np.testing.assert_array_equal(read_points(data), image.reshape(20, 3))
        assert "depth image" in read_cloud(data).warnings[0]
    for other in (np.asfortranarray(image), image[..., :2], image[:1]):
        with pytest.raises(InvalidInput, match="the array has the shape"):
            read_points(npy(other))
