"""Input that cannot be computed is refused; the error names the field and the allowed values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.em.checks import check
from service.em.choices import TRANSFORMS, Transform
from service.em.problem import MAX_COORDINATE, Pose
from service.em.register import register, register_batch
from service.errors import InvalidInput
from tests.problems.tight import tight

POINTS = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
GOOD = tight(POINTS, POINTS)
NAN, INF = float("nan"), float("inf")


def with_value(value: float) -> NDArray[np.float64]:
    points = POINTS.copy()
    points[1, 0] = value
    return points


BAD: list[tuple[str, dict[str, Any]]] = [
    ("/source", {"source": POINTS[:0]}),
    ("/target", {"target": POINTS[:, :0]}),
    ("/source", {"source": POINTS[0]}),
    ("/target", {"target": POINTS[:, :1]}),
    ("/source", {"source": with_value(NAN)}),
    ("/target", {"target": with_value(-INF)}),
    ("/source", {"source": with_value(1e80)}),
    ("/sigma", {"sigma": 0.0}),
    ("/sigma", {"sigma": -1.0}),
    ("/sigma", {"sigma": NAN}),
    ("/sigma", {"sigma": INF}),
    ("/sigma", {"sigma": 1e-60}),
    ("/prior", {"prior": "favourite"}),
    ("/prior", {"prior": np.full((3, 2), 0.5)}),
    ("/prior/1", {"prior": np.array([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]])}),
    ("/prior/0/1", {"prior": np.array([[1.0, NAN, 0], [0, 1, 0], [0, 0, 1]])}),
    ("/prior/2", {"prior": np.array([[1.0, 0, 0], [0, 1, 0], [0, INF, 0]])}),
    ("/prior", {"prior": np.ones(3)}),
    ("/prior", {"prior": "free", "normalize": "columns"}),
    ("/prior", {"prior": "mixing", "normalize": "sinkhorn"}),
    ("/outlier_weight", {"prior": "free", "outlier_weight": 0.1}),
    ("/outlier_weight", {"outlier_weight": 1.0}),
    ("/outlier_weight", {"outlier_weight": NAN}),
    ("/outlier_weight", {"outlier_weight": "some"}),
    ("/transform", {"transform": "bend"}),
    ("/transform", {"transform": "rigid", "source": POINTS[:, :1], "target": POINTS[:, :1]}),
    ("/normalize", {"normalize": "both"}),
    ("/beta", {"beta": 1.0}),
    *(("/beta", {"beta": value, "transform": "nonrigid"}) for value in (0.0, -1.0, 1e-7, 1e7, NAN, INF)),
    *(("/stiffness", {"stiffness": value, "transform": "nonrigid"}) for value in (0.0, -1.0, 1e-21, 1e21, NAN, INF)),
    ("/refine", {"refine": True, "transform": "nonrigid"}),
    ("/init", {"transform": "rigid", "init": Pose(2 * np.eye(2), np.zeros(2))}),
    ("/init", {"transform": "rigid", "init": Pose(np.diag(np.array([1.0, -1.0])), np.zeros(2))}),
    ("/init", {"transform": "affine", "init": Pose(np.eye(3), np.zeros(2))}),
    ("/init", {"init": "elsewhere"}),
    ("/init", {"init": np.zeros(3)}),
    ("/init", {"init": np.array([NAN, 0.0])}),
    ("/matching", {"matching": "soft"}),
    ("/max_iterations", {"max_iterations": 0}),
    ("/max_iterations", {"max_iterations": 10**9}),
    ("/tolerance", {"tolerance": -1e-9}),
    ("/tolerance", {"tolerance": NAN}),
]


@pytest.mark.parametrize(("pointer", "change"), BAD)
def test_a_bad_field_is_named_with_its_cure(pointer: str, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        check(GOOD._replace(**change))
    assert caught.value.pointer == pointer
    assert caught.value.allowed
    with pytest.raises(InvalidInput):
        register_batch([GOOD, GOOD._replace(**change)])


class Subclass(np.ndarray[Any, Any]):
    pass


ARRAYS: dict[str, NDArray[Any]] = {
    "integers": np.array([[0, 1], [2, 3], [4, 5]]),
    "float32": POINTS.astype(np.float32),
    "big-endian": POINTS.astype(">f8"),
    "columns first": np.asfortranarray(POINTS),
    "strided": np.repeat(POINTS, 2, 1)[:, ::2],
    "reversed": POINTS[::-1].copy()[::-1],
    "read-only": np.broadcast_to(POINTS, POINTS.shape),
    "subclass": POINTS.view(Subclass),
}


@pytest.mark.parametrize("points", ARRAYS.values(), ids=ARRAYS)
def test_real_arrays_of_any_type_and_layout_are_converted_and_stay_as_they_are(points: NDArray[Any]) -> None:
    before = points.copy()
    pose = Pose(np.asfortranarray(np.eye(2, dtype=np.float32)), np.zeros(2, dtype=np.int64))
    prior = np.full((3, 3), np.float32(1 / 3))
    checked = check(tight(points, points, init=pose, prior=prior, sigma=1.0))
    assert isinstance(checked.init, Pose)
    for array in (checked.source, checked.target, checked.prior, *checked.init):
        assert type(array) is np.ndarray
        assert array.dtype == np.float64
        assert array.flags.carray
    assert np.array_equal(checked.source, POINTS)
    assert np.array_equal(points, before)


@pytest.mark.parametrize(
    "points",
    [
        POINTS.astype(complex),
        POINTS.astype(object),
        POINTS.astype(str),
        POINTS.astype("M8[s]"),
        np.array(1.0),
        np.array(None),
    ],
    ids=["complex", "objects", "strings", "dates", "rank 0", "rank 0 object"],
)
def test_what_is_not_a_matrix_of_real_numbers_is_refused(points: NDArray[Any]) -> None:
    changes: dict[str, dict[str, Any]] = {
        "/source": {"source": points},
        "/target": {"target": points},
        "/prior": {"prior": points},
        "/init": {"init": points if points.ndim == 0 else points[0]},
    }
    for pointer, change in changes.items():
        with pytest.raises(InvalidInput) as caught:
            check(GOOD._replace(**change))
        assert caught.value.pointer == pointer


def test_good_arrays_are_not_copied() -> None:
    init = np.array([1.0, 2.0])
    checked = check(GOOD._replace(init=init))
    assert checked.source is POINTS
    assert checked.init is init


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("start", ["auto", "given"])
def test_an_outcome_shares_no_memory_with_the_problem_and_the_problem_stays_as_it_is(
    transform: Transform, start: str
) -> None:
    rng = np.random.default_rng(0)
    source = rng.random((12, 2))
    target = source + 0.01 * rng.normal(size=source.shape)
    translation, pose = np.array([0.1, 0.2]), Pose(np.eye(2), np.array([0.1, 0.2]))
    init: Any = "auto" if start == "auto" else translation if transform == "translation" else pose
    problem = tight(
        source, target, transform=transform, init=init, max_iterations=1, registered=True, responsibilities=True,
        trace=True, path=True,
    )  # fmt: skip
    inputs = [source, target, translation, *pose]
    before = [array.copy() for array in inputs]
    for cancelled in (False, True):
        outcome = register(problem._replace(cancelled=lambda: cancelled))  # noqa: B023
        for array in arrays(outcome):
            assert not any(np.shares_memory(array, one) for one in inputs)
            array[...] = 0  # each is writable, too
    assert all(np.array_equal(array, copy) for array, copy in zip(inputs, before, strict=True))


def arrays(value: object) -> list[NDArray[Any]]:
    """All arrays in nested tuples."""
    if isinstance(value, tuple):
        return [array for part in value for array in arrays(part)]
    return [value] if isinstance(value, np.ndarray) else []


def test_all_options_out_of_range_are_named_in_one_error() -> None:
    changes: dict[str, Any] = {
        "sigma": -1.0, "transform": "bend", "outlier_weight": 2.0, "max_iterations": 0, "tolerance": NAN,
    }  # fmt: skip
    with pytest.raises(InvalidInput) as caught:
        check(GOOD._replace(**changes))
    errors = [caught.value, *caught.value.others]
    assert [error.pointer for error in errors] == [f"/{name}" for name in changes]
    assert all(error.allowed and error.detail for error in errors)


def test_points_and_options_are_checked_together() -> None:
    changes: dict[str, Any] = {"source": with_value(NAN), "target": with_value(INF), "sigma": -1.0}
    with pytest.raises(InvalidInput) as caught:
        check(GOOD._replace(**changes))
    assert [error.pointer for error in (caught.value, *caught.value.others)] == ["/source", "/target", "/sigma"]
    changes = {"prior": np.ones((3, 2)), "init": np.zeros(3)}
    with pytest.raises(InvalidInput) as caught:
        check(GOOD._replace(**changes))
    assert [error.pointer for error in (caught.value, *caught.value.others)] == ["/prior", "/init"]


def test_the_offending_value_is_in_the_detail() -> None:
    with pytest.raises(InvalidInput, match=r"\[1, 0\] is nan"):
        check(GOOD._replace(source=with_value(NAN)))


def test_the_default_prior_is_free_for_a_known_sigma_only() -> None:
    assert GOOD.resolved_prior == "uniform"
    assert GOOD._replace(sigma=1.0).resolved_prior == "free"
    assert GOOD._replace(prior="free").resolved_prior == "free"


@pytest.mark.parametrize("sign", [-1, 1])
def test_coordinates_reach_their_bound_and_do_not_exceed_it(sign: int) -> None:
    source = with_value(sign * MAX_COORDINATE)
    assert check(GOOD._replace(source=source)).source is source
    with pytest.raises(InvalidInput):
        check(GOOD._replace(source=with_value(sign * math.nextafter(MAX_COORDINATE, INF))))


def test_a_problem_that_needs_no_conversion_is_returned_itself() -> None:
    assert check(GOOD) is GOOD
