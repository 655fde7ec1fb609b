"""Lanes: slow jobs do not delay fast ones, and abandoned jobs end."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from service.errors import WorkerFailed
from service.gan.encoding import Encoding
from service.gan.inversion import Inversion, Inverter
from service.gan.jobs import DiscriminateJob, GenerateJob, InterpolateJob, Job, is_short
from service.gan.networks import LATENT_DIM
from tests.service.gan.conftest import wait_until_idle
from tests.service.http import assert_problem


def test_an_abandoned_inversion_ends(rich: TestClient) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 28, 28)).tolist()
    late = rich.post("/gan/invert", json={"images": noise}, headers={"X-Timeout-Seconds": "0.5"})
    assert_problem(late, 504)
    wait_until_idle(rich, "gan-inversions")  # all inversions would take a minute


@pytest.mark.parametrize("query", ["digit=1", "digit=1&sampler=rejection"])
def test_an_abandoned_choice_ends(hopeless: TestClient, query: str) -> None:
    late = hopeless.get(f"/gan/generate?count=1024&{query}", headers={"X-Timeout-Seconds": "0.3"})
    assert_problem(late, 504)
    wait_until_idle(hopeless, "gan-large")  # all choices would take half a minute


def test_inversions_take_turns_image_by_image(rich: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher = rich.app.parts.gan.lanes["gan-inversions"]  # type: ignore[attr-defined]
    started = threading.Event()
    inverted: list[int] = []

    def invert(inverter: Inverter, image: torch.Tensor, *_: object) -> Inversion:
        inverted.append(round(float(image.max())))
        started.set()
        deadline = time.monotonic() + 60
        while len(inverted) == 1 and not batcher._queue.items:  # the first image waits for the other request
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return Inversion(torch.zeros(LATENT_DIM), 0.0, 1, True)

    monkeypatch.setattr(Inverter, "invert", invert)

    def send(level: int, images: int) -> None:
        rich.post("/gan/invert", json={"images": np.full((images, 28, 28), level).tolist()}).raise_for_status()

    many, one = (threading.Thread(target=send, args=args) for args in ((0, 16), (255, 1)))
    many.start()
    assert started.wait(60)
    one.start()
    for thread in (many, one):
        thread.join(120)
    assert inverted == [0, 255, *[0] * 15]


def test_no_lane_waits_for_another(rich: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def stand_still(jobs: list[Job]) -> list[Exception]:
        release.wait(60)
        return [WorkerFailed("it stood still") for _ in jobs]

    lanes = rich.app.parts.gan.lanes  # type: ignore[attr-defined]
    for name in ("gan-large", "gan-inversions"):
        monkeypatch.setattr(lanes[name], "_worker", stand_still)
    image = np.zeros((28, 28), int).tolist()
    stuck = [
        threading.Thread(target=rich.get, args=("/gan/generate?count=64&digit=1",)),
        threading.Thread(target=rich.post, args=("/gan/invert",), kwargs={"json": {"images": image}}),
    ]
    try:
        for thread in stuck:
            thread.start()
        for path in ("generate?seed=1", "generate?seed=1&digit=3", "interpolate?seeds=1,2", "generate?count=1024"):
            assert rich.get(f"/gan/{path}", headers={"X-Timeout-Seconds": "20"}).status_code == 200
        monkeypatch.setattr(lanes["gan-choices"], "_worker", stand_still)
        stuck.append(threading.Thread(target=rich.get, args=("/gan/generate?seed=1&digit=3",)))
        stuck[-1].start()
        assert rich.get("/gan/generate?seed=2", headers={"X-Timeout-Seconds": "20"}).status_code == 200
    finally:
        release.set()
        for thread in stuck:
            thread.join(60)


PLAIN = GenerateJob(1)


@pytest.mark.parametrize(
    ("jobs", "short"),
    [
        ([PLAIN], True),
        ([PLAIN] * 64, True),
        ([PLAIN] * 65, False),
        ([GenerateJob(64, encoding=Encoding("npy"))], True),
        ([GenerateJob(65)], False),
        ([GenerateJob(1, encoding=Encoding("png", scale=8))], False),
        ([PLAIN, GenerateJob(1, score=True)], False),
        ([GenerateJob(1, digits=(3,))], False),
        ([GenerateJob(1, rejection=True)], False),
        ([DiscriminateJob(np.zeros((1, 32, 32), np.uint8))], False),
        ([InterpolateJob((1, 2), 1, loop=False)], False),
    ],
)
def test_only_batches_of_few_plain_images_are_short(jobs: list[Job], short: bool) -> None:
    assert is_short(jobs) is short
