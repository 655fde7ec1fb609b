"""Inputs that people have: files as their tools write them, and clouds that mislead a fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.testclient import TestClient

# The sources, the transform, and T; of files with themselves T is 0.
TABLES = [
    ("trackmate", "csv", (1.2, -0.45)),
    ("thunderstorm", "csv", (120.0, -45.0)),
    ("paraview", "csv", (120.0, -45.0, 0.0)),
    ("xyzrgb", "xyz", (120.0, -45.0, 0.0)),
]
WITH_THEMSELVES = [
    "ply-vertex-list.ply", "ply-cr-only.ply", "ply-utf8-bom.ply", "pcd-count-0.pcd", "pts-count-line.pts",
    "npy-structured-xyz.npy", "csv-trailing-comma.csv",
]  # fmt: skip


@pytest.fixture
def field(real_data: Path) -> Path:
    """The folder of such inputs, beside that of real data."""
    folder = real_data.parent / "field"
    if not folder.is_dir():
        pytest.skip("no folder of such inputs")
    return folder


def _files(client: TestClient, source: Path, target: Path, **fields: str) -> dict[str, Any]:
    parts = {name: (path.name, path.read_bytes()) for name, path in (("source", source), ("target", target))}
    answer = client.post("/em/register", files=parts, data=fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _json(client: TestClient, path: Path, **fields: str) -> dict[str, Any]:
    body = json.loads(path.read_bytes().decode("utf-8-sig")) | fields
    answer = client.post("/em/register", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "ending", "shift"), TABLES)
@pytest.mark.parametrize("transform", ["translation", "rigid"])
def test_attributes_of_tables_are_no_coordinates(
    client: TestClient, field: Path, name: str, ending: str, shift: tuple[float, ...], transform: str
) -> None:
    found = _files(client, field / f"{name}_a.{ending}", field / f"{name}_b.{ending}", transform=transform)
    assert found["translation"] == pytest.approx(shift, abs=1e-2)
    assert found["quality"]["verdict"] == "good"
    assert bool(found["warnings"]) == (ending == "xyz")


@pytest.mark.real_data
@pytest.mark.parametrize("name", WITH_THEMSELVES)
def test_files_as_tools_write_them_are_read(client: TestClient, field: Path, name: str) -> None:
    assert _files(client, field / name, field / name)["translation"] == pytest.approx([0, 0, 0], abs=1e-6)


@pytest.mark.real_data
def test_a_byte_order_mark_before_json_is_read(client: TestClient, field: Path) -> None:
    content = (field / "json-with-bom.json").read_bytes()
    answer = client.post("/em/register", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 200


@pytest.mark.real_data
def test_five_exact_pairs_of_ten_are_found(client: TestClient, field: Path) -> None:
    for transform in ("rigid", "similarity"):
        found = _json(client, field / "fiducials-5-of-10.json", transform=transform)
        assert found["translation"] == pytest.approx([66, 515], abs=1e-3)
        assert np.arctan2(found["rotation"][1][0], found["rotation"][0][0]) == pytest.approx(0.9, abs=1e-4)


@pytest.mark.real_data
def test_a_mirrored_cloud_is_found_or_warned_of(client: TestClient, field: Path) -> None:
    path = field / "affine-mirrored-2d.json"
    matrix = np.array(_json(client, path)["matrix"])
    assert matrix[:2, :2] == pytest.approx(np.array([[-0.6216, -0.7833], [-0.7833, 0.6216]]), abs=1e-2)
    for transform in ("rigid", "similarity"):
        assert any("mirror image" in warning for warning in _json(client, path, transform=transform)["warnings"])


@pytest.mark.real_data
@pytest.mark.parametrize("noise", ["auto", "surface", "isotropic"])
def test_the_angle_about_the_axis_of_a_cylinder_is_unknown(client: TestClient, field: Path, noise: str) -> None:
    found = _json(client, field / "symmetric-cylinder.json", noise=noise)
    assert any("angle about an axis" in warning for warning in found["warnings"])
    axis = np.array(found["rotation"])[:, 2]
    covariance = found["rotation_covariance"]
    assert covariance is None or axis @ np.array(covariance) @ axis > 1


@pytest.mark.real_data
def test_the_rings_of_a_lidar_do_not_stop_the_motion(client: TestClient, field: Path) -> None:
    found = _files(client, field / "lidar_rings_source.npy", field / "lidar_rings_target.npy", transform="rigid")
    assert found["translation"] == pytest.approx([0.5, 0.15, 0], abs=0.01)
    assert np.arctan2(found["rotation"][1][0], found["rotation"][0][0]) == pytest.approx(0.3, abs=1e-3)


def test_transposed_arrays_have_a_warning(client: TestClient) -> None:
    cloud: NDArray[np.float64] = np.random.default_rng(0).normal(size=(40, 3))
    for points, warns in ((cloud, False), (cloud.T, True)):
        answer = client.post("/em/register", json={"source": points.tolist(), "target": (points + 1).tolist()}).json()
        assert any("transpose" in warning for warning in answer["warnings"]) == warns
