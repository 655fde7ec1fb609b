"""PTX: grids of points at the place that a matrix gives them."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import InvalidInput, LatentserveError, MalformedBody
from service.formats.clouds.columns import Columns
from service.formats.clouds.reading import read_cloud
from tests.service.formats.clouds.builders import read_points

POINTS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [0.0, 0.0, 0.0], [7.0, 8.0, 9.0]])


def scan(shift: float, attributes: str = "0.5") -> bytes:
    """A scan turned by a quarter about z, then shifted."""
    head = f"2\n2\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n0 1 0 0\n-1 0 0 0\n0 0 1 0\n{shift} 0 0 1\n"
    return (head + "".join(f"{x} {y} {z} {attributes}\n" for x, y, z in POINTS.tolist())).encode()


@pytest.mark.parametrize("attributes", ["0.5", "0.5 200 100 50"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_scans_are_placed_by_their_matrices_and_points_without_return_are_missing(attributes: str, end: bytes) -> None:
    data = (scan(10, attributes) + scan(20, attributes)).replace(b"\n", end)
    points, warnings = read_cloud(data)
    turned = POINTS[:, [1, 0, 2]] * [-1, 1, 1]
    expected = np.vstack([turned + np.array([10, 0, 0]), turned + np.array([20, 0, 0])])
    expected[[2, 6]] = np.nan
    assert np.array_equal(points, expected, equal_nan=True)
    assert warnings[0].startswith("2 of 8 points")


def test_a_scan_has_as_many_points_as_it_declares() -> None:
    data = scan(10)
    head = data.index(b"1.0 2.0")
    for length in range(head, len(data) - 12):
        with pytest.raises(LatentserveError):
            read_points(data[:length])
    with pytest.raises(MalformedBody, match="does not begin a scan"):
        read_points(data + b"1 2 3 0.5\n")
    with pytest.raises(InvalidInput, match="first three columns"):
        read_cloud(data, columns=Columns((0, 1)))


def test_chosen_columns_are_refused_at_the_field_that_chose_them() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_cloud(scan(10), pointer="/source", columns=Columns((0, 1, 2), "/source_columns"))
    assert caught.value.pointer == "/source_columns"


def test_lone_carriage_returns_and_utf_16_are_read() -> None:
    data = scan(10)
    expected = read_points(data)
    for other in (data.replace(b"\n", b"\r"), b"\xff\xfe" + data.decode().encode("utf-16-le")):
        assert np.array_equal(read_points(other), expected, equal_nan=True)
