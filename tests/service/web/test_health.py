"""Probes, metadata of the models, and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.app import create_app, new_board
from service.settings import Settings
from tests.service.http import assert_problem


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_readyz_fails_during_warm_up_and_while_draining(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))
    client = TestClient(app)  # without its lifespan: never warm
    assert "warming" in assert_problem(client.get("/readyz"), 503)["detail"]
    seat = app.parts.health.seat
    seat.join()
    for engine in ("em", "vae"):
        seat.set_ready(engine)
    assert "gan" in assert_problem(client.get("/readyz"), 503)["detail"]
    seat.set_ready("gan")
    assert client.get("/readyz").status_code == 200
    seat.board.drain()
    assert "draining" in assert_problem(client.get("/readyz"), 503)["detail"]


def test_livez_fails_if_a_worker_is_dead(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))
    assert "gan" in assert_problem(TestClient(app).get("/livez"), 503)["detail"]


def test_a_process_that_ends_does_not_make_the_others_drain(checkpoints: Path) -> None:
    board = new_board(2)
    with TestClient(create_app(Settings(checkpoints=checkpoints, device="cpu"), seat=board.seat(0))):
        pass
    assert not board.draining


def test_answers_of_a_service_that_drains_close_their_connections(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))
    client = TestClient(app)
    assert "connection" not in client.get("/v2").headers
    app.parts.health.seat.board.drain()
    assert client.get("/v2").headers["connection"] == "close"


def test_a_process_whose_warm_up_fails_is_replaced(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("the cache cannot be read")

    monkeypatch.setattr("service.formats.json_numbers.reading.warm_up", fail)
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))
    with TestClient(app) as client:
        until(lambda: not client.get("/livez").is_success)
        assert "warm-up" in assert_problem(client.get("/livez"), 503)["detail"]
        seat = app.parts.health.seat
        until(lambda: seat.board.is_stuck(seat.replica))  # a supervisor ends a replica that says so


def test_v2_describes_the_models(client: TestClient) -> None:
    assert client.get("/v2").json()["name"] == "latentserve"
    assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
    for name in ("em", "vae", "gan"):
        assert client.get(f"/v2/models/{name}").json()["name"] == name
        assert client.get(f"/v2/models/{name}/ready").status_code == 200


def test_metrics_show_requests_queues_batches_and_device_time(client: TestClient) -> None:
    client.get("/gan/generate?seed=1")
    text = client.get("/metrics").text
    for name in (
        'latentserve_requests_total{method="GET",route="/gan/generate",status="200"}',
        'latentserve_request_seconds_bucket{le="0.1",route="/gan/generate"}',
        'latentserve_queue_items{engine="gan"} 0.0',
        'latentserve_queue_seconds_count{engine="gan"}',
        'latentserve_batch_size_bucket{engine="gan",le="1.0"}',
        'latentserve_batch_seconds_sum{engine="gan"}',
        "latentserve_replicas 1.0",
        "latentserve_replica_restarts_total 0.0",
    ):
        assert name in text
    client.get("/some/path/that/is/not/there")
    assert "/some/path" not in client.get("/metrics").text
