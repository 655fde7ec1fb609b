"""PCD: every encoding and type, fields in any order; nothing is allocated or unpacked on its word."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest

from service.errors import BodyTooLarge, InvalidInput, LatentserveError, MalformedBody
from service.formats.clouds.lzf import decompress
from tests.service.formats.clouds.builders import lzf_literals, pcd, pcd_header, read_points

POINTS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [7.0, 8.0, 9.0]])
ENCODINGS = ["ascii", "binary", "binary_compressed"]


@pytest.mark.parametrize("data", ENCODINGS)
@pytest.mark.parametrize("code", ["<f4", "<f8", "<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8"])
def test_every_encoding_and_type(data: str, code: str) -> None:
    assert np.array_equal(read_points(pcd(POINTS, data, code=code)), POINTS)


@pytest.mark.parametrize("data", ENCODINGS)
@pytest.mark.parametrize("fields", ["z y x", "rgb x intensity y z", "y _ _ x z", "x y rgb", "x", "X Y Z"])
def test_fields_stand_in_any_order_among_others(data: str, fields: str) -> None:
    names = fields.split()
    columns = {"x": 0, "y": 1, "z": 2}
    rows = np.stack(
        [POINTS[:, columns.get(name.lower(), 0)] * (1 if name.lower() in columns else -7) for name in names], 1
    )
    dimension = sum(name.lower() in columns for name in names)
    assert np.array_equal(read_points(pcd(rows, data, fields=fields)), POINTS[:, :dimension])


@pytest.mark.parametrize("data", ENCODINGS)
def test_fields_of_several_values_and_sizes_take_their_room(data: str) -> None:
    header = (
        "VERSION 0.7\nFIELDS normal x y z label\nSIZE 4 8 4 4 2\nTYPE F F F F U\nCOUNT 3 1 1 1 2\n"
        f"WIDTH 2\nHEIGHT 1\nDATA {data}\n"
    ).encode()
    rows = [[9, 9, 9, 1, 2, 3, 8, 8], [9, 9, 9, 4, 5, 6, 8, 8]]
    if data == "ascii":
        body = "\n".join(" ".join(map(str, row)) for row in rows).encode()
    elif data == "binary":
        body = b"".join(struct.pack("<3fd2f2H", *row) for row in rows)
    else:
        columns = [struct.pack("<6f", *rows[0][:3], *rows[1][:3]), struct.pack("<2d", 1, 4)]
        columns += [struct.pack("<2f", 2, 5), struct.pack("<2f", 3, 6), struct.pack("<4H", 8, 8, 8, 8)]
        plain = b"".join(columns)
        body = struct.pack("<II", len(lzf_literals(plain)), len(plain)) + lzf_literals(plain)
    assert read_points(header + body).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_old_headers_and_comments_are_read() -> None:
    assert read_points(
        b"# hello\n\n#.PCD\r\nCOLUMNS x y\nSIZE 4 4\nTYPE F F\nPOINTS 1\nDATA ascii\n\n1 2\n"
    ).tolist() == [[1, 2]]


def test_holes_of_organised_clouds_keep_their_places() -> None:
    grid = pcd(np.where(POINTS > 8, np.nan, POINTS)).replace(b"WIDTH 4\nHEIGHT 1", b"WIDTH 2\nHEIGHT 2")
    points = read_points(grid)
    holes = (POINTS > 8).any(1)
    assert holes.sum() == 2
    assert np.isnan(points[holes]).all()
    assert np.array_equal(points[~holes], POINTS[~holes])


@pytest.mark.parametrize("data", ENCODINGS)
@pytest.mark.parametrize("declared", [5, 10**6, 10**12, int("9" * 18)])
def test_a_declared_count_allocates_nothing(data: str, declared: int) -> None:
    file = pcd(POINTS, data).replace(b"WIDTH 4", b"WIDTH %d" % declared).replace(b"POINTS 4", b"POINTS %d" % declared)
    if data == "binary_compressed":
        body = file.index(b"binary_compressed\n") + 18
        file = file[: body + 4] + struct.pack("<I", declared * 12 % 2**32) + file[body + 8 :]
    tracemalloc.start()
    with pytest.raises((MalformedBody, BodyTooLarge)):
        read_points(file)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_a_field_that_declares_very_many_values_costs_nothing() -> None:
    for data in ENCODINGS:
        with pytest.raises((MalformedBody, BodyTooLarge)):
            read_points(pcd(POINTS, data, fields="a y x").replace(b"COUNT 1", b"COUNT 99999999999999"))


def test_only_what_the_coordinates_need_is_unpacked() -> None:
    file = pcd(POINTS[:, [0, 1, 2, 0]], "binary_compressed", fields="x y z w")
    assert np.array_equal(read_points(file[:-1] + b"\xff"), POINTS)
    with pytest.raises(MalformedBody):
        read_points(file[:-1])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"TYPE F F F", b"TYPE F F"),
        (b"SIZE 4 4 4", b"SIZE 4 4 0"),
        (b"SIZE 4 4 4", b"SIZE 4 4 -4"),
        (b"COUNT 1 1 1", b"COUNT 1 1 0"),
        (b"POINTS 4", b"POINTS 3"),
        (b"POINTS 4", b"POINTS 4 4"),
        (b"POINTS 4", b"POINTS " + b"9" * 5000),
        (b"HEIGHT 1", b"HEIGHT 2"),
        (b"DATA binary", b"DATA zipped"),
        (b"DATA binary", b"DATUM binary"),
        (b"FIELDS x y z\n", b""),
    ],
)
def test_broken_headers_are_malformed(old: bytes, new: bytes) -> None:
    assert old in pcd(POINTS)
    with pytest.raises(MalformedBody):
        read_points(pcd(POINTS).replace(old, new))


@pytest.mark.parametrize(("old", "new"), [(b"FIELDS x y z", b"FIELDS a b c"), (b"FIELDS x y z", b"FIELDS x q z")])
def test_fields_without_coordinates_are_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(InvalidInput, match="which are not coordinates"):
        read_points(pcd(POINTS).replace(old, new))
    with pytest.raises(InvalidInput, match="of type F and size 2"):
        read_points(pcd_header("x", 2, "F", 1, "binary") + bytes(2))


def test_a_point_count_needs_a_width_or_points() -> None:
    with pytest.raises(MalformedBody, match="WIDTH"):
        read_points(b"VERSION .7\nFIELDS x\nSIZE 4\nTYPE F\nDATA ascii\n1\n")


def test_lzf_references_repeat_what_stands_before_them() -> None:
    # "ab", then 4 bytes from 2 back, then 270 bytes from 1 back.
    stream = bytes([1]) + b"ab" + bytes([2 << 5, 1]) + bytes([7 << 5, 255, 0])
    whole = b"ababab" + b"b" * 264
    assert decompress(stream, 10**6) == whole
    for wanted in range(len(whole)):
        assert decompress(stream, wanted) == whole[:wanted]
    rng = np.random.default_rng(0)
    for length in range(1, 300, 7):
        data = rng.integers(0, 2, length, np.uint8).tobytes()
        assert decompress(lzf_literals(data), length) == data


@pytest.mark.parametrize(
    "stream",
    [
        bytes([1]) + b"a",
        bytes([1 << 5, 0]),
        bytes([0, 65, 1 << 5, 1]),
        bytes([0, 65, 1 << 5]),
        bytes([0, 65, 7 << 5, 0]),
    ],
)
def test_lzf_never_reaches_outside_of_its_stream(stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"end|beginning|cut"):
        decompress(stream, 100)


def test_damaged_compressed_clouds_are_refused_or_read() -> None:
    whole = pcd(POINTS, "binary_compressed", code="<f8")
    start = whole.index(b"binary_compressed\n") + 18
    for at in range(start, len(whole)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(whole)
            damaged[at] ^= flip
            try:
                assert read_points(bytes(damaged)).shape == POINTS.shape
            except LatentserveError:
                continue


@pytest.mark.parametrize("data", ["ascii", "binary"])
def test_fields_that_hold_no_values_take_no_room(data: str) -> None:
    header = f"VERSION 0.7\nFIELDS x _ y\nSIZE 4 1 4\nTYPE F U F\nCOUNT 1 0 1\nWIDTH 2\nHEIGHT 1\nDATA {data}\n"
    body = b"1 2\n3 4\n" if data == "ascii" else struct.pack("<4f", 1, 2, 3, 4)
    assert read_points(header.encode() + body).tolist() == [[1, 2], [3, 4]]
