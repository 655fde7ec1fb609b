"""PLY: every encoding and type of its vertices, whatever else the file holds; nothing is allocated on its word."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest

from service.errors import BodyTooLarge, InvalidInput, LatentserveError, MalformedBody
from tests.service.formats.clouds.builders import ply, read_points

POINTS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [10.0, 11.0, 12.0]])


@pytest.mark.parametrize("order", ["", "<", ">"])
@pytest.mark.parametrize("kind", ["float", "double", "int", "short", "uchar"])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_every_encoding_and_type(order: str, kind: str, dimension: int) -> None:
    points = POINTS[:, :dimension]
    assert np.array_equal(read_points(ply(points, order=order, kind=kind)), points)


def test_ascii_coordinates_are_read_as_doubles_whatever_their_declared_type() -> None:
    assert read_points(ply(np.array([[0.1]]), order="", kind="float"))[0, 0] == 0.1


@pytest.mark.parametrize("order", ["", "<", ">"])
def test_other_properties_and_elements_on_both_sides_are_passed_over(order: str) -> None:
    form = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    header = (
        f"ply\nformat {form} 1.0\ncomment element vertex 99\nobj_info scanner\n"
        "element camera 1\nproperty float a\nproperty uchar b\n"
        "element strip 2\nproperty list uchar int items\nproperty double weight\n"
        "element vertex 2\nproperty uchar red\nproperty float z\nproperty double x\nproperty short y\nproperty int id\n"
        "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
    ).encode()
    rows: list[tuple[str, list[float]]] = [
        ("fB", [0.5, 7]), ("Biiid", [3, 1, 2, 3, 0.5]), ("Bd", [0, 0.25]),
        ("Bfdhi", [255, 3, 1, 2, 9]), ("Bfdhi", [255, 6, 4, 5, 9]),
        ("Biii", [3, 0, 1, 2]), ("Biiii", [4, 0, 1, 2, 3]),
    ]  # fmt: skip
    if order:
        whole = [[int(v) if c in "Bhi" else v for c, v in zip(code, row, strict=True)] for code, row in rows]
        body = b"".join(struct.pack(order + code, *row) for (code, _), row in zip(rows, whole, strict=True))
    else:
        body = b"\n".join(" ".join(f"{value:g}" for value in row).encode() for _, row in rows) + b"\n"
    assert read_points(header + body).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("order", ["", "<"])
def test_carriage_returns_and_blank_lines_are_read(order: str) -> None:
    data = ply(POINTS, order=order)
    end = data.index(b"end_header\n") + 11
    header, body = data[:end].replace(b"\n", b"\r\n"), data[end:]
    assert np.array_equal(read_points(header + (body if order else body.replace(b"\n", b"\r\n\r\n"))), POINTS)


@pytest.mark.parametrize("order", ["", "<", ">"])
@pytest.mark.parametrize("declared", [5, 10**6, 10**12, int("9" * 18)])
def test_a_declared_count_allocates_nothing(order: str, declared: int) -> None:
    data = ply(POINTS, order=order).replace(b"vertex 4", b"vertex %d" % declared)
    tracemalloc.start()
    with pytest.raises((MalformedBody, BodyTooLarge)):
        read_points(data)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@pytest.mark.parametrize("element", [b"element face 1\n", b"element face 1000000\n", b"element face 999999999999\n"])
def test_lists_that_declare_more_than_is_there_are_refused_at_once(element: bytes) -> None:
    for count in (b"uint", b"uint64", b"int64", b"char"):
        before = element + b"property list " + count + b" double items\n"
        for order in ("<", ">"):
            header = ply(POINTS[:0], order=order, before=before).replace(b"vertex 0", b"vertex 4")
            with pytest.raises(LatentserveError):
                read_points(header + b"\xfe" * 300)


def test_a_vertex_element_without_coordinates_is_refused() -> None:
    for names in ("abc", "yza", "xzy"):
        read = ply(POINTS, names=names)
        if names == "xzy":
            assert read_points(read).tolist() == POINTS[:, [0, 2, 1]].tolist()
        else:
            with pytest.raises(InvalidInput, match="which are not coordinates"):
                read_points(read)
    with pytest.raises(InvalidInput, match="which are not coordinates"):
        read_points(ply(POINTS[:, :2], names="xz"))
    with pytest.raises(InvalidInput, match="no element vertex"):
        read_points(ply(POINTS).replace(b"element vertex", b"element points"))
    with pytest.raises(InvalidInput, match="0 points"):
        read_points(ply(POINTS[:0]))
    with pytest.raises(InvalidInput, match="a list, y"):
        read_points(ply(POINTS).replace(b"double y", b"list uchar int y"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"format binary_little_endian 1.0\n", b""),
        (b"1.0", b"2.0"),
        (b"binary_little_endian", b"binary_middle_endian"),
        (b"vertex 4", b"vertex -4"),
        (b"vertex 4", b"vertex four"),
        (b"vertex 4", b"vertex " + b"9" * 5000),
        (b"double x", b"quad x"),
        (b"double x", b"list float int x"),
        (b"element vertex 4\n", b""),
        (b"end_header", b"end"),
        (b"comment", b"remark"),
    ],
)
def test_broken_headers_are_malformed(old: bytes, new: bytes) -> None:
    with pytest.raises(MalformedBody):
        read_points(ply(POINTS).replace(old, new), pointer="/source")


def test_ascii_rows_of_another_width_or_other_words_are_malformed() -> None:
    data = ply(POINTS, order="")
    for old, new in ((b"5.0", b"five"), (b"5.0 ", b""), (b"5.0", b"5.0 5.0"), (b"1.0 2.0 3.0\n", b"")):
        assert old in data
        with pytest.raises(MalformedBody):
            read_points(data.replace(old, new))


@pytest.mark.parametrize("order", ["", "<", ">"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_headers_with_lone_carriage_returns_and_byte_order_marks_are_read(order: str, mark: bytes) -> None:
    # The first byte of the vertices is a line feed, which a lone carriage return does not take along.
    points = np.array([[2570.0, 1.0], [2570.0, 2.0]])
    data = ply(points, order=order, kind="short")
    end = data.index(b"end_header\n") + 11
    header, body = data[:end].replace(b"\n", b"\r"), data[end:]
    whole = header + (body if order else body.replace(b"\n", b"\r"))
    if not order:
        whole = whole.replace(b"property short", b"property float")
    assert np.array_equal(read_points(mark + whole), points)


@pytest.mark.parametrize("order", ["", "<", ">"])
@pytest.mark.parametrize("names", [("x", "y", "z", "a", "b"), ("a", "x", "b", "y", "z")])
def test_lists_of_vertices_are_passed_over(order: str, names: tuple[str, ...]) -> None:
    form = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    kinds = {"a": "list uint double", "b": "list uchar short"}
    properties = "".join(f"property {kinds.get(name, 'float')} {name}\n" for name in names)
    data = f"ply\nformat {form} 1.0\nelement vertex {len(POINTS)}\n{properties}end_header\n".encode()
    for row, point in enumerate(POINTS):
        values = dict(zip("xyz", point.tolist(), strict=True))
        for name in names:
            items = [] if name in values else [7] * (row % 3 + (name == "b"))
            if not order:
                data += (
                    f"{values[name]!r} " if name in values else " ".join(map(str, [len(items), *items])) + " "
                ).encode()
            elif name in values:
                data += struct.pack(f"{order}f", values[name])
            elif name == "a":
                data += struct.pack(f"{order}I{len(items)}d", len(items), *items)
            else:
                data += struct.pack(f"{order}B{len(items)}h", len(items), *items)
        data += b"" if order else b"\n"
    assert np.array_equal(read_points(data), POINTS)
    for length in (len(data) - 8, 2 * len(data) // 3):
        with pytest.raises(MalformedBody):
            read_points(data[:length])


def test_a_list_of_negative_length_is_malformed() -> None:
    header = b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty list int int a\nend_header\n"
    for row in (b"1 -1\n", b"1 2 3\n", b"1 one\n", b"1 0 9\n"):
        with pytest.raises(MalformedBody, match="vertex 0"):
            read_points(header + row)
