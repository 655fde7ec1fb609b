"""Reading of point cloud files. The content decides the format; the file's name can only contradict it."""

from __future__ import annotations

import re
from pathlib import PurePath

import numpy as np

from ..arrays import Float64
from ..npy import MAGIC
from . import chemical, las, npy, pcd, ply, ptx, table, text
from .cloud_file import MAX_ELEMENTS, Cloud, CloudFile, Weights
from .columns import Columns
from .deadline import Deadline

# The first bytes of formats that users may send, and that are not read.
FOREIGN = {
    b"\x1f\x8b": "gzip-compressed",
    b"ASTM-E57": "E57",
    b"\x89PNG": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\xff\xd8\xff": "JPEG",
    b"solid ": "STL",
    b"OFF\n": "OFF",
    b"OFF\r\n": "OFF",
    b"# vtk DataFile": "VTK",
    b"MATLAB 5.0 MAT-file": "MATLAB's MAT",
    b"PAR1": "Parquet",
    b"\x80\x04": "pickle",
    b"\x80\x05": "pickle",
    b"\x89HDF": "HDF5",
    b"\xd0\xcf\x11\xe0": "Excel's XLS",
}
READ = "npy, npz, PLY, PCD, LAS, LAZ, or text with numbers (XYZ, CSV, TXT, PTS, PTX)"
OBJECT = re.compile(rb"\s{0,99}\{\s{0,99}[\"}]")


def read_cloud(
    data: bytes,
    filename: str = "",
    pointer: str = "",
    max_elements: int = MAX_ELEMENTS,
    columns: Columns | None = None,
    deadline: Deadline | None = None,
) -> Cloud:
    """The points of a file: (N, D), float64, writable, in C order; and warnings about how they were read.

    A point without coordinates is a row of NaN; all other points are finite. Coordinates are in the unit of the file.

    Memory is bounded by a small multiple of the file's size, and that of decompressed data by `max_elements`.

    Args:
        data: the file.
        filename: its name, which may contradict the content.
        pointer: JSON pointer of the field of the file, for errors.
        max_elements: maximum numbers of the cloud, N x D.
        columns: the columns, fields or properties that are the coordinates; None finds them.
        deadline: the time by which the file must be decoded; None for no deadline. It ends the decompression of LAZ.
            Other formats are decoded to their end.

    Raises:
        MalformedBody: the bytes break their format, or contradict the file's name.
        InvalidInput: the format is not read, or there are no points, no coordinates, or infinite coordinates.
        BodyTooLarge: there are more than `max_elements` numbers.
        DeadlineExceeded: the deadline passed before a LAZ file was decompressed.
    """
    file = CloudFile(text.without_bom(data), filename, pointer, max_elements, columns, deadline or Deadline())
    return Cloud(_read(file), tuple(file.warnings))


def read_weighted(
    data: bytes,
    filename: str = "",
    pointer: str = "",
    max_elements: int = MAX_ELEMENTS,
    columns: Columns | None = None,
    deadline: Deadline | None = None,
) -> tuple[Cloud, Weights | None]:
    """The cloud as `read_cloud` reads it, and the weights of its points if a column is named as one of weights.

    Raises what `read_cloud` raises, and InvalidInput for weights that are not finite or below 0, or all 0. A weight is
    one of the `max_elements` numbers.
    """
    cloud, weights, _ = read_scan(data, filename, pointer, max_elements, columns, deadline, normals=False)
    return cloud, weights


def read_scan(
    data: bytes,
    filename: str = "",
    pointer: str = "",
    max_elements: int = MAX_ELEMENTS,
    columns: Columns | None = None,
    deadline: Deadline | None = None,
    *,
    weights: bool = True,
    normals: bool = True,
) -> tuple[Cloud, Weights | None, Float64 | None]:
    """The cloud, its weights, and its normals (N, 3) if a PLY or PCD file has the columns nx or normal_x, and so on.

    The normals are as in the file: of any length, and NaN or zero for a point without one. They are not among the
    `max_elements` numbers. `weights` and `normals` say whether to read them. Raises what `read_weighted` raises.
    """
    file = CloudFile(
        text.without_bom(data),
        filename,
        pointer,
        max_elements,
        columns,
        deadline or Deadline(),
        reads_weights=weights,
        reads_normals=normals,
    )
    points, warnings = _read(file), tuple(file.warnings)
    end = points.shape[1] - len(file.weighted)
    first = end - len(file.directed)
    cloud = Cloud(np.ascontiguousarray(points[:, :first]), warnings)
    weighted = Weights(points[:, -1].copy(), file.weighted[0]) if file.weighted else None
    return cloud, weighted, np.ascontiguousarray(points[:, first:end]) if file.directed else None


def _read(file: CloudFile) -> Float64:
    data, filename = file.data, file.name
    if not data:
        raise file.invalid("the file is empty", READ)
    if data.startswith(MAGIC):
        return npy.read_npy(file)
    if data.startswith(npy.ZIP_MAGICS):
        return npy.read_npz(file)
    if ply.MAGIC.match(data):
        return ply.read_ply(file)
    if data.startswith(las.MAGIC):
        return las.read_las(file)
    if pcd.is_pcd(data):
        return pcd.read_pcd(file)
    foreign = next((name for magic, name in FOREIGN.items() if data.startswith(magic)), None)
    if foreign is not None:
        raise file.invalid(f"the file is {foreign}; this format is not read", READ)
    ending = PurePath(filename).suffix.lower()
    if ending in {".npy", ".npz", ".ply", ".pcd", ".las", ".laz"}:
        raise file.malformed(
            f"{filename[-80:]!r} does not begin as a {ending} file does (it begins {data[:12]!r})", READ
        )
    return _read_text(text.as_text(file))


def _read_text(file: CloudFile) -> Float64:
    if text.contains(file.data, b"\0"):
        raise file.invalid("the file has no format that is read", READ)
    if ptx.HEAD.match(file.data):
        return ptx.read_ptx(file)
    # With chosen columns the lines of atoms are rows of a table.
    if chemical.HEAD.match(file.data) and file.columns is None:
        return chemical.read_atoms(file)
    if file.columns is None and chemical.has_atomic_numbers(file):
        file.warnings.append("the first of 4 columns is read as atomic numbers; columns=0,1,2 reads it as x")
        return chemical.read_atoms(file)
    if OBJECT.match(file.data):
        raise file.invalid(
            "the file is a JSON object; a cloud in JSON is a list of points such as [[0, 1], [2, 3]]. Send a whole "
            "request as the body, with Content-Type: application/json",
            READ,
        )
    return table.read_table(file)
