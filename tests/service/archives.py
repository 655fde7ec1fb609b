"""Bodies and answers in .npz for tests."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.testclient import TestClient

NPZ = "application/x-npz"
# Fields of every type and order that archives may have.
OF_EVERY_KIND: dict[str, Any] = {
    "single": np.float32(0.1),
    "offsets": np.array([0, 3]),
    "bytes": np.arange(4, dtype=np.uint8),
    "flag": np.array(True),
    "word": np.array("σ-rigid"),
    "words": np.array(["a", "bcd"]),
    "stack": np.arange(24, dtype=">f2").reshape(2, 3, 4),
    "turned": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
    "none": np.empty((0, 2)),
}


def npz(fields: dict[str, Any], *, compressed: bool = False) -> bytes:
    """The fields as `numpy.savez` writes them, or `numpy.savez_compressed`."""
    out = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(out, **fields)
    return out.getvalue()


def arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an archive, by NumPy's own reader."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)


def post(client: TestClient, path: str, body: bytes, accept: str = NPZ) -> Any:
    """The response to an archive."""
    return client.post(path, content=body, headers={"Content-Type": NPZ, "Accept": accept})


def flat(fields: dict[str, Any]) -> dict[str, Any]:
    """A JSON object of an endpoint as the fields of an archive: objects by dots, without nulls."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": each for inner, each in flat(value).items()}
        elif value is not None:
            found[name] = np.array(value)
    return found


def assert_same(value: NDArray[Any], other: Any, name: str) -> None:
    """Check that an array has the numbers of a JSON value, to the bit, with NaN or -1 for null."""
    null = -1 if name == "matching" else np.nan
    expected = np.array(_without_null(other, null))
    if not expected.size:
        assert not value.size, name
    elif expected.dtype.kind == "f":
        assert value.dtype == np.float64, name
        assert value.shape == expected.shape, name
        assert np.array_equal(value, expected, equal_nan=True), name
    else:
        assert value.dtype.kind == expected.dtype.kind, name
        assert np.array_equal(value, expected), name


def _without_null(value: Any, null: float) -> Any:
    if isinstance(value, list):
        return [_without_null(item, null) for item in value]
    return null if value is None else value
