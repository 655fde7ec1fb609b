"""Tables as other tools export them: only the coordinates are read, in the order x, y, z."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from service.errors import InvalidInput
from service.formats.clouds.columns import Columns
from service.formats.clouds.reading import read_cloud
from tests.service.formats.clouds.builders import read_points

PLANE = [[1.5, 2.5], [3.5, 4.5]]
SPACE = [[1.5, 2.5, 3.5], [4.5, 5.5, 6.5]]

EXPORTS: dict[str, tuple[str, list[list[float]]]] = {
    "CloudCompare ASCII": ("//X Y Z R G B\n1.5 2.5 3.5 9 8 7\n4.5 5.5 6.5 9 8 7\n", SPACE),
    "CloudCompare ASCII with a count": ("//X Y Z Intensity\n2\n1.5 2.5 3.5 0.1\n4.5 5.5 6.5 0.2\n", SPACE),
    "CloudCompare ASCII with semicolons": ("//X;Y;Z;R;G;B;A\n1.5;2.5;3.5;9;8;7;255\n4.5;5.5;6.5;9;8;7;255\n", SPACE),
    "CloudCompare ASCII with normals": (
        "//X Y Z R G B Nx Ny Nz Scalar_field\n1.5 2.5 3.5 9 8 7 0 0 1 0.3\n4.5 5.5 6.5 9 8 7 0 1 0 0.4\n", SPACE),
    "MeshLab XYZ with normals": ("1.5 2.5 3.5 0.0 0.6 0.8\n4.5 5.5 6.5 1 0 0\n", SPACE),
    "ImageJ results": (" ,Area,X,Y,XM,YM\n1,10,1.5,2.5,1.4,2.4\n2,11,3.5,4.5,3.4,4.4\n", PLANE),
    "ImageJ results, tabs": (" \tLabel\tX\tY\n1\ta.tif\t1.5\t2.5\n2\ta.tif\t3.5\t4.5\n", PLANE),
    "ImageJ centre of mass": (" ,Area,XM,YM\n1,10,1.5,2.5\n2,11,3.5,4.5\n", PLANE),
    "ImageJ points with a slice": (" ,X,Y,Slice,Counter\n1,1.5,2.5,1,0\n2,3.5,4.5,1,0\n", PLANE),
    "TrackMate spots": (
        "LABEL,ID,POSITION_X,POSITION_Y,POSITION_Z,RADIUS\nLabel,Spot ID,X,Y,Z,Radius\nLabel,Spot ID,X,Y,Z,R\n"
        ",,(micron),(micron),(micron),(micron)\nID1,1,1.5,2.5,3.5,9\nID2,2,4.5,5.5,6.5,9\n", SPACE),
    "napari points": ("index,axis-0,axis-1\n0,2.5,1.5\n1,4.5,3.5\n", PLANE),
    "napari points in space": ("index,axis-0,axis-1,axis-2\n0.0,3.5,2.5,1.5\n1.0,6.5,5.5,4.5\n", SPACE),
    "scikit-image": (",label,centroid-0,centroid-1,area\n0,1,2.5,1.5,8\n1,2,4.5,3.5,9\n", PLANE),
    "QuPath": (
        "Image\tObject ID\tName\tCentroid X µm\tCentroid Y µm\tArea µm^2\n"
        "a.svs\t1f2e\tTumor\t1.5\t2.5\t7\na.svs\t3a4b\t\t3.5\t4.5\t8\n", PLANE),
    "CellProfiler": (
        "ImageNumber,ObjectNumber,AreaShape_Area,Location_Center_X,Location_Center_Y,Location_Center_Z\n"
        "1,1,30,1.5,2.5,3.5\n1,2,31,4.5,5.5,6.5\n", SPACE),
    "CellProfiler shapes": (
        "ImageNumber,ObjectNumber,AreaShape_Area,AreaShape_Center_X,AreaShape_Center_Y\n1,1,30,1.5,2.5\n1,2,31,3.5,4.5\n",
        PLANE),
    "Imaris": (
        "\nPosition\n====================\nPosition X,Position Y,Position Z,Unit,Category,Collection,Time,TrackID,ID,\n"
        "1.5,2.5,3.5,um,Spot,Position,1,,0,\n4.5,5.5,6.5,um,Spot,Position,1,,1,\n", SPACE),
    "pandas": (",x,y,frame\n0,1.5,2.5,0\n1,3.5,4.5,1\n", PLANE),
    "pandas, index named by reading": ("Unnamed: 0,x,y,z\n0,1.5,2.5,3.5\n1,4.5,5.5,6.5\n", SPACE),
    "R write.table": ('"x" "y" "group"\n"1" 1.5 2.5 "a b"\n"2" 3.5 4.5 "c"\n', PLANE),
    "R write.table, numbers first": ('"id" "x" "y"\n"first" 7 1.5 2.5\n"second" 8 3.5 4.5\n', PLANE),
    "R write.csv": ('"","x","y","group"\n"1",1.5,2.5,"a, b"\n"2",3.5,4.5,NA\n', PLANE),
    "R write.csv2": ('"";"x";"y"\n"1";1,5;2,5\n"2";3,5;4,5\n', PLANE),
    "Excel, semicolons and decimal commas": ("Name;X;Y;Z\nA;1,5;2,5;3,5\nB;4,5;5,5;6,5\n", SPACE),
    "Excel, without names": ("1,5;2,5;3,5\n4,5;5,5;6,5\n", SPACE),
    "Excel, tabs and decimal commas": ("X\tY\tNote\n1,5\t2,5\ta, b\n3,5\t4,5\t\n", PLANE),
    "COMSOL": ("% Model: plate.mph\n% x y u\n1.5 2.5 7\n3.5 4.5 8\n", PLANE),
    "NumPy savetxt": ("# x y z\n1.5e+00 2.5e+00 3.5e+00\n4.5e+00 5.5e+00 6.5e+00\n", SPACE),
    "ParaView": ('"scalars","Points:0","Points:1","Points:2"\n0,1.5,2.5,3.5\n1,4.5,5.5,6.5\n', SPACE),
    "ThunderSTORM": ('"id","frame","x [nm]","y [nm]","sigma [nm]"\n1,8,1.5,2.5,110\n2,9,3.5,4.5,120\n', PLANE),
    "surveying": ("Point;Easting [m];Northing [m];Elevation [m];Code\n1;1.5;2.5;3.5;A\n2;4.5;5.5;6.5;B\n", SPACE),
}  # fmt: skip


@pytest.mark.parametrize("tool", EXPORTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_the_coordinates_of_an_export_are_read(tool: str, encoding: str) -> None:
    text, expected = EXPORTS[tool]
    assert read_points(text.encode(encoding)).tolist() == expected
    assert read_points(text.replace("\n", "\r\n").encode(encoding)).tolist() == expected


def test_of_two_sets_of_coordinates_the_warning_names_the_other() -> None:
    text, _ = EXPORTS["ImageJ results"]
    assert "'XM', 'YM'" in read_cloud(text.encode()).warnings[0]
    both = "ObjectNumber,AreaShape_Center_X,AreaShape_Center_Y,Location_Center_X,Location_Center_Y\n1,9,9,1.5,2.5\n"
    points, warnings = read_cloud(both.encode())
    assert points.tolist() == [[1.5, 2.5]]
    assert "AreaShape_Center_X" in warnings[0]


def test_the_order_of_array_axes_is_mentioned() -> None:
    assert "axis-1" in read_cloud(EXPORTS["napari points"][0].encode()).warnings[0]


@pytest.mark.parametrize("scalars", [b"scalar_Intensity", b"scalar_C2C_absolute_distances", b"quality"])
def test_ply_with_scalar_fields_and_faces_is_read(scalars: bytes) -> None:
    """As CloudCompare and MeshLab write it."""
    header = (
        b"ply\nformat binary_little_endian 1.0\ncomment VCGLIB generated\nobj_info Generated by CloudCompare!\n"
        b"element vertex 2\nproperty float x\nproperty float y\nproperty float z\n"
        b"property float nx\nproperty float ny\nproperty float nz\n"
        b"property int flags\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n"
        b"property uchar alpha\nproperty float " + scalars + b"\nelement face 1\n"
        b"property list uchar int vertex_indices\nproperty list uchar float texcoord\nend_header\n"
    )
    body = b"".join(struct.pack("<6fi4Bf", *row, 0, 0, 1, 0, 9, 8, 7, 255, 0.5) for row in SPACE)
    assert read_points(header + body + struct.pack("<B3iB", 3, 0, 1, 1, 0)).tolist() == SPACE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,lon,lat\n1,7.1,50.2\n", "angles"),
        ("# id lon lat\n1 7.1 50.2\n", "angles"),
        ("Area,Mean,Min,Max\n1,2,3,4\n", "'Area', 'Mean'"),
        ("BX,BY,Width,Height\n1,2,3,4\n", "'BX', 'BY'"),
        ("x,y [px],y [um]\n1,2,3\n", "different units"),
    ],
)
def test_columns_that_are_no_coordinates_are_named_in_the_error(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match="no names of coordinates") as caught:
        read_points(text.encode())
    assert words in caught.value.detail


def test_the_cure_that_an_error_names_works() -> None:
    text = b"track,BX,BY\n7,1.5,2.5\n8,3.5,4.5\n"
    with pytest.raises(InvalidInput, match="columns="):
        read_points(text)
    assert np.array_equal(read_cloud(text, columns=Columns(("BX", "BY"))).points, PLANE)
