"""What cannot be computed is refused, with the field that is at fault and what it may be."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from service.em.checks import check
from service.em.problem import Pose
from service.em.register import register_batch
from service.errors import InvalidInput
from tests.problems.tight import tight

POINTS = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], dtype=torch.float64)
GOOD = tight(POINTS, POINTS)
NAN, INF = float("nan"), float("inf")


def with_value(value: float) -> torch.Tensor:
    points = POINTS.clone()
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
    ("/prior", {"prior": torch.full((3, 2), 0.5, dtype=torch.float64)}),
    ("/prior/1", {"prior": torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.float64)}),
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
    ("/stiffness", {"stiffness": 0.0, "transform": "nonrigid"}),
    ("/refine", {"refine": True, "transform": "nonrigid"}),
    ("/init", {"transform": "rigid", "init": Pose(2 * torch.eye(2, dtype=torch.float64), torch.zeros(2))}),
    ("/init", {"transform": "rigid", "init": Pose(torch.diag(torch.tensor([1.0, -1.0])), torch.zeros(2))}),
    ("/init", {"transform": "affine", "init": Pose(torch.eye(3), torch.zeros(2))}),
    ("/init", {"init": "elsewhere"}),
    ("/init", {"init": torch.zeros(3)}),
    ("/init", {"init": torch.tensor([NAN, 0.0])}),
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


def test_the_offending_value_is_in_the_detail() -> None:
    with pytest.raises(InvalidInput, match=r"\[1, 0\] is nan"):
        check(GOOD._replace(source=with_value(NAN)))


def test_the_default_prior_is_free_for_a_known_sigma_only() -> None:
    assert GOOD.resolved_prior == "uniform"
    assert GOOD._replace(sigma=1.0).resolved_prior == "free"
    assert GOOD._replace(prior="free").resolved_prior == "free"
