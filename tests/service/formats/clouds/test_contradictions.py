"""Files that contradict their headers, or whose columns have doubtful names: refused, or read with a warning."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest

from service.errors import InvalidInput, MalformedBody
from service.formats.clouds.columns import Columns
from service.formats.clouds.reading import read_cloud
from tests.service.formats.clouds.builders import archive, npy, pcd, ply, read_points

POINTS = np.arange(12.0).reshape(4, 3) + 0.5
FACES = b"element face 2\nproperty list uchar int vertex_indices\n"
EDGES = b"element edge 1\nproperty int a\nproperty int b\n"


def mesh(order: str, declared: int, elements: bytes, rows: list[tuple[str, list[int]]]) -> bytes:
    """Four vertices, of which some are declared, and elements after them."""
    whole = ply(POINTS, order=order).replace(b"vertex 4", b"vertex %d" % declared)
    whole = whole.replace(b"end_header", elements + b"end_header")
    for code, row in rows:
        whole += struct.pack(order + code, *row) if order else (" ".join(map(str, row)) + "\n").encode()
    return whole


@pytest.mark.parametrize("order", ["", "<", ">"])
@pytest.mark.parametrize(
    ("elements", "rows"),
    [
        (b"", []),
        (FACES, [("B3i", [3, 0, 1, 2]), ("B4i", [4, 0, 1, 2, 3])]),
        (EDGES, [("2i", [0, 1])]),
        (EDGES + FACES, [("2i", [0, 1]), ("Bi", [1, 0]), ("B", [0])]),
    ],
)
def test_rows_of_a_ply_file_that_no_element_declares_have_a_warning(
    order: str, elements: bytes, rows: list[tuple[str, list[int]]]
) -> None:
    whole = mesh(order, 4, elements, rows)
    assert not read_cloud(whole).warnings
    assert not read_cloud(whole + b"\n").warnings
    points, warnings = read_cloud(whole + (b"\1" * 24 if order else b"7 8 9\n"))
    assert np.array_equal(points, POINTS)
    assert "declares 4 vertices" in warnings[0]
    if not elements:
        points, warnings = read_cloud(mesh(order, 3, elements, rows))
        assert np.array_equal(points, POINTS[:3])
        assert "declares 3 vertices" in warnings[0]


@pytest.mark.parametrize("order", ["", "<", ">"])
def test_a_cut_or_large_element_after_the_vertices_is_no_error(order: str) -> None:
    for faces in (2, 10**6, 10**15):
        elements = FACES.replace(b"face 2", b"face %d" % faces)
        points, warnings = read_cloud(mesh(order, 4, elements, [("B3i", [3, 0, 1, 2])]))
        assert np.array_equal(points, POINTS)
        assert not warnings


def test_bytes_of_a_pcd_file_that_its_header_does_not_declare_have_a_warning() -> None:
    whole = pcd(POINTS)
    assert not read_cloud(whole).warnings
    fewer = whole.replace(b"WIDTH 4", b"WIDTH 3").replace(b"POINTS 4", b"POINTS 3")
    points, warnings = read_cloud(fewer)
    assert np.array_equal(points, POINTS[:3])
    assert warnings == ("the PCD header declares 3 points, and 12 bytes follow that are not read",)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(("point_format", "version"), [(3, "1.2"), (4, "1.3"), (7, "1.4")])
def test_a_las_file_of_more_points_than_its_header_declares_has_a_warning(
    compress: bool, point_format: int, version: str
) -> None:
    laspy = pytest.importorskip("laspy", reason="the extra `las` is not installed")
    cloud = laspy.LasData(laspy.LasHeader(point_format=point_format, version=version))
    cloud.x, cloud.y, cloud.z = np.arange(15.0).reshape(3, 5)
    cloud.return_number = np.ones(5, np.uint8)
    out = io.BytesIO()
    cloud.write(out, do_compress=compress, laz_backend=laspy.LazBackend.Lazrs if compress else None)
    data = out.getvalue()
    points, warnings = read_cloud(data)
    assert not warnings
    fewer = bytearray(data)
    if version == "1.4":
        struct.pack_into("<Q", fewer, 247, 3)
    if version != "1.4" or struct.unpack_from("<I", data, 107)[0]:
        struct.pack_into("<I", fewer, 107, 3)
    some, warnings = read_cloud(bytes(fewer))
    assert np.array_equal(some, points[:3])
    assert "declares 3 points, and the file seems to have 5" in warnings[0]


def records(names: str) -> bytes:
    return npy(np.ones(4, [(name, "f8") for name in names]))


@pytest.mark.parametrize(
    "data",
    [
        ply(POINTS, names="xyx"), ply(POINTS, order="", names="xyx"), ply(POINTS, names="xyX"),
        pcd(POINTS, fields="x y x"), pcd(POINTS, "ascii", fields="x Y y"), records("xXy"), records("xyY"),
        archive({name: npy(np.ones(3)) for name in ("x.npy", "X.npy", "y.npy")}), b"x,y,x\n1,2,3\n",
    ],
)  # fmt: skip
def test_two_coordinates_of_one_name_are_refused_and_can_be_chosen(data: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"named '[xXyY]'.*columns="):
        read_points(data)
    assert read_cloud(data, columns=Columns((0, 1))).points.shape[1] == 2


def test_of_two_arrays_named_for_points_the_warning_names_the_one_that_is_not_read() -> None:
    points, warnings = read_cloud(archive({"xyz.npy": npy(POINTS + 1), "points.npy": npy(POINTS)}))
    assert np.array_equal(points, POINTS)
    assert warnings == ("the array 'points' of the archive is read, not 'xyz'",)


def test_an_archive_of_another_file_is_named() -> None:
    for name in ("a.csv", "cloud.ply"):
        with pytest.raises(InvalidInput, match=f"holds '{name}', no array; send it unpacked"):
            read_points(archive({name: b"1,2\n3,4\n"}))


@pytest.mark.parametrize(
    "header",
    [
        "x (deg),y (deg),z (deg)", "x [°],y [°],z [m]", "x (rad),y (rad),n", "Longitude,Latitude,x", "long,lat,x",
        "lon,lat,z", "x,lng,lat",
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", ["", "# "])
def test_angles_are_refused_whatever_is_beside_them(header: str, mark: str) -> None:
    with pytest.raises(InvalidInput, match="angles"):
        read_points(f"{mark}{header}\n1,2,3\n4,5,6\n".encode())


def test_lengths_beside_angles_are_read() -> None:
    assert read_points(b"lon,lat,x,y\n7,50,1,2\n").tolist() == [[1, 2]]
    assert read_points(b"x (deg),y (deg),x [m],y [m]\n7,50,1,2\n").tolist() == [[1, 2]]


def scan(matrix: str) -> bytes:
    return f"2\n1\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n{matrix}\n1 2 3 .5\n4 5 6 .5\n".encode()


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        ("0 0 0 0\n" * 3 + "0 0 0 0", "fourth column"),
        ("0 0 0 0\n" * 3 + "0 0 0 1", "singular"),
        ("1 0 0 0\n0 1 0 0\n1 1 0 0\n5 5 5 1", "singular"),
        ("1 0 0 5\n0 1 0 5\n0 0 1 5\n0 0 0 1", "fourth column"),
        ("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 2", "fourth column"),
    ],
)
def test_a_matrix_of_a_ptx_file_that_places_no_points_is_refused(matrix: str, words: str) -> None:
    assert read_points(scan("0 1 0 0\n-1 0 0 0\n0 0 1 0\n5 6 7 1")).tolist() == [[3, 7, 10], [0, 10, 13]]
    assert len(read_points(scan("1e-9 0 0 0\n0 1e-9 0 0\n0 0 1e-9 0\n5 6 7 1"))) == 2
    with pytest.raises(MalformedBody, match=f"the matrix of the scan at line 1 .*{words}") as caught:
        read_points(scan(matrix))
    assert caught.value.allowed


def test_errors_of_later_scans_name_the_line_and_the_matrix() -> None:
    good = scan("1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1")
    for bad in ("nan 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1", "1 0 0\n" * 4, "one 0 0 0\n" * 4):
        with pytest.raises(MalformedBody, match="the matrix of the scan at line 13"):
            read_points(good + scan(bad.strip()))
    for rest in (b"1 2 3 .5\n", b"-2\n1\n", b"1_0\n1\n", b"2\n"):
        with pytest.raises(MalformedBody, match="line 13"):
            read_points(good + rest)


@pytest.mark.parametrize("blank", ["\n", "  \n", "\r\n"])
def test_atomic_numbers_after_a_blank_comment_are_elements(blank: str) -> None:
    text = f"3\n{blank}6 0 0 .5\n1 1.5 0 0\n118 0 2e0 -1\n"
    points, warnings = read_cloud(text.encode())
    assert points.tolist() == [[0, 0, 0.5], [1.5, 0, 0], [0, 2, -1]]
    assert "atomic numbers" in warnings[0]
    with pytest.raises(InvalidInput, match="another frame"):
        read_points((text + text).encode())
    with pytest.raises(MalformedBody, match="declares 4 atoms"):
        read_points(text.replace("3", "4", 1).encode())
    for number in ("119", "0", "1.5"):
        assert "XYZI" in read_cloud(text.replace("118", number).encode()).warnings[0]
    pts = "3\n" + text[2:].lstrip()
    assert "XYZI" in read_cloud(pts.encode()).warnings[0]


@pytest.mark.parametrize(
    "data",
    [
        ply(POINTS)[:-1], ply(POINTS, order="")[:-9], ply(POINTS).replace(b"end_header", b"end"),
        ply(POINTS).replace(b"format", b"formed"), pcd(POINTS)[:-1], pcd(POINTS, "binary_compressed")[:-1],
        pcd(POINTS).replace(b"DATA binary", b"DATA zipped"), pcd(POINTS).replace(b"POINTS 4", b"POINTS 5"),
        npy(POINTS)[:-1], npy(POINTS) + b"1", b"1 2\n3\n", b"1 2\n3 x\n", b"x,y,z\n1,2\n", b"2\n\nO 0 0 0\n",
        b"2\n1 2 3\n",
    ],
)  # fmt: skip
def test_errors_of_damaged_files_name_what_is_allowed(data: bytes) -> None:
    with pytest.raises(MalformedBody) as caught:
        read_points(data)
    assert caught.value.allowed
