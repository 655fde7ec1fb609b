"""A request is checked and planned once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.em import plan as planning
from service.em.checks import check

CLOUD = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 1.0]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often each of the functions is called, by whatever module of the service."""
    counts: dict[str, int] = {}

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        counts[function.__name__] = 0

        def replacement(*arguments: Any) -> Any:
            counts[function.__name__] += 1
            return function(*arguments)

        return replacement

    for function in (check, planning.plan, planning.choose_engine):
        replacement = counted(function)
        for name, module in list(sys.modules.items()):
            if name.startswith("service.em.") and getattr(module, function.__name__, None) is function:
                monkeypatch.setattr(module, function.__name__, replacement)
    return counts


@pytest.mark.parametrize("transform", ["translation", "rigid"])
def test_a_request_is_checked_and_planned_once(client: TestClient, calls: dict[str, int], transform: str) -> None:
    body = {"source": CLOUD, "target": CLOUD, "transform": transform}
    assert client.post("/em/register", json=body).status_code == 200
    assert calls == {"check": 1, "plan": 1, "choose_engine": 1}


def test_each_problem_of_a_batch_is_checked_and_planned_once(client: TestClient, calls: dict[str, int]) -> None:
    body = {"source": CLOUD, "target": CLOUD}
    problems = [body, body | {"transform": "rigid"}, body | {"sigma": 0.5}]
    answer = client.post("/em/register/batch", json={"problems": problems})
    assert all("matching" in result for result in answer.json()["results"])
    assert calls == {"check": 3, "plan": 3, "choose_engine": 3}
