"""The row after the names of a table: a point, a unit, a title, or a damaged point that is an error."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import InvalidInput, MalformedBody
from service.formats.clouds.columns import Columns
from service.formats.clouds.reading import read_cloud
from tests.service.formats.clouds.builders import read_points

DAMAGED = [
    ("12.345,6", "9.876,5"), ("1 234,5", "2 000,1"), ("****", "****"), ("-", "-"), ("?", "?"), ("1_000", "2_000"),
    ("0x10", "0x20"), ("1.5mm", "2.5mm"), ("true", "false"), ("True", "TRUE"), ("(1.5)", "(2.5)"), ("$1.50", "$2.50"),
    ("+-1", "2e"),
]  # fmt: skip


@pytest.mark.parametrize("row", DAMAGED)
@pytest.mark.parametrize("header", ["x;y\n", "id;X [nm];Y [nm]\n", "# x;y\n", "//id;x;y\n"])
def test_a_damaged_first_point_is_an_error_as_any_later_one_is(row: tuple[str, str], header: str) -> None:
    damaged = ";".join([*["7"] * ("id" in header), *row])
    good = ";".join([*["8"] * ("id" in header), "1.5", "2.5"])
    for number, text in ((2, f"{header}{damaged}\n{good}\n"), (3, f"{header}{good}\n{damaged}\n{good}\n")):
        with pytest.raises(MalformedBody, match=f"line {number}") as caught:
            read_points(text.encode())
        assert caught.value.allowed


@pytest.mark.parametrize("row", DAMAGED)
def test_a_damaged_first_point_is_an_error_if_columns_are_chosen_by_position(row: tuple[str, str]) -> None:
    for text in (f"a;b\n{row[0]};{row[1]}\n1;2\n", f"a;b\n{row[0]};5\n1;2\n"):
        with pytest.raises(MalformedBody, match="line 2"):
            read_cloud(text.encode(), columns=Columns((0, 1)))


@pytest.mark.parametrize("quote", ["", '"'])
def test_separators_of_thousands_lose_no_rows(quote: str) -> None:
    rows = ["12.345,6;9.876,5", "1.234,5;2.345,6", "987,6;654,3", "1,5;2,5"]
    text = "\n".join(["X;Y", *(";".join(f"{quote}{field}{quote}" for field in row.split(";")) for row in rows)])
    with pytest.raises(MalformedBody, match=r"line 2: '12\.345,6'"):
        read_points(text.encode())
    with pytest.raises(MalformedBody, match=r"line 2: '1,234\.5'"):
        read_points(b'x,y\n"1,234.5","2,000.1"\n1,2\n')


@pytest.mark.parametrize(
    "units",
    ["[nm];[nm]", "(um);(um)", "nm;nm", "µm;µm", "(micron);(micron)", "[°];[°]", "x;y", "X;Y", "(counts);", "px;[px]"],
)
@pytest.mark.parametrize("columns", [None, Columns((0, 1)), Columns(("x", "y"))])
def test_units_and_repeated_names_are_no_points_and_need_no_warning(units: str, columns: Columns | None) -> None:
    points, warnings = read_cloud(f"x;y\n{units}\n1;2\n3;4\n".encode(), columns=columns)
    assert points.tolist() == [[1, 2], [3, 4]]
    assert not warnings


@pytest.mark.parametrize("header", ["x;y", "# x;y"])
@pytest.mark.parametrize("columns", [None, Columns((0, 1))])
def test_other_words_are_skipped_with_a_warning(header: str, columns: Columns | None) -> None:
    if columns is not None and header.startswith("#"):
        header = "a;b"
    points, warnings = read_cloud(f"{header}\nleft;right\n1;2\n3;4\n".encode(), columns=columns)
    assert points.tolist() == [[1, 2], [3, 4]]
    assert "line 2: 'left;right'" in warnings[0]


def test_wide_rows_of_words_are_bounded_in_time() -> None:
    """The words after the names are examined up to the limit for names; a row beyond it is a damaged point."""
    header, words = ",".join(["x", "y", *["c"] * 50_000]), ",".join(["left"] * 50_002)
    with pytest.raises(MalformedBody, match="line 4: 'left' is not a number"):
        read_points("\n".join([header, *[words] * 20, "1,2"]).encode())


@pytest.mark.parametrize("row", ["a,NA,NA", "a,,", "NA,,nan", ",,"])
def test_a_first_point_without_coordinates_keeps_its_place(row: str) -> None:
    points = read_points(f"name,x,y\n{row}\nb,1,2\n".encode())
    assert np.isnan(points[0]).all()
    assert points[1:].tolist() == [[1, 2]]


@pytest.mark.parametrize("header", ["", "x;y\n", "# x;y\n"])
@pytest.mark.parametrize("number", ["{}.5D+00", "{}5.0d-01", "+{}.5D0"])
def test_the_exponents_of_fortran_and_the_minus_sign_of_unicode_are_read(header: str, number: str) -> None:
    if "D0" in number:  # without a sign it may be an identifier
        with pytest.raises(MalformedBody):
            read_points(f"{header}{number.format(1)};2\n".encode())
        return
    row = ";".join(number.format(digit) for digit in (1, 2))
    text = f"{header}{row}\n\u22123;\u2212.5\n".encode()
    assert read_points(text).tolist() == [[1.5, 2.5], [-3, -0.5]]
    assert read_points(text.decode().encode("utf-16")).tolist() == [[1.5, 2.5], [-3, -0.5]]


@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
@pytest.mark.parametrize("columns", [None, Columns((1, 0))])
def test_a_first_row_of_positions_before_decimals_is_a_header(separator: str, columns: Columns | None) -> None:
    names, rows = ["0", "1", "2"], [["0.5", "1.5", "2.5"], ["3.0", "4.0", "5.0"]]
    text = "\n".join(separator.join(row) for row in [names, *rows]).encode()
    points, warnings = read_cloud(text, columns=columns)
    assert points.tolist() == ([[0.5, 1.5, 2.5], [3, 4, 5]] if columns is None else [[1.5, 0.5], [4, 3]])
    assert "line 1 is read as the names" in warnings[0]
    for other in (text.replace(b"0.5", b"7"), text.replace(b"0", b"0.0", 1), text[: len(separator.join(names))]):
        assert read_cloud(other, columns=columns).points[0].tolist() == ([0, 1, 2] if columns is None else [1, 0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"0,0","1,5"\n', "line 1: '0,0' is not a number; write decimal points"),
        ('x,y\n1,2\n"0,0","1,5"\n', "line 3: '0,0' is not a number; write decimal points"),
        ("0,0 1,5 2,5\n", "line 1: '0,0' is not a number; decimal commas need semicolons or tabs"),
        ("1.5mm 2.5mm\n", "line 1: '1.5mm' is not a number; write decimal numbers without units"),
        ("o cube\nv 0 0 0\nv 1 0 0\n", "line 2: 'v' is not a number; OBJ"),
        ("1 2\n3 4\r5 6\n", "line 2 has lone carriage returns among line feeds"),
        ("# made by hand\r1 2\n3 4\n", "line 1 has lone carriage returns among line feeds"),
    ],
)
def test_errors_name_the_cure_and_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(MalformedBody) as caught:
        read_points(text.encode())
    assert words in caught.value.detail
    assert "\\x00" not in caught.value.detail
    assert caught.value.allowed


def test_a_separator_inside_a_quoted_name_separates_nothing() -> None:
    for inner in ("a\tb", "a;b", "a,b"):
        assert read_points(f'x,y,"{inner}",d\n1,2,3,4\n'.encode()).tolist() == [[1, 2]]


@pytest.mark.parametrize("columns", [(4, 1), ("9" * 5000,), (10**12,)])
def test_a_position_beyond_a_header_is_refused_with_its_names(columns: tuple[str | int, ...]) -> None:
    with pytest.raises(InvalidInput, match="line 1 names 4 columns: 'id', 'a', 'b', 'c'"):
        read_cloud(b"id,a,b,c\n7,1,0,2\n", columns=Columns(columns))
