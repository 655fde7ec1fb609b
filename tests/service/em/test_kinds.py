"""Every transform has a record, and every stage accepts each transform that the options name."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from service.em import wire, worker
from service.em.checks import check
from service.em.choices import TRANSFORMS, Transform
from service.em.climbing.information import generators
from service.em.jit import compiled
from service.em.kernel.fitting import Sums, fit
from service.em.kinds import AFFINE, KINDS, MAPS, RIGID, ROTATES, SCALES, SIMILARITY, TRANSLATION, TransformKind
from service.em.plan import plan
from service.em.problem import Problem
from service.em.register import register_plans
from service.em.schemas.registration import RegisterRequest
from service.errors import InvalidInput

DIMENSIONS = 1, 2, 3, 4
ALLOWED = [(name, D) for name in TRANSFORMS for D in DIMENSIONS if KINDS[name].allows(D)]
REFUSED = [(name, D) for name in TRANSFORMS for D in DIMENSIONS if not KINDS[name].allows(D)]


@compiled
def flags(kind: int) -> tuple[bool, bool]:
    return ROTATES[kind], SCALES[kind]


def test_each_transform_has_one_record() -> None:
    assert tuple(KINDS) == TRANSFORMS


def test_codes_are_the_positions_of_the_maps() -> None:
    assert [kind.code for kind in MAPS] == list(range(len(MAPS))) == [TRANSLATION, RIGID, SIMILARITY, AFFINE]
    assert {kind.code for kind in KINDS.values()} == {kind.code for kind in MAPS}


@pytest.mark.parametrize("kind", MAPS)
def test_compiled_loops_read_the_record(kind: TransformKind) -> None:
    assert flags(kind.code) == (kind.rotates, kind.scales)


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_map_has_a_number_for_each_generator_and_each_axis(kind: TransformKind, dimension: int) -> None:
    assert kind.numbers(dimension) == len(generators(kind.code, dimension)) + dimension


@pytest.mark.parametrize("code", [-1, len(MAPS)])
def test_an_unknown_code_has_no_m_step(code: int) -> None:
    with pytest.raises(ValueError, match="no M-step"):
        fit(code, np.eye(2, 3), Sums(np.eye(3), np.zeros((3, 2)), 0.0, 0.0))


@pytest.mark.parametrize(("transform", "dimension"), ALLOWED)
def test_a_request_for_each_transform_gets_an_answer_of_its_kind(transform: Transform, dimension: int) -> None:
    cloud = np.random.default_rng(dimension).normal(size=(12, dimension))
    body = RegisterRequest(source=cloud, target=cloud + 0.01, transform=transform)
    planned = plan(check(wire.problem(body)))
    (outcome,) = register_plans([planned])
    answer, kind = wire.registration(outcome, transform), KINDS[transform]
    assert (planned.engine == "batched") == kind.batched
    assert (answer["rotation"] is None) == (answer["scale"] is None) == kind.shears
    assert (outcome.displacement is not None) == kind.deforms
    assert (outcome.linear is not None) == kind.fits_linear
    assert np.shape(answer["matrix"]) == (dimension + 1, dimension + 1)
    assert len(answer["matching"]) == len(cloud)


@pytest.mark.parametrize(("transform", "dimension"), REFUSED)
def test_a_dimension_that_a_transform_is_not_defined_for_is_refused(transform: Transform, dimension: int) -> None:
    cloud = np.random.default_rng(dimension).normal(size=(12, dimension))
    with pytest.raises(InvalidInput) as error:
        check(Problem(cloud, cloud, transform=transform))
    others = cast("list[Transform]", error.value.allowed)
    assert error.value.pointer == "/transform"
    assert others
    assert all(KINDS[name].allows(dimension) for name in others)


def test_the_document_of_the_service_lists_each_transform() -> None:
    assert RegisterRequest.model_json_schema()["properties"]["transform"]["enum"] == list(TRANSFORMS)


def test_the_warm_up_runs_each_transform() -> None:
    assert {job.plan.problem.transform for job in worker.warm_up_jobs()} == set(TRANSFORMS)
