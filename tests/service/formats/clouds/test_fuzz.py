"""Whatever the bytes: an array that keeps its promises, or an error of the domain's own, in little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.errors import LatentserveError
from service.formats.clouds.writing import WRITERS, write_cloud
from tests.service.formats.clouds.builders import archive, npy, pcd, ply, read_points

POINTS = np.arange(12.0).reshape(4, 3)
LISTS = b"element face 2\nproperty list uchar int a\nproperty float b\n"
SEEDS = [
    *(write_cloud(POINTS, kind) for kind in WRITERS),
    *(ply(POINTS, order=order, before=before) for order in ("", "<", ">") for before in (b"", LISTS)),
    *(pcd(POINTS, data) for data in ("ascii", "binary", "binary_compressed")),
    npy(np.asfortranarray(POINTS.astype(">f4"))),
    archive({"a.npy": npy(POINTS), "points.npy": npy(POINTS)}),
    b"x,y\n1,2\n3,4\n",
    npy(np.zeros(4, [("x", "<f4"), ("label", "S2"), ("y", ">f8")])),
    ply(POINTS, order="").replace(b"double z", b"list uchar int z").replace(b"property double x", b"property float x"),
    'sep=;\n"id";"x [µm]";"y [µm]"\n1;2,5;\n2;4;NA\n'.encode("utf-16"),
    b"4\n1 2 3 -100 20 30 40\n" + b"4 5 6 -90 1 2 3\n" * 3,
    b"2\n1\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n0 1 0 0\n-1 0 0 0\n0 0 1 0\n9 0 0 1\n1 2 3 .5\n0 0 0 .5\n",
]
WORDS = [
    b"ply\n", b"\x93NUMPY", b"PK\x03\x04", b"PK\x01\x02", b"VERSION .7\n", b"end_header\n", b"DATA binary_compressed\n",
    b"element vertex ", b"element face 9999999\n", b"property list uint64 double x\n", b"999999999999", b"-1", b"0",
    b"nan", b"1e999", b"(", b"'", b",", b";", b"#", b"//", b"\n", b"\r", b"\0", b"\xff" * 8, b"COUNT 99999 1 1\n", b" ",
]  # fmt: skip
MAX_ELEMENTS = 10_000


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        to = draw(st.integers(at, min(at + 12, len(data))))
        data = data[:at] + draw(st.one_of(st.sampled_from(WORDS), st.binary(max_size=8))) + data[to:]
    return data


def check(data: bytes) -> None:
    tracemalloc.start()
    try:
        points = read_points(data, max_elements=MAX_ELEMENTS)
    except LatentserveError:
        pass
    else:
        assert points.ndim == 2
        assert points.dtype == np.float64
        assert 0 < points.size <= MAX_ELEMENTS
        finite = np.isfinite(points).all(1)
        assert finite.any()
        assert np.isnan(points[~finite]).all()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10**6 + 64 * MAX_ELEMENTS + 64 * len(data)


@settings(max_examples=150, deadline=2000)
@given(st.binary(max_size=300))
@example(b"")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    check(data)


@settings(max_examples=400, deadline=2000)
@given(damaged())
def test_damaged_files_are_read_or_refused(data: bytes) -> None:
    check(data)


@settings(max_examples=150, deadline=2000)
@given(st.text("0123456789.eE+-_ \t,;#/\"'\n\rxyzn\x0b\x1c\x85\xa0\u2028é", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    check(text.encode())
