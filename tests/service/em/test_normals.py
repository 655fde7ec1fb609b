"""Normals that files bring are used with the noise of surfaces, whatever their length, and never do harm."""

from __future__ import annotations

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.em.checks import check
from service.em.kernel.voxels import Voxels, every_point
from service.em.problem import Problem
from service.em.register import register
from service.em.surfaces.normals import normals_of_voxels
from service.em.surfaces.patches import patches, with_given
from service.errors import InvalidInput
from tests.problems.scenes.scene import Float64, turn

AXES = np.arange(3)


def _height(p: Float64) -> tuple[Float64, Float64]:
    """The points (N, 3) of a landscape over places (N, 2), and its unit normals."""
    x, y = p.T
    z = 0.3 * np.sin(2 * x) + 0.2 * np.cos(3 * y) + 0.1 * np.sin(x + 2 * y)
    along_x = 0.6 * np.cos(2 * x) + 0.1 * np.cos(x + 2 * y)
    along_y = -0.6 * np.sin(3 * y) + 0.2 * np.cos(x + 2 * y)
    normals = np.stack([-along_x, -along_y, np.ones(len(p))], 1)
    return np.stack([x, y, z], 1), normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _scans(count: int = 3000) -> tuple[Problem, Float64, Float64]:
    """Two samples of a landscape, the second turned and moved, with their normals; the rotation and T."""
    rng = np.random.default_rng(3)
    (source, own), (target, others) = (_height(rng.uniform(-2, 2, (count, 2))) for _ in range(2))
    rotation, shift = turn(np.array([0.05, -0.03, 0.1])), np.array([0.1, -0.05, 0.02])
    source, target = (points + 0.002 * rng.normal(size=points.shape) for points in (source, target))
    problem = Problem(source, target @ rotation.T + shift, transform="rigid", noise="surface", init="identity")
    return problem._replace(source_normals=own, target_normals=others @ rotation.T), rotation, shift


def _off(problem: Problem, rotation: Float64, shift: Float64) -> float:
    """The root mean square distance of the moved source from its true place."""
    found = register(problem)
    assert found.linear is not None
    off = problem.source @ (found.linear - rotation).T + found.translation - shift
    return float(np.sqrt(np.square(off).sum(1).mean()))


def test_the_pose_is_as_good_with_normals_as_without() -> None:
    problem, rotation, shift = _scans()
    plain = problem._replace(source_normals=None, target_normals=None)
    without, with_normals = _off(plain, rotation, shift), _off(problem, rotation, shift)
    assert without < 0.005
    assert with_normals < 0.005
    assert with_normals != without
    assert _off(problem._replace(noise="auto"), rotation, shift) < 0.005


def test_lengths_and_sides_of_normals_do_not_matter() -> None:
    problem, *_ = _scans(1500)
    assert problem.source_normals is not None
    rng = np.random.default_rng(0)
    lengths = rng.choice([-1e150, -3.0, 0.01, 1.0], len(problem.source))[:, None]
    one, other = register(problem), register(problem._replace(source_normals=problem.source_normals * lengths))
    assert other.translation == pytest.approx(one.translation, abs=1e-6)


@pytest.mark.parametrize("value", [np.nan, 0.0, np.inf])
def test_normals_that_are_missing_leave_those_of_the_patches(value: float) -> None:
    problem, rotation, shift = _scans(1500)
    plain = register(problem._replace(source_normals=None, target_normals=None))
    nothing = np.full(problem.source.shape, value)
    found = register(problem._replace(source_normals=nothing, target_normals=nothing))
    np.testing.assert_array_equal(found.translation, plain.translation)
    np.testing.assert_array_equal(found.linear, plain.linear)
    assert problem.source_normals is not None
    half = problem.source_normals.copy()
    half[::2] = value
    assert _off(problem._replace(source_normals=half), rotation, shift) < 0.01


def test_the_normal_of_a_voxel_is_the_mean_of_its_points() -> None:
    given = np.array([[0, 0, 2.0], [0, 0, -1.0], [0, 1.0, 1.0], [1.0, 0, 0], [0, 1.0, 0], [np.nan, 0, 1], [0, 0, 0]])
    found = Voxels(np.zeros((3, 4)), np.array([3, 2, 1, 1]), np.array([0, 0, 0, 1, 1, 2, 3]))
    normals = normals_of_voxels(given, np.arange(7), AXES, found)
    assert normals is not None
    mean = np.array([0, 0, 2.0]) + np.array([0, 1, 1]) / np.sqrt(2)
    np.testing.assert_allclose(normals[:, 0], mean / np.linalg.norm(mean))
    # Two normals at right angles are no patch; the other voxels have none.
    np.testing.assert_array_equal(normals[:, 1:], 0)


def test_normals_follow_the_order_and_the_axes_of_the_frame() -> None:
    given = np.eye(3)
    normals = normals_of_voxels(given, np.array([2, 0, 1]), np.array([1, 0, 2]), every_point(np.zeros((3, 3))))
    np.testing.assert_array_equal(normals, given[[2, 0, 1]][:, [1, 0, 2]].T)


def test_given_normals_take_the_place_of_patches_where_there_are_some() -> None:
    rng = np.random.default_rng(1)
    cloud = rng.normal(size=(3, 50))
    found = patches(cloud, 3)
    some = np.zeros((3, 50))
    some[2, :10] = 1
    after = with_given(cloud, 3, some, 0.0)
    assert after is not None
    np.testing.assert_array_equal(after.normals[:, :10], some[:, :10])
    np.testing.assert_array_equal(after.normals[:, 10:], found.normals[:, 10:])
    assert (after.flat, with_given(cloud, 3, some, 1.0)) == ((after.normals != 0).any(0).mean(), None)
    without = with_given(cloud, 3, None, 0.0)
    assert without is not None
    np.testing.assert_array_equal(without.normals, found.normals)


def test_normals_of_another_shape_are_an_error() -> None:
    cloud = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(InvalidInput, match="source_normals has the shape"):
        check(Problem(cloud, cloud, source_normals=np.zeros((19, 3))))


def test_a_ply_with_normals_uses_them(client: TestClient) -> None:
    problem, _, shift = _scans(1500)
    assert problem.source_normals is not None
    assert problem.target_normals is not None
    source, target = problem.source.copy(), problem.target
    source[7] = np.nan
    whole = _post(client, source, problem.source_normals, target, problem.target_normals)
    plain = _post(client, source, None, target, None)
    kept = np.arange(len(source)) != 7
    alone = problem._replace(source=source[kept], source_normals=problem.source_normals[kept])
    assert whole == pytest.approx(register(alone).translation.tolist(), abs=1e-12)
    assert whole != plain
    assert whole == pytest.approx(plain, abs=0.01)
    assert whole == pytest.approx(shift.tolist(), abs=0.01)


def _post(
    client: TestClient, source: Float64, own: Float64 | None, target: Float64, others: Float64 | None
) -> list[float]:
    files = {"source": ("a.ply", _ply(source, own)), "target": ("b.ply", _ply(target, others))}
    form = {"transform": "rigid", "noise": "surface", "init": "identity"}
    answer = client.post("/em/register", files=files, data=form)
    assert answer.status_code == 200, answer.text
    translation: list[float] = answer.json()["translation"]
    return translation


def _ply(points: Float64, normals: Float64 | None) -> bytes:
    names = ["x", "y", "z"] + ([] if normals is None else ["nx", "ny", "nz"])
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    header += "".join(f"property double {name}\n" for name in names) + "end_header\n"
    table = points if normals is None else np.hstack([points, normals])
    return header.encode() + table.astype("<f8").tobytes()
