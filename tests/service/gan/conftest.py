"""Untrained networks with companions that pass some latents and reject others."""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient
from torch import nn

from service.app import create_app
from service.gan import checkpoint, companions, sampling
from service.gan.checkpoint import GENERATOR_FILE
from service.gan.classifier import Classifier, LatentClassifier
from service.gan.companions import Companions
from service.gan.critic import Critic
from service.gan.networks import Discriminator, Generator
from service.gan.packing import Float32
from service.gan.passes import local
from service.gan.worker import GanWorker
from service.settings import Settings
from tests.service.conftest import wait_until_ready


def networks() -> tuple[Generator, Discriminator]:
    """The networks of the `checkpoints` fixture."""
    torch.manual_seed(0)
    return Generator().eval(), Discriminator().eval()


def new_worker(
    generator: Generator, discriminator: Discriminator, device: torch.device, companions: Companions | None = None
) -> GanWorker:
    """A worker whose networks are in this process, on `device`."""
    return GanWorker(generator, local(generator, discriminator, device, companions), companions)


def make_companions() -> Companions:
    """About half of all latents pass for each digit, and about a third of all images are kept."""
    torch.manual_seed(1)
    classifier, latent_classifier, critic = Classifier().eval(), LatentClassifier().eval(), Critic().eval()
    companions = Companions(classifier, latent_classifier, (0.1,) * 10, critic)
    with torch.no_grad():
        latent_classifier.state_dict()["layers.4.weight"].mul_(10)
        logs = judge(companions, sampling.latents(0, 64))
        critic.state_dict()["layers.4.weight"].div_(float(logs.std()))
        critic.state_dict()["layers.4.bias"].sub_(float(judge(companions, sampling.latents(0, 64)).mean()) + 1)
    return companions


def judge(companions: Companions, latents: Float32) -> Float32:
    """The critic's logs (n,) for the images of `latents` (n, 128)."""
    images = sampling.to_input(sampling.Sampler(networks()[0])(latents))
    return sampling.logits(companions.judge, images)


def keep_with(companions: Companions, log_probability: float) -> Companions:
    """The same companions, whose critic keeps every image with one probability."""
    critic = Critic().eval()
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.zero_()
        critic.offsets.fill_(log_probability)
    return companions._replace(critic=critic)


def write_companions(folder: Path, made: Companions) -> None:
    """Add companions to a checkpoint folder."""
    manifest = checkpoint.read_manifest(folder)
    owner = manifest.files[GENERATOR_FILE]
    contents: tuple[tuple[str, nn.Module, dict[str, str]], ...] = (
        (companions.CLASSIFIER_FILE, made.classifier, {}),
        (
            companions.LATENT_CLASSIFIER_FILE,
            made.latent_classifier,
            companions.metadata(owner, thresholds=list(made.thresholds)),
        ),
        (companions.REJECTION_FILE, made.critic, companions.metadata(owner)),
    )
    for name, module, metadata in contents:
        checkpoint.save(folder / name, module.state_dict(), metadata)
    digests = {name: checkpoint.sha256(folder / name) for name in companions.FILES}
    checkpoint.write_manifest(folder, manifest._replace(files=manifest.files | digests))


@pytest.fixture(scope="session")
def furnished(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small checkpoint, with companions. Read-only."""
    folder = tmp_path_factory.mktemp("furnished") / "checkpoints"
    shutil.copytree(checkpoints, folder)
    write_companions(folder, make_companions())
    return folder


@pytest.fixture(scope="session")
def rich(furnished: Path) -> Iterator[TestClient]:
    """The application on a checkpoint with companions."""
    app = create_app(Settings(checkpoints=furnished, device="cpu"))
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_until_ready(client)
        yield client


@pytest.fixture
def hopeless(rich: TestClient, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """`rich`, with thresholds that no latent passes, so that each choice of a digit examines 2,048."""
    worker = rich.app.parts.gan.lanes["gan"]._worker.__wrapped__  # type: ignore[attr-defined]
    monkeypatch.setattr(worker, "_companions", worker._companions._replace(thresholds=(2.0,) * 10))
    return rich


def levels(content: bytes) -> Any:
    """The pixels of an encoded picture."""
    return np.asarray(Image.open(io.BytesIO(content)))


def wait_until_idle(client: TestClient, lane: str, seconds: float = 20) -> None:
    """Wait until the batcher of `lane` runs no job."""
    deadline = time.monotonic() + seconds
    while client.app.parts.gan.lanes[lane].running_seconds > 0:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.01)
