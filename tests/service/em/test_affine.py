"""Affine starts: reflections are found as rotations are, and are tried only where no other start is clear."""

from __future__ import annotations

import numpy as np
import pytest

from service.em.cancellation import Poll
from service.em.coordinates import Frame, frame
from service.em.kinds import RIGID, SIMILARITY
from service.em.problem import Problem
from service.em.register import register
from service.em.starting import affine
from service.em.starting.global_start import find_start
from service.em.starting.pyramid import Pyramid
from service.em.starting.starts import PoseStart
from tests.problems.scenes.scene import Float64


def _pair(dimension: int, mirror: float, seed: int, *, shear: float = 0.3) -> tuple[Float64, Float64, Float64]:
    """An uneven cloud, its image with noise, in another order, and the matrix between them."""
    rng = np.random.default_rng([seed, dimension])
    source = rng.normal(size=(120, dimension)) * [1, 2, 1.5][:dimension]
    source[:40] += 3 * rng.normal(size=dimension)
    matrix = np.linalg.qr(rng.normal(size=(dimension, dimension)))[0]
    matrix[0] *= mirror * np.sign(np.linalg.det(matrix))
    matrix = matrix @ (np.eye(dimension) + shear * rng.uniform(-1, 1, (dimension, dimension)))
    target = source @ matrix.T + rng.uniform(-9, 9, dimension) + 1e-3 * rng.normal(size=source.shape)
    return source, rng.permutation(target), matrix


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("mirror", [1.0, -1.0])
@pytest.mark.parametrize("shear", [0.0, 0.3])
def test_a_reflection_is_found_as_a_rotation_is(dimension: int, mirror: float, shear: float) -> None:
    for seed in range(3):
        source, target, matrix = _pair(dimension, mirror, seed, shear=shear)
        found = register(Problem(source, target, transform="affine"))
        assert found.linear is not None
        assert found.linear == pytest.approx(matrix, abs=5e-3)
        assert np.sign(np.linalg.det(found.linear)) == mirror


def test_a_mirrored_picture_is_found_although_some_points_have_no_partner() -> None:
    """Rows of a picture run downward: one axis is reversed, and each cloud has points that the other lacks."""
    rng = np.random.default_rng(5)
    source, target, matrix = _pair(2, -1.0, 5, shear=0.0)
    source = np.concatenate([source, rng.uniform(source.min(0), source.max(0), (20, 2))])
    target = np.concatenate([target, rng.uniform(target.min(0), target.max(0), (20, 2))])
    found = register(Problem(source, target, transform="affine"))
    assert found.linear == pytest.approx(matrix, abs=1e-2)


@pytest.mark.parametrize("transform", ["rigid", "similarity"])
def test_a_fit_without_reflections_warns_of_one(transform: str) -> None:
    source, target, _ = _pair(2, -1.0, 1, shear=0.0)
    found = register(Problem(source, target, transform=transform))  # type: ignore[arg-type]
    assert any("mirror image" in warning for warning in found.warnings)
    assert found.quality is not None
    assert found.quality.verdict == "failed"


@pytest.mark.parametrize(("mirror", "searches"), [(1.0, 2), (-1.0, 4)])
def test_reflections_are_searched_only_if_no_other_start_is_clear(
    mirror: float, searches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: list[int] = []

    def counted(points: Frame, pyramid: Pyramid, kind: int, poll: Poll) -> PoseStart:
        kinds.append(kind)
        return find_start(points, pyramid, kind, poll)

    monkeypatch.setattr(affine, "find_start", counted)
    source, target, _ = _pair(3, mirror, 0)
    points = frame(source, target, one_unit=False)
    affine.affine_start(points, Pyramid(points), points.floor, lambda: None)
    assert kinds == [SIMILARITY, RIGID] * (searches // 2)
