"""Columns of normals: which names they have, that they are no coordinates, and that they refuse no file."""

from __future__ import annotations

import numpy as np
import pytest

from service.formats.clouds.columns import Columns
from service.formats.clouds.normals import normal_columns
from service.formats.clouds.reading import read_cloud, read_scan

POINTS = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0]])
NORMALS = np.array([[0.0, 0.0, 1.0], [np.nan, 0.0, 0.0], [0.0, -2.0, 0.0]])
WEIGHTS = np.array([1.0, 2.0, 3.0])


def ply(kind: str) -> bytes:
    """The normals come before the points, and the weights between."""
    names = ["nx", "ny", "nz", "confidence", "x", "y", "z"]
    header = f"ply\nformat {kind} 1.0\nelement vertex 3\n"
    header += "".join(f"property double {name}\n" for name in names) + "end_header\n"
    table = np.column_stack([NORMALS, WEIGHTS, POINTS])
    if kind == "ascii":
        return (header + "".join(" ".join(map(str, row)) + "\n" for row in table.tolist())).encode()
    return header.encode() + table.astype("<f8" if "little" in kind else ">f8").tobytes()


def pcd(kind: str) -> bytes:
    names = "x y z confidence normal_x normal_y normal_z"
    header = (
        f"VERSION 0.7\nFIELDS {names}\nSIZE{' 8' * 7}\nTYPE{' F' * 7}\nCOUNT{' 1' * 7}\nWIDTH 3\nHEIGHT 1\n"
        f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 3\nDATA {kind}\n"
    )
    table = np.column_stack([POINTS, WEIGHTS, NORMALS])
    if kind == "ascii":
        return (header + "".join(" ".join(map(str, row)) + "\n" for row in table.tolist())).encode()
    return header.encode() + table.astype("<f8").tobytes()


FILES = [ply("ascii"), ply("binary_little_endian"), ply("binary_big_endian"), pcd("ascii"), pcd("binary")]


@pytest.mark.parametrize("data", FILES, ids=["ascii ply", "little ply", "big ply", "ascii pcd", "binary pcd"])
def test_normals_of_ply_and_pcd_are_read_beside_the_points(data: bytes) -> None:
    cloud, weights, normals = read_scan(data)
    np.testing.assert_array_equal(cloud.points, POINTS)
    assert cloud.warnings == ()
    assert weights is not None
    np.testing.assert_array_equal(weights.values, WEIGHTS)
    np.testing.assert_array_equal(normals, NORMALS)
    plain = read_cloud(data)
    np.testing.assert_array_equal(plain.points, POINTS)
    assert read_scan(data, normals=False)[2] is None


@pytest.mark.parametrize("data", FILES[:1] + FILES[3:4])
def test_chosen_columns_have_no_normals(data: bytes) -> None:
    cloud, _, normals = read_scan(data, columns=Columns(("z", "x", "y")))
    np.testing.assert_array_equal(cloud.points, POINTS[:, [2, 0, 1]])
    assert normals is None


def test_normals_do_not_count_as_numbers_of_the_cloud() -> None:
    assert read_scan(pcd("binary"), max_elements=12)[2] is not None


def test_names_of_normals() -> None:
    assert normal_columns(["x", "NX", "ny", "nz"]) == [1, 2, 3]
    assert normal_columns(["normal_z", "normal_x", "normal_y"]) == [1, 2, 0]
    assert normal_columns(["nx", "ny"]) is None
    assert normal_columns(["nx", "ny", "nz", "nz"]) is None
