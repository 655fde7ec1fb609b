"""Several processes that train together give the same result as one."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from service.gan import checkpoint
from training import loop
from training.config import ConfigError, GanConfig
from training.learning import steps
from training.learning.distributed import ALONE, Group
from training.learning.train_state import TrainState
from training.runs import figures
from training.runs.plan import plan
from training.runs.run import Run

MakeRun = Callable[..., Run]


def torchrun(processes: int, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run([*command, "-m", module, *arguments], capture_output=True, text=True, check=False)


class FakePair(Group):
    """A group of two with a single real process. It counts the exchanges of stop requests."""

    exchanges: ClassVar[list[int]] = []

    def any(self, flag: bool, device: str) -> bool:
        self.exchanges.append(1)
        return flag

    def wait(self) -> None:
        pass


def test_two_processes_take_the_same_step_as_one(make_run: MakeRun, images: Tensor) -> None:
    # Batch normalisation, and a penalty at a part of the batch, would depend on the share of each process.
    settings = {"generator_norm": "none", "penalty_every": 1, "batch_size": len(images), "epochs": 1, "log_every": 1}
    alone, together = (make_run(**settings) for _ in range(2))
    loop.train(alone, images)
    finished = torchrun(2, "training", "gan", "--resume", str(together.folder), "--device", "cpu", "--no-download")
    assert finished.returncode == 0, finished.stderr
    (first, one), (second, other) = (checkpoint.read(run.state) for run in (alone, together))
    assert one["step"] == other["step"] == "1"
    assert torch.equal(first["noise"], second["noise"])
    # With a decay of 0, Adam's first moments are the gradients. G's gradients depend on D after its step. That step is
    # divided by the size of each of D's gradients, which amplifies the rounding of small ones.
    for name, gradient in first.items():
        if name.endswith("exp_avg"):
            allowed = 1e-4 if name.startswith("discriminator") else 0.02
            assert (second[name] - gradient).norm() < allowed * gradient.norm() + 1e-7, name
    lines, others = (figures.read_metrics(run.metrics) for run in (alone, together))
    assert lines[0]["v"] == pytest.approx(others[0]["v"], abs=1e-5)


def test_two_processes_create_and_train_one_run(small_data: Path, tmp_path: Path) -> None:
    options = ["--epochs", "1", "--batch-size", "16", "--held-out", "0", "--threads", "1", "--precision", "float32"]
    finished = torchrun(
        2,
        "training",
        "gan",
        "--data",
        str(small_data),
        "--no-download",
        "--runs",
        str(tmp_path),
        "--device",
        "cpu",
        *options,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("done: ") == 1
    assert (tmp_path / "default-seed-0" / "state.safetensors").exists()


def test_a_signal_to_one_of_two_processes_stops_both_and_does_not_change_the_result(make_run: MakeRun) -> None:
    whole, stopped = (make_run(epochs=1, batch_size=4) for _ in range(2))
    finished = torchrun(2, "tests.training.learning.stopping", str(whole.folder), str(stopped.folder))
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("stopped by SIGTERM at step 20 of 40") == 2
    (first, one), (second, other) = (checkpoint.read(run.state) for run in (whole, stopped))
    assert one["step"] == other["step"] == "40"
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert whole.metrics.read_bytes() == stopped.metrics.read_bytes()


def test_processes_exchange_stop_requests_rarely_and_stop_soon(
    make_run: MakeRun, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, signalled = make_run(batch_size=4), 3

    def advance(current: TrainState, real: Tensor, config: GanConfig, rate: float, _group: Group) -> None:
        steps.advance(current, real, config, rate)
        if current.step == signalled:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop, "advance", advance)
    with pytest.raises(loop.Stopped):
        loop.train(run, images, FakePair(0, 2))
    stopped = int(checkpoint.read(run.state)[1]["step"])
    assert signalled <= stopped <= signalled + loop.STOP_CHECK_EVERY
    FakePair.exchanges.clear()
    loop.train(run, images, FakePair(0, 2))
    # Two epochs of forty steps each.
    assert len(FakePair.exchanges) <= (80 - stopped) / loop.STOP_CHECK_EVERY + 2


def test_the_shares_of_all_processes_are_the_whole_batch(images: Tensor) -> None:
    shares = [Group(rank, 4).share(images) for rank in range(4)]
    assert torch.equal(torch.cat(shares), images)
    assert torch.equal(ALONE.share(images), images)


def test_a_batch_that_cannot_be_divided_evenly_is_refused(small_config: GanConfig) -> None:
    with pytest.raises(ConfigError, match="batch_size is 16, expected a multiple of the 3 processes"):
        plan(160, dataclasses.replace(small_config, batch_size=16), 3)
