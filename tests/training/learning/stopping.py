"""The program of each process in a test: train one run without interruption, and another that a signal stops."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from unittest.mock import patch

from torch import Tensor

from training import data, loop
from training.config import GanConfig
from training.learning import steps
from training.learning.distributed import Group, process_group
from training.learning.train_state import TrainState
from training.runs.run import open_run

SIGNALLED = 3


def advance(state: TrainState, real: Tensor, config: GanConfig, learning_rate: float, group: Group) -> None:
    """Take one step. After step SIGNALLED, the last process alone gets SIGTERM."""
    steps.advance(state, real, config, learning_rate, group)
    if state.step == SIGNALLED and group.rank == group.size - 1:
        signal.raise_signal(signal.SIGTERM)


def main(whole: Path, stopped: Path) -> None:
    """Train both runs to their ends. The second one is stopped and continued."""
    with process_group("cpu") as group:
        images = data.resize(data.load(open_run(whole).data, download=False).images)
        loop.train(open_run(whole), images, group)
        try:
            with patch.object(loop, "advance", advance):
                loop.train(open_run(stopped), images, group)
        except loop.Stopped as reason:
            sys.stdout.write(f"{reason.detail}\n")
        group.wait()
        loop.train(open_run(stopped), images, group)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
