"""Large problems are checked and planned on a thread, while the event loop answers others."""

from __future__ import annotations

import asyncio

import pytest
from starlette.testclient import TestClient

from service.em import batches, worker
from service.em.plan import Plan, plan
from service.em.problem import Problem
from service.web import threads

PROBLEM = {"source": [[0.0, 1.0]] * 40, "target": [[0.0, 1.0], [2.0, 5.0]] * 20, "sigma": 1.0}


@pytest.mark.parametrize(
    ("path", "body"), [("/em/register", PROBLEM), ("/em/register/batch", {"problems": [PROBLEM, PROBLEM]})]
)
@pytest.mark.parametrize("few", [79, 10**6])
def test_large_problems_are_planned_beside_the_event_loop(
    path: str, body: dict[str, object], few: int, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_loop: list[bool] = []

    def note(problem: Problem) -> Plan:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            on_loop.append(False)
        else:
            on_loop.append(True)
        return plan(problem)

    for module in (batches, worker):
        monkeypatch.setattr(module, "plan", note)
    monkeypatch.setattr(threads, "FEW_NUMBERS", few)
    monkeypatch.setattr("service.em.routes.PROBLEM", 1)
    monkeypatch.setattr("service.em.routes.FEW_NUMBERS", few)
    assert client.post(path, json=body).status_code == 200
    assert on_loop
    assert on_loop == [few > 79] * len(on_loop)
