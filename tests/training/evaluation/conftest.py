"""Evaluators and a checkpoint for the small data set."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from service.gan import checkpoint
from service.gan.networks import Discriminator, Generator
from training import data
from training.config import RECIPES
from training.evaluation import evaluators
from training.evaluation.evaluation import EvaluationSettings
from training.evaluation.evaluators import Evaluator, EvaluatorSettings
from training.evaluation.fitting import FitSettings
from training.evaluation.protocol import Images, to_images

SMALL_FIT = FitSettings(epochs=4, batch_size=16, rotation=5, shift=1)


@pytest.fixture(scope="session")
def small_images(small_data: Path) -> Images:
    """The small data set in the form that an evaluation compares."""
    return to_images(*(data.load(small_data, split, download=False) for split in ("train", "test")))


@pytest.fixture(scope="session")
def judges_folder(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of evaluators of the small data set. Read-only."""
    folder = tmp_path_factory.mktemp("evaluators")
    evaluators.publish(folder, small_data, EvaluatorSettings(SMALL_FIT), download=False)
    return folder


@pytest.fixture(scope="session")
def judges(judges_folder: Path) -> dict[str, Evaluator]:
    return evaluators.load(judges_folder)


@pytest.fixture(scope="session")
def small_settings() -> EvaluationSettings:
    """Two seeds, and a short training of the classifiers that learn from samples."""
    return EvaluationSettings(seeds=(1, 2), student=FitSettings(epochs=2, batch_size=16), digit_seeds=20, failures=12)


@pytest.fixture
def published(small_data: Path, tmp_path: Path) -> Path:
    """A checkpoint folder of untrained networks."""
    folder = tmp_path / "published"
    folder.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = {checkpoint.GENERATOR_FILE: Generator(), checkpoint.DISCRIMINATOR_FILE: Discriminator()}
    for name, module in networks.items():
        checkpoint.save(folder / name, module.state_dict())
    manifest = checkpoint.Manifest(
        format_version=checkpoint.FORMAT_VERSION,
        files={name: checkpoint.sha256(folder / name) for name in networks},
        recipe=RECIPES["default"].to_json(),
        seed=0,
        data_sha256=data.load(small_data, download=False).sha256,
        epochs=1,
        steps=10,
        metrics={"training_seconds": 7200.0},
        created="2026-01-01",
        torch=torch.__version__,
    )
    checkpoint.write_manifest(folder, manifest)
    return folder
