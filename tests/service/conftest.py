"""The application in the process of the tests, with a small checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient

from service.app import create_app
from service.gan import checkpoint
from service.gan.networks import Discriminator, Generator
from service.runtime import line_buffer
from service.settings import Settings

Running = Callable[..., AbstractContextManager[TestClient]]


@pytest.fixture(scope="session", autouse=True)
def lines_at_once() -> Iterator[None]:
    """The log's lines do not wait, because a later test would capture those of an earlier one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_buffer, "MOST_LINES", 1)
        yield


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of untrained networks."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    for name, module in (
        (checkpoint.GENERATOR_FILE, Generator()),
        (checkpoint.DISCRIMINATOR_FILE, Discriminator()),
    ):
        checkpoint.save(folder / name, module.state_dict())
    files = {
        name: checkpoint.sha256(folder / name) for name in (checkpoint.GENERATOR_FILE, checkpoint.DISCRIMINATOR_FILE)
    }
    checkpoint.write_manifest(
        folder,
        checkpoint.Manifest(checkpoint.FORMAT_VERSION, files, {}, 0, "", 0, 0, {}, "2026-01-01", torch.__version__),
    )
    return folder


@pytest.fixture(scope="session")
def running(checkpoints: Path) -> Running:
    """A context manager that starts a warm application with the given settings, and yields its client."""

    @contextmanager
    def run(**settings: Any) -> Iterator[TestClient]:
        app = create_app(Settings(checkpoints=checkpoints, device="cpu", **settings))
        with TestClient(app, raise_server_exceptions=False) as client:
            wait_until_ready(client)
            yield client

    return run


@pytest.fixture(scope="session")
def client(running: Running) -> Iterator[TestClient]:
    """The application with default settings."""
    with running() as client:
        yield client


def wait_until_ready(client: TestClient) -> None:
    """Wait until the application is warm."""
    # The first start on a machine compiles the loops of registration, which takes minutes on a slow one.
    deadline = time.monotonic() + 600
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < deadline, "not ready in time"
        time.sleep(0.01)
