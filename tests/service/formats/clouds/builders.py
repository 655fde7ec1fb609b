"""Files of clouds, built by hand from their formats' descriptions."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
from numpy.typing import NDArray

from service.formats.clouds.reading import read_cloud

Array = NDArray[np.generic]


def read_points(data: bytes, filename: str = "", pointer: str = "", max_elements: int = 2**23) -> NDArray[np.float64]:
    """The points of a file, without warnings."""
    return read_cloud(data, filename, pointer, max_elements).points


def ply(points: Array, *, order: str = "<", kind: str = "double", names: str = "xyz", before: bytes = b"") -> bytes:
    """Vertices of one type; `order` "" is ascii. `before` goes between the format and the vertices' element."""
    form = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    header = f"ply\nformat {form} 1.0\ncomment made by hand\n".encode() + before
    header += f"element vertex {len(points)}\n".encode()
    header += "".join(f"property {kind} {name}\n" for name in names[: points.shape[1]]).encode() + b"end_header\n"
    if not order:
        return header + "".join(" ".join(f"{value!r}" for value in row) + "\n" for row in points.tolist()).encode()
    code = {"double": "f8", "float": "f4", "int": "i4", "uchar": "u1", "short": "i2"}[kind]
    return header + points.astype(order + code).tobytes()


def pcd_header(fields: str, size: int, kind: str, points: int, data: str) -> bytes:
    """A header whose fields are all of one type."""
    n = len(fields.split())
    return (
        f"# .PCD v.7 - Point Cloud Data file format\nVERSION .7\nFIELDS {fields}\nSIZE{f' {size}' * n}\n"
        f"TYPE{f' {kind}' * n}\nCOUNT{' 1' * n}\nWIDTH {points}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"
        f"POINTS {points}\nDATA {data}\n"
    ).encode()


def pcd(points: Array, data: str = "binary", *, fields: str = "x y z", code: str = "<f4") -> bytes:
    """Fields of one type."""
    dtype = np.dtype(code)
    kind = {"f": "F", "i": "I", "u": "U"}[dtype.kind]
    header = pcd_header(fields, dtype.itemsize, kind, len(points), data)
    if data == "ascii":
        return header + "".join(" ".join(f"{value!r}" for value in row) + "\n" for row in points.tolist()).encode()
    if data == "binary":
        return header + points.astype(dtype).tobytes()
    body = np.ascontiguousarray(points.T).astype(dtype).tobytes()
    packed = lzf_literals(body)
    return header + struct.pack("<II", len(packed), len(body)) + packed


def lzf_literals(data: bytes) -> bytes:
    """An LZF stream of literal runs, but for runs of one byte, which become references to themselves."""
    out, at = bytearray(), 0
    while at < len(data):
        run = len(data[at : at + 265]) - len(data[at : at + 265].lstrip(data[at : at + 1]))
        if run >= 4:
            out += bytes([0, data[at]])
            length = run - 1 - 2
            out += bytes([length << 5, 0]) if length < 7 else bytes([7 << 5, length - 7, 0])
            at += run
        else:
            chunk = data[at : at + 8]
            out += bytes([len(chunk) - 1]) + chunk
            at += len(chunk)
    return bytes(out)


def npy(points: Array) -> bytes:
    """As NumPy writes it."""
    out = io.BytesIO()
    np.save(out, points, allow_pickle=False)
    return out.getvalue()


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of members of any content."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()
