"""Tables of text: separators, names, comments, and errors that name the line."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import InvalidInput, LatentserveError, MalformedBody
from service.formats.clouds.columns import Columns
from service.formats.clouds.reading import read_cloud
from service.formats.clouds.text import MAX_FIELDS
from tests.service.formats.clouds.builders import read_points


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
        "x;y\n1,0;2,0\n3,0;4,0\n",
        "sep=;\nx;y;note\n1,0;2;a, b\n3,0;4;\n",
        '"x" "y"\n"1" 1 2\n"2" 3 4\n',
        "x\ty\tlabel\n1\t2\t\n3\t4\ttwo words\n",
        "label\tx\ty\n\t1\t2\none\t3\t4\n",
        "//X Y\n1 2\n3 4\n",
        "2\n1 2\n3 4\n",
        "//X Y\n2\n1 2\n3 4\n",
        "ID,X,Y\nSpot,X coordinate,Y coordinate\n,(micron),(micron)\n7,1,2\n8,3,4\n",
        "ImageJ results\n\n====\nLabel,X,Y\n7,1,2\n8,3,4\n",
        'name,x,y\n"a, b",1,2\nc,3,4\n',
        "x,y,colour\n1,2,#ff0000\n3,4,#00ff00\n",
        "x (um) y (um)\n1 2\n3 4\n",
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
    assert read_points(text.encode(), "cloud.txt").tolist() == [[1, 2], [3, 4]]


def test_a_column_is_a_cloud_of_one_dimension_and_a_row_one_point() -> None:
    assert read_points(b"1\n2\n3").tolist() == [[1], [2], [3]]
    assert read_points(b"1,2,3,4,5").tolist() == [[1, 2, 3, 4, 5]]
    assert read_points(b"7").tolist() == [[7]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2\n3\n", "line 2 has 1 values where the first row has 2"),
        ("1,2\n3,4,5\n", "line 2 has 3 values"),
        ("x,y,z\n1,2\n", "names 3 columns and line 2 has 2"),
        ("# a\n\n1 2\n3 four\n", "line 4: 'four' is not a number"),
        ("1,2\n3,\n", "line 2: '' is not a number; leave no field empty"),
        ("1;2\n1.234,5;4\n", "line 2: '1.234,5' is not a number; write decimal points"),
        ("O 0 0 0\nH 1 0 0\n", "line 1: 'O' is not a number; a chemical XYZ"),
        ("v 0 0 0\nv 1 0 0\n", "line 1: 'v' is not a number; OBJ"),
        ("1_000 2\n", "line 1: '1_000' is not a number"),
        ("1 0x10\n", "'0x10'"),
        ("1 2\n3 é\n", "'é'"),
        ("x y\n1 2\nx y\n", "line 3: 'x'"),
    ],
)
def test_errors_name_the_line_and_the_cure(text: str, words: str) -> None:
    with pytest.raises(MalformedBody) as caught:
        read_points(text.encode(), pointer="/source")
    assert words in caught.value.detail
    assert caught.value.pointer == "/source"


@pytest.mark.parametrize("text", ["\n \n", "# nothing\n", "x,y\n", "words alone\n"])
def test_a_table_without_rows_holds_no_points(text: str) -> None:
    with pytest.raises(InvalidInput, match="no points"):
        read_points(text.encode())


def test_names_with_z_but_without_y_are_no_coordinates() -> None:
    with pytest.raises(InvalidInput, match="no names of coordinates"):
        read_points(b"x,z\n1,2\n")


@pytest.mark.parametrize(
    "text",
    [
        "1 2\nnan 4\n5 6\n",
        "1,2\nNA,4\n5,6\n",
        "1 2\n-1.#IND 1.#QNAN\n5 6\n",
        "x,y\n1,2\n,4\n5,6\n",
        'x;y;note\n1,0;2,0;""\n;4,5;"a;b"\n5;6;NA\n',
        "id\tx\ty\n0\t1\t2\n1\tnull\t\n2\t5\t6\n",
        "x,y,\n1,2,\nnone,4,\n5,6,\n",
    ],
)
def test_a_missing_coordinate_is_nan_and_the_row_keeps_its_place(text: str) -> None:
    points, warnings = read_cloud(text.encode())
    assert points[[0, 2]].tolist() == [[1, 2], [5, 6]]
    assert np.isnan(points[1]).all()
    assert warnings[0].startswith("1 of 3 points")


def test_words_that_are_not_missing_numbers_are_named_beside_those_that_are() -> None:
    with pytest.raises(MalformedBody, match="line 4: 'five'"):
        read_points(b"x,y\n1,NA\n,4\n3,five\n")


@pytest.mark.parametrize("text", [b"1 " * 10**6, b"1" * (2**20 + 1), b"," * (2**20 + 1)])
def test_a_very_long_line_is_refused_before_it_is_split(text: bytes) -> None:
    with pytest.raises(LatentserveError, match="a line for each point"):
        read_points(text)


@pytest.mark.parametrize("separator", [",", " ", ";"])
def test_a_row_of_very_many_fields_is_refused_before_it_is_read(separator: str) -> None:
    row = separator.join(["1"] * (MAX_FIELDS + 1))
    with pytest.raises(MalformedBody, match=f"line 2 has {MAX_FIELDS + 1} fields"):
        read_points(f"\n{row}\n{row}".encode())
    assert read_points(row[:-2].encode()).shape == (1, MAX_FIELDS)


def test_digits_are_read_exactly() -> None:
    values = np.random.default_rng(0).normal(size=(100, 3)) * 10.0 ** np.arange(-150, 150).reshape(100, 3)
    text = "\n".join(" ".join(map(repr, row)) for row in values.tolist())
    assert np.array_equal(read_points(text.encode()), values)


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
    assert read_points(text.encode(encoding)).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("header", ["id,frame", "lon,lat", "nx,ny", "x1,y1,x2,y2", "x [nm],y [um]", "x,x"])
def test_names_that_are_no_lengths_of_a_position_are_refused_and_listed(header: str) -> None:
    rows = ",".join("1" for _ in header.split(","))
    with pytest.raises(InvalidInput, match=header.split(",")[0].replace("[", r"\[")):
        read_points(f"{header}\n{rows}\n".encode())


def test_a_separator_at_the_end_of_each_line_is_no_column() -> None:
    assert read_points(b"1,2,\n3,4,\n").tolist() == [[1, 2], [3, 4]]
    assert read_points(b"x,y,\n1,2,\n3,4,\n").tolist() == [[1, 2], [3, 4]]
    with pytest.raises(MalformedBody, match="line 2 has 3 values"):
        read_points(b"1,2,\n3,4,5\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_read_by_its_byte_order_mark(encoding: str) -> None:
    mark = "" if encoding == "utf-16" else "\ufeff"
    assert read_points(f"{mark}x [µm],y [µm]\n1,2\n".encode(encoding)).tolist() == [[1, 2]]
    with pytest.raises(MalformedBody, match="UTF-16"):
        read_points(b"\xff\xfe1\0 ")


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ("0.5", "XYZI"),
        ("207 21 45", "XYZRGB"),
        ("0.6 0 0.8", "normals"),
        ("-812 207 21 45", "XYZRGBI"),
        ("7 255", "integers of 0 to 255"),
        ("7 255 3 4 5", "integers of 0 to 255"),
    ],
)
def test_attributes_behind_three_coordinates_are_no_coordinates(attributes: str, words: str) -> None:
    text = f"0.5 1 2 {attributes}\n3 4.5 5 {attributes}\n".encode()
    points, warnings = read_cloud(text)
    assert points.tolist() == [[0.5, 1, 2], [3, 4.5, 5]]
    assert words in warnings[0]
    every = tuple(range(3 + len(attributes.split())))
    chosen = read_cloud(text, columns=Columns(every))
    assert chosen.points.shape == (2, len(every))
    assert not chosen.warnings


@pytest.mark.parametrize("row", ["1 2 3 4 5", "0.5 1 2 0.5 7", "0.5 1 2 256 7"])
def test_other_columns_without_names_are_all_coordinates(row: str) -> None:
    points, warnings = read_cloud(row.encode())
    assert points.tolist() == [[float(value) for value in row.split()]]
    assert not warnings


@pytest.mark.parametrize("columns", [("a", "c"), (1, 3), ("1", "3"), ("A", 3), ("a [nm]", "C")])
@pytest.mark.parametrize("header", ["id,a,b,c", "id,a [nm],b [nm],c [nm]"])
def test_columns_are_chosen_by_name_or_by_position(columns: tuple[str | int, ...], header: str) -> None:
    text = f"{header}\n7,1,0,2\n8,3,0,4\n".encode()
    assert read_cloud(text, columns=Columns(columns)).points.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(InvalidInput, match=r"'id', 'a.* columns=, by name or by position"):
        read_cloud(text)


@pytest.mark.parametrize("columns", [("d",), (4,), ("a", "a"), ("a", 1), ("-1",), ("",)])
def test_chosen_columns_exist_and_differ(columns: tuple[str | int, ...]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_cloud(b"id,a,b,c\n7,1,0,2\n", pointer="/source", columns=Columns(columns, "/source_columns"))
    assert caught.value.pointer == "/source_columns"


def test_chosen_columns_pass_over_words_and_indices() -> None:
    atoms = b"2\nwater\nO 0 0 1\nH 1 0 0\n"
    assert read_cloud(atoms, columns=Columns((1, 2, 3))).points.tolist() == [[0, 0, 1], [1, 0, 0]]
    pandas = b",0,1,2\n0,5,6,7\n1,8,9,10\n"
    assert read_cloud(pandas, columns=Columns((3, 1))).points.tolist() == [[7, 5], [10, 8]]


@pytest.mark.parametrize("rows", ["1 2\n", "1 2\n3 4\n5 6\n"])
def test_a_declared_count_is_the_number_of_points(rows: str) -> None:
    with pytest.raises(MalformedBody, match="line 1 declares 2 points"):
        read_points(f"2\n{rows}".encode())


@pytest.mark.parametrize("attributes", ["", " -100", " -100 20 30 40"])
@pytest.mark.parametrize("sizes", [(1, 2), (2, 0, 3), (1, 1, 1)])
def test_all_scans_of_a_pts_file_are_read(attributes: str, sizes: tuple[int, ...]) -> None:
    points = np.arange(3.0 * sum(sizes)).reshape(-1, 3) + 0.5
    points[1] = np.nan
    rows = iter([" ".join(map(str, point)) + attributes for point in points.tolist()])
    text = "\n".join("\n".join([str(size), *(next(rows) for _ in range(size))]) for size in sizes)
    assert np.array_equal(read_points(text.encode(), "a.pts"), points, equal_nan=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2\n1 2 3\n1\n4 5 6\n", "line 1 declares 2 points, and 1 follow"),
        ("1\n1 2 3\n4 5 6\n", "line 1 declares 1 points, and more follow"),
        ("1\n1 2 3\n\n2\n4 5 6\n", "line 4 declares 2 points, and 1 follow"),
        ("1\n1 2 3\n1\n4 5 6\n7 8 9\n", "line 3 declares 1 points, and more follow"),
    ],
)
def test_every_scan_has_the_declared_number_of_points(text: str, words: str) -> None:
    with pytest.raises(MalformedBody, match=words):
        read_points(text.encode())


@pytest.mark.parametrize("mark", ["# ", "//", "% ", "#"])
def test_names_in_a_comment_are_those_of_a_header(mark: str) -> None:
    assert read_points(f"{mark}id y x\n7 2 1\n8 4 3\n".encode()).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(InvalidInput, match="angles"):
        read_points(f"{mark}lon lat\n7.1 50.2\n".encode())
    assert read_points(f"{mark}longitude and latitude, projected\n7 50\n".encode()).tolist() == [[7, 50]]
    # CloudCompare names its further columns with words of their own.
    assert read_points(f"{mark}X Y Z R G B Scalar field\n1 2 3 4.5 5 6 7\n".encode()).tolist() == [[1, 2, 3]]


def test_a_second_set_of_coordinates_is_mentioned() -> None:
    points, warnings = read_cloud(b"x,y,x [nm],y [nm]\n1,2,100,200\n")
    assert len(points) == 1
    assert "not from" in warnings[0]


def test_a_table_of_few_long_rows_is_transposed() -> None:
    with pytest.raises(InvalidInput, match=r"\(3, 500\).*transpose"):
        read_points("\n".join(" ".join(["1.5"] * 500) for _ in range(3)).encode())
