"""Point cloud files: exact round trips, detection by content, and what is no cloud."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import BodyTooLarge, InvalidInput, LatentserveError, MalformedBody, NotAcceptable
from service.formats.clouds.columns import Columns
from service.formats.clouds.reading import read_cloud
from service.formats.clouds.writing import MAX_DIMENSION, WRITERS, Format, write_cloud
from tests.service.formats.clouds.builders import archive, npy, pcd, ply, read_points

AWKWARD = np.array(
    [[1 / 3, -0.0, 5e-324], [1.7976931348623157e308, 2**53 + 2.0, -1e-9], [0.1, 1e15 + 0.125, 123456.789]]
)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_what_is_written_reads_back_to_the_bit(kind: Format, dimension: int) -> None:
    points = np.hstack([AWKWARD, AWKWARD])[:, :dimension]
    if dimension > MAX_DIMENSION.get(kind, 9):
        with pytest.raises(NotAcceptable, match="at most 3 coordinates") as caught:
            write_cloud(points, kind)
        assert "application/x-npy" in str(caught.value.allowed)
        return
    for array in (points, points[:1], np.asfortranarray(points)):
        # An array of four columns without names is taken for three coordinates and an intensity.
        columns = Columns((0, 1, 2, 3)) if dimension == 4 and kind == "npy" else None
        read = read_cloud(write_cloud(array, kind), f"cloud.{kind}", columns=columns).points
        assert read.tobytes() == array.tobytes()
        assert (read.dtype.name, read.shape) == ("float64", array.shape)
        assert read.flags.writeable
        assert read.flags.c_contiguous


@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_points_are_the_same_bytes(kind: Format) -> None:
    assert write_cloud(AWKWARD, kind) == write_cloud(AWKWARD.copy(), kind)


@pytest.mark.parametrize("kind", WRITERS)
def test_content_says_the_format_whatever_the_name(kind: Format) -> None:
    data = write_cloud(AWKWARD, kind)
    for name in ("", "upload", "cloud.csv", "cloud.TXT"):
        assert np.array_equal(read_points(data, name), AWKWARD)


@pytest.mark.parametrize("name", ["a.ply", "a.PCD", "a.npy", "a.npz"])
def test_a_name_that_promises_what_the_content_does_not_keep_is_refused(name: str) -> None:
    with pytest.raises(MalformedBody, match="does not begin as a"):
        read_points(b"1 2\n3 4\n", name, "/source")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PAR1\x15", "Parquet"),
        (b"# vtk DataFile Version 3.0\n", "VTK"),
        (b"II*\0", "TIFF"),
        (archive({"[Content_Types].xml": b"", "xl/workbook.xml": b""}), "Excel"),
        (b'{"type": "FeatureCollection"}', "JSON object"),
        (b"solid cube\n", "STL"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\x80\x04\x95", "pickle"),
        (b"1 2\0", "no format"),
        (b"", "empty"),
    ],
)
def test_other_formats_are_refused_by_name(data: bytes, word: str) -> None:
    with pytest.raises(InvalidInput, match=word) as caught:
        read_points(data, "upload", "/source")
    assert caught.value.pointer == "/source"


@pytest.mark.parametrize("kind", WRITERS)
def test_points_without_coordinates_keep_their_places_in_both_directions(kind: Format) -> None:
    points = np.arange(30.0).reshape(10, 3)
    points[[4, 7], 1] = np.nan
    read, warnings = read_cloud(write_cloud(points, kind), pointer="/target")
    points[[4, 7]] = np.nan
    assert np.array_equal(read, points, equal_nan=True)
    assert warnings[0].startswith("2 of 10 points")
    again = read_cloud(write_cloud(read, kind))
    assert np.array_equal(again.points, points, equal_nan=True)
    with pytest.raises(InvalidInput, match="10 of 10 points"):
        read_points(write_cloud(np.full((10, 3), np.nan), kind))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_points_are_counted_and_the_first_is_named(value: float) -> None:
    points = np.ones((10, 3))
    points[2, 0] = np.nan
    points[[4, 7], 1] = value
    for data in (npy(points), ply(points), ply(points, order=""), pcd(points), pcd(points, "binary_compressed")):
        with pytest.raises(InvalidInput, match=r"2 of 10 points .* the first is point 4") as caught:
            read_points(data, pointer="/target")
        assert caught.value.pointer == "/target"


def test_a_signalling_nan_is_read_like_any_other() -> None:
    signalling = np.array([[0x7F800001, 0]], "<u4").view("<f4")
    for data in (npy(signalling), ply(signalling, kind="float"), pcd(signalling, fields="x y")):
        with pytest.raises(InvalidInput, match="1 of 1 points"):
            read_points(data)


@pytest.mark.parametrize("kind", WRITERS)
def test_more_numbers_than_allowed_are_too_many_and_as_many_are_not(kind: Format) -> None:
    data = write_cloud(AWKWARD, kind)
    assert read_points(data, max_elements=9).size == 9
    with pytest.raises(BodyTooLarge) as caught:
        read_points(data, pointer="/source", max_elements=8)
    assert caught.value.allowed == "at most 8 numbers"


@pytest.mark.parametrize("kind", WRITERS)
def test_every_truncation_is_refused_or_a_shorter_table(kind: Format) -> None:
    data = write_cloud(AWKWARD, kind)
    for length in range(len(data)):
        if kind in {"csv", "xyz"}:  # text does not say how long it should be
            try:
                assert len(read_points(data[:length])) <= len(AWKWARD)
            except LatentserveError:
                continue
        else:
            with pytest.raises(LatentserveError):
                read_points(data[:length], f"a.{kind}")
