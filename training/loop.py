"""The training loop: epochs over the data, with a state on disk that a killed run continues from.

Whatever belongs to a step (metrics, pictures) is written before the state of that step. A run that dies between the
two repeats the steps since its last state. On the CPU it writes the same bytes again, and ends bit for bit as a run
that was never cut; on a GPU steps are not repeatable to the bit, and it ends as another run of the same seed would.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

import torch
from torch import Tensor

from service.errors import LatentserveError
from training import data
from training.learning.distributed import ALONE, Group
from training.learning.steps import advance, learning_rate_at
from training.learning.train_state import TrainState
from training.runs import journal, state
from training.runs.journal import SilentJournal
from training.runs.plan import plan
from training.runs.run import Run, exclusive

# Each time that processes ask one another they wait for the device, and for the slowest of them.
ASKED_EVERY = 20


class Stopped(LatentserveError):
    """The run was asked to stop, and its state is saved."""

    def __init__(self, detail: str, *, signum: int) -> None:
        super().__init__(detail)
        self.signum = signum


def train(run: Run, images: Tensor, group: Group = ALONE) -> TrainState:
    """Train `run` to its end, from its last saved state if it has one, and return the final state.

    `images` (N, 1, 32, 32) float32 in [-1, 1]; the last `held_out` of them are left alone. With several processes each
    of them calls this, and the first writes the files.

    Raises ConfigError when no batch is left to learn from; NonFiniteLoss; Stopped after SIGTERM or Ctrl-C, with the
    state saved; RunError when another process trains this run; CheckpointError when its saved state is damaged.
    """
    config = run.config
    torch.set_num_threads(config.threads)
    steps = plan(len(images), config, group.size)
    images = images[: steps.images].to(config.device)
    with exclusive(run) if group.leads else nullcontext(), _stop_requests() as stop_requests:
        current, seconds = _begin(run, images)
        group.wait()
        started = time.monotonic() - seconds
        with journal.opened(run, current, steps) if group.leads else nullcontext(SilentJournal(run)) as log:
            for epoch in range(steps.epoch(current.step), config.epochs):
                order = data.shuffle(len(images), config.seed, epoch).to(config.device)
                size = steps.size(epoch)
                for batch in range(current.step - steps.start(epoch), steps.batches(epoch)):
                    real = images[order[batch * size : (batch + 1) * size]]
                    advance(current, real, config, learning_rate_at(current.step, steps.steps, config), group)
                    log.stepped(current, epoch + 1)
                    if ends := current.step == steps.start(epoch + 1):
                        log.epoch_ended(current, epoch + 1)
                    stop = _asked(current.step, ends, group) and group.any(bool(stop_requests), config.device)
                    if ends or current.step % config.save_every == 0 or stop:
                        log.save(current, time.monotonic() - started)
                    if stop and current.step < steps.steps:
                        signum = stop_requests[0] if stop_requests else signal.SIGTERM
                        raise Stopped(
                            f"stopped by {signal.Signals(signum).name} at step {current.step} of {steps.steps}, "
                            f"and saved; continue with: python -m training gan --resume {run.folder}",
                            signum=signum,
                        )
    return current


def _asked(step: int, ends: bool, group: Group) -> bool:
    """Whether processes ask one another after `step` for requests to stop; `ends` where an epoch does."""
    return group.size == 1 or ends or step % ASKED_EVERY == 0


def _begin(run: Run, images: Tensor) -> tuple[TrainState, float]:
    """The state to go on from, and the seconds that it took."""
    if not run.state.exists():
        return state.begin(run, images), 0.0
    current, info = state.load(run.state, run.config)
    return current, float(info["seconds"])


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that fills with the signals SIGTERM and SIGINT, instead of their ending the process."""
    requests: list[int] = []

    def note(signum: int, _frame: FrameType | None) -> None:
        requests.append(signum)

    previous = {signum: signal.signal(signum, note) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield requests
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
