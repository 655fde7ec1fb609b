"""The corpus of the fuzz targets: small valid files of every format. `python -m tests.fuzz.corpus` writes it anew.

Files that a fuzzer has found lie beside these, under names that begin with `found-`; they are kept.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import laspy
import numpy as np
from PIL import Image

from service.formats.clouds.writing import WRITERS, write_cloud
from service.formats.npz import write_arrays
from tests.service.archives import OF_EVERY_KIND, npz
from tests.service.formats.clouds.builders import archive, npy, pcd, ply

FOLDER = Path(__file__).parent / "corpus"
FOUND = "found-"
POINTS = np.arange(12.0).reshape(4, 3) ** 2 / 7
FLAT = POINTS[:, :2]


def clouds() -> dict[str, bytes]:
    """One file of each format and variant that is read."""
    # A list of 2 bytes before the vertices, as text and as bytes.
    lists = b"element face 1\nproperty list uchar uchar a\n"
    files = {f"written.{kind}": write_cloud(FLAT, kind) for kind in WRITERS}
    files |= {f"{name}.ply": ply(POINTS, order=order) for name, order in (("ascii", ""), ("big", ">"))}
    for name, order, face in (("ascii", "", b"2 7 9\n"), ("little", "<", b"\2\7\t")):
        head, end, body = ply(POINTS, order=order, before=lists).partition(b"end_header\n")
        files[f"lists-{name}.ply"] = head + end + face + body
    files |= {f"{data}.pcd": pcd(POINTS, data) for data in ("ascii", "binary", "binary_compressed")}
    files |= {f"format-{kind}.las": _las(kind, version) for kind, version in ((0, "1.2"), (3, "1.2"), (7, "1.4"))}
    records = np.zeros(4, [("x", "<f4"), ("label", "S2"), ("y", ">f8")])
    files |= {
        "fortran.npy": npy(np.asfortranarray(POINTS.astype(">f4"))),
        "records.npy": npy(records),
        "points.npz": archive({"a.npy": npy(POINTS), "points.npy": npy(POINTS)}),
        "axes.npz": archive({f"{axis}.npy": npy(POINTS[:, 0]) for axis in "xyz"}, zipfile.ZIP_STORED),
        "header.csv": b"x,y\n1,2\n3,4\n,\n5,NA\n",
        "semicolons.csv": 'sep=;\n"id";"x [µm]";"y [µm]"\n1;2,5;3\n2;4;NA\n'.encode("utf-16"),
        "titles.txt": b"# a title\n// x y z\n1.0D+00 2 3\n4 5 6\n",
        "scan.pts": b"4\n1 2 3 -100 20 30 40\n" + b"4 5 6 -90 1 2 3\n" * 3,
        "scan.ptx": b"2\n1\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n0 1 0 0\n-1 0 0 0\n0 0 1 0\n9 0 0 1\n1 2 3 .5\n0 0 0 .5\n",
        "water.xyz": b"3\nwater\nO 0 0 0\nH 0.76 0.59 0\nH -0.76 0.59 0\n",
        "extended.xyz": b"2\nProperties=species:S:1:pos:R:3\nO 0 0 0\nH 1 1e-3 2\n",
        "atomic.xyz": b"2\n\n8 0 0 0\n1 1 0 0\n",
    }
    return files


def _las(kind: int, version: str) -> bytes:
    header = laspy.LasHeader(point_format=kind, version=version)
    header.scales, header.offsets = np.array([0.001, 0.01, 0.25]), np.array([5.0, -3.5, 0.0])
    header.creation_date = None
    points = laspy.LasData(header)
    for axis, values in zip("XYZ", np.arange(9).reshape(3, 3), strict=True):
        setattr(points, axis, values.astype(np.int32))
    out = io.BytesIO()
    points.write(out)
    return out.getvalue()


def images() -> dict[str, bytes]:
    """Pictures of every mode that Pillow writes as PNG, and of both kinds of WebP."""
    levels = (np.arange(28 * 28).reshape(28, 28) * 5 % 256).astype(np.uint8)
    grey = Image.fromarray(levels)
    files = {}
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        files[f"{mode}.png"] = _saved(grey.convert(mode), "PNG")
    files["16.png"] = _saved(Image.fromarray(levels.astype(np.uint16) * 257), "PNG")
    files["transparent.png"] = _saved(grey.convert("P"), "PNG", transparency=0)
    files["animated.png"] = _saved(grey, "PNG", save_all=True, append_images=[grey.rotate(90)])
    files["interlaced.png"] = _interlaced()
    files["lossless.webp"] = _saved(grey, "WEBP", lossless=True)
    files["lossy.webp"] = _saved(grey.convert("RGBA"), "WEBP", quality=10)
    files["animated.webp"] = _saved(grey, "WEBP", save_all=True, append_images=[grey.rotate(90)])
    files["picture.gif"] = _saved(grey, "GIF")
    return files


def _saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def _interlaced() -> bytes:
    """One grey pixel in Adam7, which Pillow reads and does not write."""
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 1))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0\x80")) + chunk(b"IEND", b"")


def archives() -> dict[str, bytes]:
    """Archives with arrays of every kind, stored and deflated, and one as the service writes it."""
    fields: dict[str, Any] = {"source": FLAT, **OF_EVERY_KIND}
    few = {"source": FLAT, "target": FLAT + 1, "transform": np.array("rigid")}
    return {
        "every.npz": _dated(npz(fields)),
        "deflated.npz": _dated(npz(fields, compressed=True)),
        "request.npz": _dated(npz(few)),
        "written.npz": bytes(write_arrays({name: np.asarray(value) for name, value in few.items()})),
        "empty.npz": bytes(write_arrays({})),
    }


def _dated(data: bytes) -> bytes:
    """The archive, without the time at which it was written."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            new.writestr(zipfile.ZipInfo(info.filename), old.read(info), info.compress_type)
    return out.getvalue()


def numbers() -> dict[str, bytes]:
    """Requests whose numbers the compiled reader finds hard, and some with faults."""
    clouds_ = {"source": POINTS.tolist(), "target": (POINTS * 1e-300).tolist()}
    hard = '{"source":[[5e-324,1.7976931348623157e308],[-0.0,8.0000000000000000000001]],"target":[[1E2,1e-400],[0,9]]}'
    return {
        "clouds.json": json.dumps(clouds_).encode(),
        "options.json": json.dumps(clouds_ | {"transform": "rigid", "sigma": 0.5, "init": [1, 2, 3]}).encode(),
        "hard.json": hard.encode(),
        "ragged.json": b'{"source": [[1, 2], [3, 4, 5]], "target": [[1, 2]]}',
        "wrong.json": b'{"source": [[1, "2"], [3, null]], "target": [[true, {}]], "prior": [[1e999]]}',
        "twice.json": b'{"source": [[1, 2]], "source": [[3, 4]], "target": [[1, 2]]}',
        "nested.json": b'{"other": ' + b"[" * 40 + b"1" + b"]" * 40 + b', "source": [[1.5, 2]], "target": [[1, 2]]}',
    }


def files() -> dict[str, dict[str, bytes]]:
    """The files of each target, by their names."""
    return {"clouds": clouds(), "images": images(), "archives": archives(), "numbers": numbers()}


def read(target: str) -> dict[str, bytes]:
    """The files of a target as they lie in the folder, by their names in alphabetical order."""
    return {path.name: path.read_bytes() for path in sorted((FOLDER / target).iterdir())}


def main() -> None:
    """Write the folder anew."""
    for target, contents in files().items():
        folder = FOLDER / target
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if not path.name.startswith(FOUND):
                path.unlink()
        for name, content in contents.items():
            (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
