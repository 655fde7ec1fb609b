"""LAS and LAZ: scaled coordinates in double precision, and headers that declare more than there is."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.errors import BodyTooLarge, InvalidInput, LatentserveError, MalformedBody
from service.formats.clouds import las
from service.formats.clouds.columns import Columns
from service.formats.clouds.reading import read_cloud
from tests.service.formats.clouds.builders import npy, read_points

laspy = pytest.importorskip("laspy", reason="the extra `las` is not installed")

INTEGERS = np.array([[-(2**31), 0, 7], [1, 2, 3], [2**31 - 1, -5, 123456789]])
SCALES, OFFSETS = np.array([0.001, 0.01, 0.25]), np.array([500000.0, -3.5, 1e-3])
FORMATS = [(0, "1.2"), (3, "1.2"), (4, "1.3"), (5, "1.3"), (6, "1.4"), (7, "1.4"), (8, "1.4"), (9, "1.4"), (10, "1.4")]


def write(point_format: int = 3, version: str = "1.2", *, compress: bool = False, repeat: int = 1) -> bytes:
    """A file of `INTEGERS`, with an extra dimension."""
    header = laspy.LasHeader(point_format=point_format, version=version)
    header.scales, header.offsets = SCALES, OFFSETS
    header.add_extra_dim(laspy.ExtraBytesParams("height above ground", np.float64))
    points = laspy.LasData(header)
    for axis, values in zip("XYZ", np.tile(INTEGERS, (repeat, 1)).T, strict=True):
        setattr(points, axis, values.astype(np.int32))
    points.intensity = np.arange(len(INTEGERS) * repeat) % 1000
    out = io.BytesIO()
    points.write(out, do_compress=compress, laz_backend=laspy.LazBackend.Lazrs if compress else None)
    return out.getvalue()


@pytest.mark.parametrize(("point_format", "version"), FORMATS)
@pytest.mark.parametrize("compress", [False, True])
def test_coordinates_are_scale_times_integer_plus_offset(point_format: int, version: str, compress: bool) -> None:
    data = write(point_format, version, compress=compress)
    assert np.array_equal(read_points(data, "cloud.las"), INTEGERS * SCALES + OFFSETS)


def test_columns_select_axes() -> None:
    chosen = read_cloud(write(), columns=Columns(("z", 0), "/source_columns")).points
    assert np.array_equal(chosen, (INTEGERS * SCALES + OFFSETS)[:, [2, 0]])
    with pytest.raises(InvalidInput) as caught:
        read_cloud(write(), columns=Columns(("intensity",), "/source_columns"))
    assert caught.value.pointer == "/source_columns"


def test_more_points_than_one_chunk_are_read_in_order() -> None:
    data = write(compress=True, repeat=30_000)
    assert np.array_equal(read_points(data), np.tile(INTEGERS, (30_000, 1)) * SCALES + OFFSETS)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("count", [4, 10**6, 2**32 - 1])
def test_a_declared_count_allocates_nothing(compress: bool, count: int) -> None:
    data = write(compress=compress)
    data = data[:107] + struct.pack("<I", count) + data[111:]
    tracemalloc.start()
    with pytest.raises((MalformedBody, BodyTooLarge)):
        read_points(data, max_elements=9)
    if not compress:
        with pytest.raises((MalformedBody, BodyTooLarge)):
            read_points(data)
    assert tracemalloc.get_traced_memory()[1] < 2 * 10**6
    tracemalloc.stop()


def test_points_of_very_many_bytes_are_too_large_before_they_are_decompressed() -> None:
    data = write(compress=True)
    with pytest.raises(BodyTooLarge, match="bytes each"):
        read_points(data[:105] + struct.pack("<H", 65535) + data[107:], max_elements=100)


@pytest.mark.parametrize("compress", [False, True])
def test_every_truncation_is_refused(compress: bool) -> None:
    data = write(7, "1.4", compress=compress)
    start = struct.unpack_from("<I", data, 96)[0]
    for length in (
        6,
        100,
        226,
        374,
        start - 1,
        start,
        start + 7,
        start + 20,
        len(data) - 1 if not compress else start + 40,
    ):
        with pytest.raises(MalformedBody):
            read_points(data[:length], "a.las")


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (24, b"\x02"), (25, b"\x05"), (94, b"\0\0"), (96, b"\xff\xff\xff\xff"), (100, b"\xff\xff\xff\xff"),
        (104, b"\x3f"), (105, b"\x01\0"), (131, bytes(8)), (131, struct.pack("<d", np.inf)),
        (155, struct.pack("<d", np.nan)),
    ],
)  # fmt: skip
def test_headers_that_contradict_themselves_are_refused(at: int, value: bytes) -> None:
    data = write()
    with pytest.raises((MalformedBody, InvalidInput)):
        read_points(data[:at] + value + data[at + len(value) :])


def test_a_file_without_points_is_refused() -> None:
    data = write(repeat=0)
    with pytest.raises(InvalidInput, match="0 points"):
        read_points(data)


@pytest.mark.parametrize("point_format", [3, 7])
def test_damaged_compressed_files_are_refused_or_read(point_format: int) -> None:
    data = write(point_format, "1.4" if point_format == 7 else "1.2", compress=True)
    start = struct.unpack_from("<I", data, 96)[0]
    # The place and the size of the table of chunks, the layers' sizes, and some compressed bytes.
    for at in [*range(start, start + 8, 4), start + 75, start + 79, start + 90, len(data) - 6, len(data) - 10]:
        damaged = bytearray(data)
        damaged[at : at + 4] = b"\xff\xff\xff\x7f"
        try:
            assert read_points(bytes(damaged)).shape[1] == 3
        except LatentserveError:
            continue


def test_a_server_without_laspy_reads_las_and_names_the_extra_for_laz(monkeypatch: pytest.MonkeyPatch) -> None:
    data, compressed = write(), write(compress=True)

    def find(name: str) -> ModuleSpec | None:
        return None if name in {"laspy", "lazrs"} else ModuleSpec(name, None)

    monkeypatch.setattr(las, "find_spec", find)
    assert len(read_points(data)) == len(INTEGERS)
    with pytest.raises(InvalidInput, match=r"LAZ.*pip install 'latentserve\[las\]'") as caught:
        read_points(compressed, pointer="/target")
    assert caught.value.pointer == "/target"


def test_records_between_header_and_points_cost_nothing() -> None:
    data = write()
    start, records, size = *struct.unpack_from("<II", data, 96), 10**5 * las.VLR_HEADER
    longer = bytearray(data[:start] + bytes(size) + data[start:])
    struct.pack_into("<II", longer, 96, start + size, records + 10**5)
    whole = bytes(longer)
    tracemalloc.start()
    assert np.array_equal(read_points(whole), read_points(data))
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_a_name_that_promises_las_is_checked() -> None:
    with pytest.raises(MalformedBody, match="does not begin"):
        read_points(b"1 2\n", "a.laz")


def test_damaged_headers_are_refused_or_read_in_little_memory() -> None:
    rng = random.Random(0)
    for data in (write(), write(10, "1.4")):
        for _ in range(300):
            damaged = bytearray(data)
            for _ in range(rng.randint(1, 4)):
                at, value = rng.randrange(len(data)), rng.choice([b"\xff\xff\xff\xff", bytes(4), rng.randbytes(1)])
                damaged[at : at + len(value)] = value
            tracemalloc.start()
            try:
                assert read_points(bytes(damaged), max_elements=10_000).shape[1] == 3
            except LatentserveError:
                continue
            finally:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert peak < 10**6


def test_a_registration_of_las_files_is_that_of_their_points(client: TestClient) -> None:
    points = INTEGERS * SCALES + OFFSETS
    forms = (
        {"source": ("a.las", write()), "target": ("b.laz", write(7, "1.4", compress=True))},
        {"source": ("a.npy", npy(points)), "target": ("b.npy", npy(points))},
    )
    answers = [client.post("/em/register", files=form) for form in forms]
    assert answers[0].status_code == 200
    assert answers[0].content == answers[1].content
    damaged = {"source": ("a.laz", write(compress=True)[:-200]), "target": ("b.las", write())}
    assert client.post("/em/register", files=damaged).status_code == 400
