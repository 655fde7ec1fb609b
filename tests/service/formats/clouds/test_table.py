"""Tables of text: separators, names, comments, and errors that name the line."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import InvalidInput, LatentserveError, MalformedBody
from service.formats.clouds.reading import read_cloud


@pytest.mark.parametrize(
    "text",
    [
        "1 2\n3 4\n",
        "1 2\n3 4",
        "1 2\r\n3 4\r\n",
        "1 2\r3 4\r",
        "  1\t 2  \n\n\t3   4\n\n",
        "1,2\n3,4\n",
        "1, 2\n 3 ,4\n",
        "1;2\n3;4\n",
        "1\t2\n3\t4\n",
        '"1","2"\n"3","4"\n',
        "x,y\n1,2\n3,4\n",
        "x y\n1,2\n3,4\n",
        '"x";"y"\n1;2\n3;4\n',
        "east north\n1 2\n3 4\n",
        "# made by hand\n// or not\n1 2 # the first\n3 4 // the second\n#\n",
        "# x y\nx y\n1 2\n3 4\n",
        "\ufeff1 2\n3 4\n",
        "\ufeffx,y\n1,2\n3,4\n",
        "+1.0 2e0\n.3e1 4.\n",
        "# größe, größer\n1 2\n3 4\n",
        "id,y,x,intensity\n7,2,1,0.5\n8,4,3,0.5\n",
        "X Y\n1 2\n3 4\n",
    ],
)
def test_the_same_table_in_many_hands(text: str) -> None:
    assert read_cloud(text.encode(), "cloud.txt").tolist() == [[1, 2], [3, 4]]


def test_a_column_is_a_cloud_of_one_dimension_and_a_row_one_point() -> None:
    assert read_cloud(b"1\n2\n3").tolist() == [[1], [2], [3]]
    assert read_cloud(b"1,2,3,4").tolist() == [[1, 2, 3, 4]]
    assert read_cloud(b"7").tolist() == [[7]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2\n3\n", "line 2 has 1 values where the first row has 2"),
        ("1,2\n3,4,5\n", "line 2 has 3 values"),
        ("x,y,z\n1,2\n", "names 3 columns and line 2 has 2"),
        ("# a\n\n1 2\n3 four\n", "line 4: 'four' is not a number"),
        ("1,2\n3,\n", "line 2: '' is not a number; leave no field empty"),
        ("1;2\n3,5;4\n", "line 2: '3,5' is not a number; write decimal points"),
        ("3\nwater\nO 0 0 0\nH 1 0 0\n", "line 2: 'water'"),
        ("O 0 0 0\nH 1 0 0\n", "line 1: 'O' is not a number; a chemical XYZ"),
        ("1_000 2\n", "line 1: '1_000' is not a number"),
        ("1 0x10\n", "'0x10'"),
        ("1 2\n3 é\n", "'é'"),
        ("x y\n1 2\nx y\n", "line 3: 'x'"),
    ],
)
def test_errors_name_the_line_and_the_cure(text: str, words: str) -> None:
    with pytest.raises(MalformedBody) as caught:
        read_cloud(text.encode(), pointer="/source")
    assert words in caught.value.detail
    assert caught.value.pointer == "/source"


@pytest.mark.parametrize("text", ["\n \n", "# nothing\n", "x,y\n", "words alone\n"])
def test_a_table_without_rows_holds_no_points(text: str) -> None:
    with pytest.raises(InvalidInput, match="no points"):
        read_cloud(text.encode())


def test_names_with_z_but_without_y_are_no_coordinates() -> None:
    with pytest.raises(InvalidInput, match="no coordinates"):
        read_cloud(b"x,z\n1,2\n")


def test_not_a_number_is_read_and_refused_as_a_point() -> None:
    with pytest.raises(InvalidInput, match=r"1 of 2 points .* the first is point 1"):
        read_cloud(b"1 2\nnan 4\n")


@pytest.mark.parametrize("text", [b"1 " * 10**6, b"1" * (2**20 + 1), b"," * (2**20 + 1)])
def test_a_very_long_line_is_refused_before_it_is_split(text: bytes) -> None:
    with pytest.raises(LatentserveError, match="a line for each point"):
        read_cloud(text)


def test_digits_are_read_exactly() -> None:
    values = np.random.default_rng(0).normal(size=(100, 3)) * 10.0 ** np.arange(-150, 150).reshape(100, 3)
    text = "\n".join(" ".join(map(repr, row)) for row in values.tolist())
    assert np.array_equal(read_cloud(text.encode()), values)


@pytest.mark.parametrize(
    "header",
    [
        "TRACK_ID,POSITION_X,POSITION_Y,FRAME", '"id","x [nm]","y [nm]","sigma [nm]"', "id,X (um),Y (um),mean",
        "id,x_um,y_um,z0", "Easting,Northing", "id,Centroid X µm,Centroid Y µm,Area", "id,axis-1,axis-0,label",
        "id,centroid-1,centroid-0,area", "row_id,col,row,value", " ,X,Y,Width", "Unnamed: 0,x,y,frame",
        "ImageNumber,Location_Center_X,Location_Center_Y,Count", '"scalars","Points:0","Points:1","Normals:0"',
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_only_columns_that_are_named_as_coordinates_are_read(header: str, encoding: str) -> None:
    rows = ("1,2", "3,4") if header == "Easting,Northing" else ("7,1,2,0.5", "label,3,4,")
    text = "\n".join([header, *rows]) + "\n"
    assert read_cloud(text.encode(encoding)).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("header", ["id,frame", "lon,lat", "nx,ny", "x1,y1,x2,y2", "x [nm],y [um]", "x,x"])
def test_names_that_are_no_lengths_of_a_position_are_refused_and_listed(header: str) -> None:
    rows = ",".join("1" for _ in header.split(","))
    with pytest.raises(InvalidInput, match=header.split(",")[0].replace("[", r"\[")):
        read_cloud(f"{header}\n{rows}\n".encode())


def test_a_separator_at_the_end_of_each_line_is_no_column() -> None:
    assert read_cloud(b"1,2,\n3,4,\n").tolist() == [[1, 2], [3, 4]]
    assert read_cloud(b"x,y,\n1,2,\n3,4,\n").tolist() == [[1, 2], [3, 4]]
    with pytest.raises(MalformedBody, match="line 2 has 3 values"):
        read_cloud(b"1,2,\n3,4,5\n")
