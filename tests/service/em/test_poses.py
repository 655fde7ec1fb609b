"""Laws of a registration by any transform: coordinates, likelihood, batches, order, and what is without a partner."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from service.em.choices import TRANSFORMS, Init, Normalize, Transform
from service.em.outcome import Outcome
from service.em.problem import Pose, Problem
from service.em.register import register, register_batch
from tests.problems.clouds import Posed, angle_between, moved, pose_of, posed
from tests.problems.tight import tight
from tests.service.em.test_batches import same

Float64 = NDArray[np.float64]

LINEAR: tuple[Transform, ...] = ("translation", "rigid", "similarity", "affine")


def near(instance: Posed, kind: str) -> Pose | Float64:
    """A start that is not quite the true transform."""
    A, T = instance.pose
    off = 0.02 * np.ones_like(T)
    return T + off if kind == "translation" else Pose(A, T + off)


@pytest.mark.parametrize("kind", TRANSFORMS)
@pytest.mark.parametrize("place", [0.0, 1e6])
def test_the_transform_applied_to_the_source_gives_the_registered_points(kind: Transform, place: float) -> None:
    instance = posed(50, kind="rigid" if kind == "nonrigid" else kind, sigma=0.01, seed=1)
    source, target = instance.source + place, instance.target - place
    outcome = register(tight(source, target, transform=kind, registered=True))
    assert outcome.registered is not None
    expected = moved(source, pose_of(outcome))
    if kind == "nonrigid":
        assert outcome.displacement is not None
        expected = expected + outcome.displacement
    rounding = 1e-13 if place == 0 else 1e-8  # a rotation's last digit times a million
    np.testing.assert_allclose(outcome.registered, expected, rtol=0, atol=rounding)
    np.testing.assert_allclose(outcome.registered, target[instance.partner], rtol=0, atol=0.06)


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("dimension", [2, 3])
def test_an_exact_copy_is_found_exactly(kind: Transform, dimension: int) -> None:
    instance = posed(40, kind=kind, dimension=dimension, angle=3.0, seed=dimension)
    init: Pose | Init = instance.pose if kind == "affine" else "auto"
    outcome = register(tight(instance.source, instance.target, transform=kind, init=init))
    found = pose_of(outcome)
    np.testing.assert_allclose(found.linear, instance.pose.linear, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.translation, instance.pose.translation, rtol=0, atol=1e-8)
    assert np.array_equal(outcome.matching, instance.partner)


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("count", [60, 1200])
def test_what_is_asked_for_beside_the_answer_changes_none_of_its_bits(kind: Transform, count: int) -> None:
    instance = posed(count, kind=kind, sigma=0.01, angle=0.2, seed=4)
    problem = tight(instance.source, instance.target, transform=kind, init="centroid", outlier_weight=0.05)
    plain, asked = register(problem), register(problem._replace(trace=True, path=True, registered=True))
    assert np.array_equal(pose_of(plain).linear, pose_of(asked).linear)
    assert np.array_equal(plain.translation, asked.translation)
    assert (plain.sigma, plain.log_likelihood, plain.iterations) == (
        asked.sigma,
        asked.log_likelihood,
        asked.iterations,
    )
    assert np.array_equal(plain.matching_probability, asked.matching_probability)


@pytest.mark.parametrize("thickness", [1e-4, 1e-6])
@pytest.mark.parametrize("tilt", [0.0, 0.6])
def test_a_thin_slab_keeps_its_thickness_under_an_affine_map(thickness: float, tilt: float) -> None:
    rng = np.random.default_rng(5)
    turn = np.array([[math.cos(tilt), 0, -math.sin(tilt)], [0, 1, 0], [math.sin(tilt), 0, math.cos(tilt)]])
    slab = rng.uniform(size=(80, 3)) * [1, 1, thickness] @ turn.T
    A = np.array([[1.1, 0.2, 0], [-0.1, 0.9, 0.1], [0, 0.1, 1.2]])
    near = Pose(A @ np.diag(np.array([1, 1.02, 1])), np.zeros(3))
    found = pose_of(register(tight(slab, slab @ A.T, transform="affine", init=near)))
    np.testing.assert_allclose(slab @ found.linear.T + found.translation, slab @ A.T, rtol=0, atol=1e-9)
    across = turn[:, 2].copy()
    assert np.linalg.norm((found.linear - A) @ across) < 0.3  # not squeezed away


def test_a_rotation_of_a_mirrored_cloud_is_still_proper() -> None:
    instance = posed(40, sigma=0.01)
    mirrored = instance.target * np.array([-1.0, 1.0, 1.0])
    kinds: tuple[Transform, ...] = ("rigid", "similarity")
    for kind, init in itertools.product(kinds, ("auto", "centroid", "identity")):
        outcome = register(tight(instance.source, mirrored, transform=kind, init=init))
        assert outcome.linear is not None
        gram, scale = outcome.linear.T @ outcome.linear, np.linalg.det(outcome.linear) ** (1 / 3)
        assert scale > 0
        np.testing.assert_allclose(gram, scale**2 * np.eye(3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_responsibilities_and_the_outlier_bin_sum_to_one(kind: Transform) -> None:
    instance = posed(
        25, kind="rigid" if kind == "nonrigid" else kind, source_only=10, target_only=3, sigma=0.02, angle=0.2, seed=2
    )
    ways: list[Normalize] = ["rows"] if kind != "nonrigid" else ["columns"]
    for normalize, weight in itertools.product(ways, (0.3, "auto")):
        problem = tight(
            instance.source, instance.target, transform=kind, normalize=normalize, outlier_weight=weight,
            init=near(instance, "translation" if kind == "translation" else "rigid"), responsibilities=True,
        )  # fmt: skip
        outcome = register(problem)
        assert outcome.responsibilities is not None
        assert outcome.outlier_probability is not None
        assert outcome.outlier_weight > 0
        total = outcome.responsibilities.sum(1) + outcome.outlier_probability
        if kind != "nonrigid":
            np.testing.assert_allclose(total, np.ones(35), rtol=0, atol=1e-12)


def assorted() -> list[Problem]:
    """One problem for each kind of choice."""
    out = []
    for seed, kind in enumerate(TRANSFORMS):
        instance = posed(30, kind="rigid" if kind == "nonrigid" else kind, source_only=4, sigma=0.01, seed=seed)
        plain = tight(instance.source, instance.target, transform=kind, trace=True, responsibilities=True)
        out += [plain, plain._replace(matching="one_to_one", registered=True, outlier_weight=0.1)]
        if kind != "nonrigid":
            out += [plain._replace(prior="mixing"), plain._replace(normalize="sinkhorn"), plain._replace(refine=True)]
            out += [plain._replace(prior="free", normalize="rows", max_iterations=20, sigma=0.05)]
    return out


def test_an_outcome_does_not_depend_on_the_batch_nor_on_what_was_computed_before() -> None:
    problems = assorted()
    alone = [register(problem) for problem in problems]
    order = np.random.default_rng(0).permutation(len(problems)).tolist()
    for i, outcome in zip(order, register_batch([problems[i] for i in order]), strict=True):
        assert same(outcome, alone[i]), problems[i]


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_the_order_of_the_points_only_orders_the_matching(kind: Transform) -> None:
    instance = posed(40, kind="rigid" if kind == "nonrigid" else kind, source_only=6, target_only=4, sigma=0.01)
    generator = np.random.default_rng(1)
    rows, columns = (generator.permutation(len(x)) for x in (instance.source, instance.target))
    init: Pose | Init = instance.pose if kind == "affine" else "auto"
    problem = tight(instance.source, instance.target, transform=kind, outlier_weight="auto", init=init)
    plain = register(problem)
    mixed = register(problem._replace(source=instance.source[rows], target=instance.target[columns]))
    np.testing.assert_allclose(pose_of(mixed).linear, pose_of(plain).linear, rtol=0, atol=1e-6)
    np.testing.assert_allclose(mixed.translation, plain.translation, rtol=0, atol=1e-6)
    back = np.where(mixed.matching >= 0, columns[mixed.matching], -1)
    assert np.array_equal(back, plain.matching[rows])


@pytest.mark.parametrize("normalize", ["rows", "columns", "sinkhorn"])
@pytest.mark.parametrize("whose", ["source", "target"])
def test_clouds_that_overlap_in_part_are_registered_from_near(normalize: Normalize, whose: str) -> None:
    for seed in range(3):
        angle = 5 * np.pi / 180
        more: dict[str, Any] = {"source_only" if whose == "source" else "target_only": 150}
        instance = posed(200, sigma=0.005, angle=angle, shift=0.02, seed=seed, **more)
        problem = tight(
            instance.source, instance.target, transform="rigid", normalize=normalize, outlier_weight="auto",
            init="identity",
        )  # fmt: skip
        outcome = register(problem)
        assert outcome.linear is not None
        assert angle_between(outcome.linear, instance.pose.linear) < 0.3
        matched = outcome.matching >= 0
        assert (outcome.matching == instance.partner)[matched & (instance.partner >= 0)].mean() > 0.97


def test_points_without_a_partner_are_recognised() -> None:
    instance = posed(60, source_only=30, sigma=0.004, seed=3)
    # The points without a partner are moved away from all targets.
    source = np.concatenate([instance.source[:30] + 0.37, instance.source[30:]])
    outcome = register(tight(source, instance.target, transform="rigid"))
    assert outcome.outlier_probability is not None
    assert np.array_equal(outcome.matching[30:], instance.partner[30:])
    assert outcome.outlier_probability[30:].max() < 0.1
    assert outcome.outlier_probability[:30].mean() > 0.8
    assert outcome.outlier_weight == pytest.approx(outcome.outlier_probability.mean().item(), abs=1e-3)


def square(count: int) -> Float64:
    """`count` points evenly on each side of the unit square, corners first."""
    t = np.arange(count) / count
    zero, one = np.zeros_like(t), np.ones_like(t)
    return np.concatenate([np.stack(side, 1) for side in ((t, zero), (one, t), (1 - t, one), (zero, 1 - t))])


def test_a_square_has_other_answers_that_are_as_good() -> None:
    source = square(6)
    target = source + np.array([3.0, -2.0])
    outcome = register(tight(source, target, transform="rigid"))
    assert outcome.runner_up is not None
    assert abs(outcome.runner_up.gap) < 1e-3
    assert any("symmetric" in warning for warning in outcome.warnings)
    other, found = outcome.runner_up.pose.linear, pose_of(outcome).linear
    quarters = angle_between(other, found) / 90
    assert quarters == pytest.approx(round(quarters), abs=1e-3)
    assert round(quarters) != 0
    assert cdist(moved(source, outcome.runner_up.pose), target).min(1).max() < 1e-4


def test_a_cloud_without_symmetry_has_none() -> None:
    instance = posed(60, sigma=0.005, seed=4)
    outcome = register(tight(instance.source, instance.target, transform="rigid"))
    assert outcome.warnings == ()
    assert outcome.runner_up is None or outcome.runner_up.gap > 10


@pytest.mark.parametrize("weight", [None, "auto"])
def test_a_translation_that_fits_in_two_places_says_so(weight: Any) -> None:
    part = np.random.default_rng(8).uniform(size=(30, 3))
    there = part + np.array([5.0, 0, 0])
    for cut, doubtful in ((30, True), (3, False)):
        outcome = register(tight(part, np.concatenate([part, there[:cut]]), outlier_weight=weight))
        places = [outcome.translation.tolist()]
        assert any("runner_up" in warning for warning in outcome.warnings) == doubtful
        if doubtful:
            assert outcome.runner_up is not None
            assert outcome.runner_up.gap == pytest.approx(0, abs=1e-3)
            places.append(outcome.runner_up.pose.translation.tolist())
        found = sorted(places)
        assert found == [pytest.approx([shift, 0, 0], abs=1e-6) for shift in (0, 5)[: len(found)]]


@pytest.mark.parametrize("seed", range(8))
def test_a_likelier_pose_than_the_answer_is_never_kept_quiet(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = (rng.uniform(size=(50, 3)) for _ in range(2))
    outcome = register(tight(source, target, transform="rigid"))
    doubted = any("runner_up" in warning for warning in outcome.warnings)
    assert doubted == (outcome.runner_up is not None and outcome.runner_up.gap < math.log(20))
    whole = register(tight(source, target, transform="rigid", outlier_weight=0.0))
    assert whole.runner_up is None or whole.runner_up.gap >= 0


@pytest.mark.parametrize(("dimension", "sigma"), [(1, 0.0), (1, 0.002), (4, 0.0), (5, 0.005)])
@pytest.mark.parametrize("seed", range(3))
def test_an_affine_map_is_found_in_any_dimension(dimension: int, sigma: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = rng.uniform(size=(60, dimension))
    A = np.eye(dimension) + 0.3 * rng.normal(size=(dimension, dimension))
    target = rng.permutation(source @ A.T + 3 + sigma * rng.normal(size=source.shape))
    outcome = register(tight(source, target, transform="affine"))
    there = source @ A.T + 3
    assert math.sqrt(np.square(moved(source, pose_of(outcome)) - there).sum(1).mean()) < 3 * sigma + 1e-6


def test_a_start_in_many_dimensions_that_explains_little_is_doubted() -> None:
    rng = np.random.default_rng(0)
    source, target = (rng.normal(size=(80, 4)) for _ in range(2))
    outcome = register(tight(source, target, transform="affine"))
    assert any("init" in warning for warning in outcome.warnings)


def test_a_refinement_on_pairs_that_are_none_is_doubted() -> None:
    instance = posed(60, kind="translation", source_only=12, target_only=12, dimension=2, sigma=0.003, seed=5)
    problem = tight(instance.source, instance.target, matching="one_to_one", refine=True)
    assert any("outlier_weight" in warning for warning in register(problem).warnings)
    assert register(problem._replace(outlier_weight=0.2)).warnings == ()


def test_the_path_begins_at_the_start_and_ends_at_the_answer() -> None:
    instance = posed(40, sigma=0.01)
    outcome: Outcome = register(
        tight(instance.source, instance.target, transform="rigid", init=instance.pose, path=True)
    )
    np.testing.assert_allclose(outcome.path[0].linear, instance.pose.linear, rtol=0, atol=1e-12)
    np.testing.assert_allclose(outcome.path[0].translation, instance.pose.translation, rtol=0, atol=1e-12)
    assert np.array_equal(outcome.path[-1].linear, pose_of(outcome).linear)
