"""Shared by the tests of training: a small data set in MNIST's format, and short runs on it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from training import data, loop
from training.config import RECIPES, GanConfig
from training.runs.run import Run, create_run


@pytest.fixture
def digits_folder(small_data: Path, tmp_path: Path) -> Path:
    """A copy of the small data set, which a test may change."""
    return Path(shutil.copytree(small_data, tmp_path / "data"))


@pytest.fixture(scope="session")
def images(small_data: Path) -> Tensor:
    """The training images, (160, 1, 32, 32)."""
    return data.resize(data.load(small_data, download=False).images)


@pytest.fixture(scope="session")
def small_config() -> GanConfig:
    """Two epochs of ten steps, with every part of a step. States and metrics are also written within an epoch."""
    return dataclasses.replace(
        RECIPES["default"],
        batch_size=16,
        epochs=2,
        held_out=0,
        warmup_steps=2,
        translation=1,
        r2_gamma=1.0,
        loss="relativistic",
        precision="float32",
        threads=1,
        device="cpu",
        save_every=4,
        log_every=3,
    )


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory, small_data: Path, small_config: GanConfig) -> Callable[..., Run]:
    """A new run on the small data set: `make_run(**settings)`."""

    def make(**settings: object) -> Run:
        config = dataclasses.replace(small_config, **settings)  # type: ignore[arg-type]
        folder = tmp_path_factory.mktemp("runs") / "run"
        return create_run(folder, config, small_data, data.load(small_data, download=False).sha256)

    return make


@pytest.fixture(scope="session")
def whole(make_run: Callable[..., Run], images: Tensor) -> Run:
    """A run that was trained to its end without interruption. Read-only."""
    run = make_run()
    loop.train(run, images)
    return run
