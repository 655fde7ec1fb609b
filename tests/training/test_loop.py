"""A killed run continues and ends with the same state, metrics and pictures as an uninterrupted one."""

from __future__ import annotations

import math
import pickle
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from service.errors import CheckpointError
from service.gan import checkpoint
from training import loop
from training.learning import steps
from training.loop import Stopped
from training.runs import figures, state
from training.runs.journal import NonFiniteLoss, RunJournal
from training.runs.run import Run, RunError, exclusive, open_run

MakeRun = Callable[..., Run]

# The command line of training, in a process that SIGKILL ends after its 19th step. A kill from outside would depend on
# the speed of the machine.
KILLED_AFTER_STEP_19 = """
import os, signal, sys
from training import __main__, loop
from training.learning import steps

def advance(state, *arguments):
    steps.advance(state, *arguments)
    if state.step == 19:
        os.kill(os.getpid(), signal.SIGKILL)

loop.advance = advance
sys.exit(__main__.main(sys.argv[1:]))
"""


def outcome(run: Run) -> dict[str, Any]:
    """All files of a run that must be equal, however often the run was interrupted."""
    tensors, metadata = checkpoint.read(run.state)
    return {
        "tensors": {name: tensor.numpy().tobytes() for name, tensor in tensors.items()},
        "step": metadata["step"],
        "metrics": run.metrics.read_bytes(),
        "samples": {path.name: path.read_bytes() for path in run.samples.iterdir()},
        "generators": {path.name: path.read_bytes() for path in run.generators.iterdir()},
        "curves": run.curves.read_bytes(),
    }


def test_a_run_killed_within_an_epoch_ends_in_the_same_state_bit_for_bit(make_run: MakeRun, images: Tensor) -> None:
    whole, killed = make_run(epochs=3), make_run(epochs=3)
    loop.train(whole, images)
    options = ["gan", "--resume", str(killed.folder), "--no-download"]
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER_STEP_19, *options], capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    # The state is that of step 16, and the metrics of step 18 have been written.
    assert checkpoint.read(killed.state)[1]["step"] == "16"
    assert figures.read_metrics(killed.metrics)[-1]["step"] == 18
    finished = subprocess.run([sys.executable, "-m", "training", *options], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert outcome(killed) == outcome(whole)


@pytest.mark.parametrize(
    ("owner", "place"), [(loop, "advance"), (RunJournal, "stepped"), (RunJournal, "epoch_ended"), (RunJournal, "save")]
)
def test_a_crash_at_any_place_in_the_loop_does_not_change_the_result(
    make_run: MakeRun, whole: Run, images: Tensor, monkeypatch: pytest.MonkeyPatch, owner: object, place: str
) -> None:
    crashed, original, calls = make_run(), getattr(owner, place), 0

    def crash(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise RuntimeError("power failure")
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, place, crash)
        with pytest.raises(RuntimeError, match="power failure"):
            loop.train(crashed, images)
    with crashed.metrics.open("a") as file:
        file.write('{"step": 1000')
    loop.train(open_run(crashed.folder), images)
    assert outcome(crashed) == outcome(whole)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_saves_the_state_and_names_the_command_that_continues(
    make_run: MakeRun, whole: Run, images: Tensor, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    stopped, before = make_run(), signal.getsignal(signum)
    with monkeypatch.context() as patch:
        original = steps.advance

        def advance(current: Any, *arguments: Any) -> None:
            original(current, *arguments)
            if current.step == 7:
                signal.raise_signal(signum)

        patch.setattr(loop, "advance", advance)
        with pytest.raises(Stopped, match=rf"{signum.name} at step 7 of 20.*--resume {stopped.folder}") as caught:
            loop.train(stopped, images)
    assert caught.value.signum == signum
    assert signal.getsignal(signum) is before
    assert checkpoint.read(stopped.state)[1]["step"] == "7"
    loop.train(stopped, images)
    assert outcome(stopped) == outcome(whole)


def test_training_a_finished_run_changes_nothing(whole: Run, images: Tensor) -> None:
    before = outcome(whole)
    loop.train(whole, images)
    assert outcome(whole) == before


def test_a_line_of_metrics_is_the_mean_over_its_steps(make_run: MakeRun, images: Tensor) -> None:
    fine, coarse = make_run(epochs=1, log_every=1), make_run(epochs=1, log_every=5)
    loop.train(fine, images)
    loop.train(coarse, images)
    rows, means = figures.read_metrics(fine.metrics), figures.read_metrics(coarse.metrics)
    assert [row["step"] for row in means] == [5, 10]
    for name in ("v", "generator_loss", "real_probability"):
        assert means[0][name] == pytest.approx(sum(row[name] for row in rows[:5]) / 5, rel=1e-5)


def test_a_loss_that_is_not_finite_ends_the_run_and_is_not_saved(make_run: MakeRun, images: Tensor) -> None:
    run = make_run(learning_rate=1e20)
    with pytest.raises(NonFiniteLoss, match=r"not finite by step \d+.*learning rate below 1e\+20"):
        loop.train(run, images)
    if run.state.exists():
        tensors, _ = checkpoint.read(run.state)
        assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert all(math.isfinite(row["v"]) for row in figures.read_metrics(run.metrics))


def test_a_second_process_cannot_train_the_same_run(make_run: MakeRun, images: Tensor) -> None:
    run = make_run()
    with exclusive(run), pytest.raises(RunError, match="another process"):
        loop.train(run, images)


def test_no_file_of_a_run_is_a_pickle(whole: Run) -> None:
    files = [path for path in whole.folder.rglob("*") if path.is_file()]
    for path in files:
        assert not zipfile.is_zipfile(path)
        with path.open("rb") as file, pytest.raises((pickle.UnpicklingError, EOFError, ValueError, IndexError)):
            pickle.Unpickler(file).load()  # noqa: S301
    assert {path.suffix for path in files} >= {".json", ".jsonl", ".safetensors", ".png"}


def test_a_saved_state_is_read_back_bit_for_bit(make_run: MakeRun, images: Tensor, tmp_path: Path) -> None:
    run = make_run(epochs=1, channels_last=True)
    current = loop.train(run, images)
    again, info = state.load(run.state, run.config)
    state.save(tmp_path / "again.safetensors", again, info)
    (first, _), (second, _) = checkpoint.read(run.state), checkpoint.read(tmp_path / "again.safetensors")
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert torch.equal(again.noise.get_state(), current.noise.get_state())
    layouts = [[p.stride() for p in s.generator.parameters()] for s in (again, current)]
    assert layouts[0] == layouts[1]


def test_a_damaged_state_is_refused_by_name(make_run: MakeRun, whole: Run, images: Tensor) -> None:
    run = make_run()
    run.state.write_bytes(whole.state.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=f"{run.state}: not a safetensors file, or a damaged one"):
        loop.train(run, images)
    checkpoint.save(run.state, {"generator.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="not the state of a training run"):
        loop.train(run, images)
