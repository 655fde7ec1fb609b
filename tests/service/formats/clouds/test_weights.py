"""Columns of weights: which names they have, that they are no coordinates, and which weights are refused."""

from __future__ import annotations

import io

import numpy as np
import pytest

from service.errors import InvalidInput
from service.formats.clouds.columns import Columns
from service.formats.clouds.reading import read_cloud, read_weighted
from service.formats.clouds.weights import weight_column

POINTS = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0]])
WEIGHTS = np.array([0.5, 0.0, 2.0])
ROWS = "\n".join(",".join(map(str, (*p, w, 255))) for p, w in zip(POINTS.tolist(), WEIGHTS.tolist(), strict=True))


def ply(kind: str, name: str) -> bytes:
    header = (
        f"ply\nformat {kind} 1.0\nelement vertex 3\nproperty float {name}\nproperty double x\nproperty double y\n"
        "property double z\nproperty uchar red\nend_header\n"
    )
    if kind == "ascii":
        rows = "".join(f"{w} {p[0]} {p[1]} {p[2]} 7\n" for p, w in zip(POINTS, WEIGHTS, strict=True))
        return (header + rows).encode()
    records = np.zeros(3, [("w", "<f4"), ("p", "<f8", 3), ("red", "u1")])
    records["w"], records["p"] = WEIGHTS, POINTS
    return header.encode() + records.tobytes()


def pcd(kind: str, count: int = 1) -> bytes:
    header = (
        f"VERSION 0.7\nFIELDS x y z confidence\nSIZE 8 8 8 8\nTYPE F F F F\nCOUNT 1 1 1 {count}\nWIDTH 3\nHEIGHT 1\n"
        f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 3\nDATA {kind}\n"
    )
    table = np.column_stack([POINTS, *[WEIGHTS] * count])
    if kind == "ascii":
        return (header + "".join(" ".join(map(str, row)) + "\n" for row in table.tolist())).encode()
    return header.encode() + table.tobytes()


def archive(**arrays: object) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def records() -> bytes:
    out = io.BytesIO()
    table = np.zeros(3, [("x", "f8"), ("y", "f8"), ("z", "f8"), ("Weight", "f4")])
    table["x"], table["y"], table["z"] = POINTS.T
    table["Weight"] = WEIGHTS
    np.save(out, table)
    return out.getvalue()


FILES = {
    "csv": f"x,y,z,Confidence,red\n{ROWS}\n".encode(),
    "units": f"x [nm],y [nm],z [nm],weight (a.u.),red\n{ROWS}\n".encode(),
    "comment": f"# x,y,z,weights,red\n{ROWS}\n".encode(),
    "ply": ply("ascii", "confidence"),
    "binary ply": ply("binary_little_endian", "scalar_Confidence"),
    "pcd": pcd("ascii"),
    "binary pcd": pcd("binary"),
    "npz": archive(x=POINTS[:, 0], y=POINTS[:, 1], z=POINTS[:, 2], weight=WEIGHTS),
    "records": records(),
}


@pytest.mark.parametrize("name", FILES)
def test_a_column_of_weights_is_read_as_weights_and_not_as_a_coordinate(name: str) -> None:
    cloud, weights = read_weighted(FILES[name])
    assert np.array_equal(cloud.points, POINTS)
    assert cloud.points.flags.carray
    assert weights is not None
    assert weights.values.tolist() == WEIGHTS.tolist()
    assert np.array_equal(read_cloud(FILES[name]).points, POINTS)


@pytest.mark.parametrize("name", ["weight", "Weights", "CONFIDENCE", "conf", "scalar_confidence", "weight [1]"])
def test_names_that_tools_write_are_known(name: str) -> None:
    assert weight_column(["x", "y", name]) == 2


@pytest.mark.parametrize("name", ["w", "weight_x", "intensity", "quality", "bodyweight", "weight class"])
def test_other_names_are_no_weights(name: str) -> None:
    assert weight_column(["x", "y", name]) is None


def test_a_weight_comes_before_a_confidence_and_two_equal_names_are_none() -> None:
    assert weight_column(["confidence", "x", "weight"]) == 2
    assert weight_column(["weight", "x", "Weight"]) is None


def test_a_column_that_is_chosen_as_a_coordinate_is_no_weight() -> None:
    cloud, weights = read_weighted(FILES["csv"], columns=Columns(("x", "Confidence")))
    assert weights is None
    assert np.array_equal(cloud.points, np.column_stack([POINTS[:, 0], WEIGHTS]))
    cloud, weights = read_weighted(FILES["csv"], columns=Columns(("z", "y")))
    assert weights is not None
    assert np.array_equal(cloud.points, POINTS[:, [2, 1]])


def test_files_without_such_a_column_have_no_weights() -> None:
    for data in (b"x,y,z,red\n1,2,3,4\n5,6,7,8\n", b"1 2 3 0.5\n4 5 6 0.5\n", pcd("ascii", count=2)):
        assert read_weighted(data)[1] is None


def test_a_list_of_confidences_is_no_column_of_weights() -> None:
    header = (
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n"
        b"property list uchar float confidence\nend_header\n"
    )
    cloud, weights = read_weighted(header + b"1 2 2 0.5 0.5\n")
    assert weights is None
    assert cloud.points.tolist() == [[1, 2]]


def test_points_without_coordinates_keep_their_place_among_the_weights() -> None:
    cloud, weights = read_weighted(b"x,y,weight\n1,2,3\nNA,4,NA\n5,6,0\n")
    assert np.isnan(cloud.points[1]).all()
    assert weights is not None
    assert weights.values[[0, 2]].tolist() == [3, 0]


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("1,2,3\n4,5,-1\n", "point 1"),
        ("1,2,NA\n4,5,1\n", "point 0"),
        ("1,2,1\n4,5,inf\n", "point 1"),
        ("1,2,0\n4,5,0\n", "all of them are 0"),
    ],
)
def test_weights_that_are_none_are_refused_with_the_cure(rows: str, fault: str) -> None:
    data = f"x,y,weight\n{rows}".encode()
    with pytest.raises(InvalidInput, match=fault) as caught:
        read_weighted(data, pointer="/source")
    assert "source_weights=null" in str(caught.value.allowed)
    assert read_cloud(data).points.shape == (2, 2)
