"""The training loop: epochs over the data, with a saved state from which a killed run continues.

The metrics and pictures of a step are written before its state. A run that ends between the two repeats the steps since
its last state. On a CPU the repeated steps write the same bytes, so the result equals that of an uninterrupted run, bit
for bit. On a GPU steps are not repeatable to the bit, so the result is that of another run with the same seed.
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

# Steps between two exchanges of stop requests. Each exchange waits for the device and for the slowest process.
STOP_CHECK_EVERY = 20


class Stopped(LatentserveError):
    """A signal stopped the run, and its state is saved."""

    def __init__(self, detail: str, *, signum: int) -> None:
        super().__init__(detail)
        self.signum = signum


def train(run: Run, images: Tensor, group: Group = ALONE) -> TrainState:
    """Train `run` to its end, from its last saved state if there is one, and return the final state.

    `images` are (N, 1, 32, 32) float32 in [-1, 1]. The last `held_out` of them are not used. With several processes,
    each calls this function, and the first writes the files.

    Raises ConfigError if the images are fewer than a batch, NonFiniteLoss if a loss is infinite or NaN, Stopped after
    SIGTERM or Ctrl-C, RunError if another process trains this run, and CheckpointError if its state is damaged.
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
                    stop = _exchanges(current.step, ends, group) and group.any(bool(stop_requests), config.device)
                    if ends or current.step % config.save_every == 0 or stop:
                        log.save(current, time.monotonic() - started)
                    if stop and current.step < steps.steps:
                        signum = stop_requests[0] if stop_requests else signal.SIGTERM
                        raise Stopped(
                            f"stopped by {signal.Signals(signum).name} at step {current.step} of {steps.steps}; "
                            f"the state is saved; continue with: python -m training gan --resume {run.folder}",
                            signum=signum,
                        )
    return current


def _exchanges(step: int, ends: bool, group: Group) -> bool:
    """Whether processes exchange stop requests after `step`; `ends` is true after the last step of an epoch."""
    return group.size == 1 or ends or step % STOP_CHECK_EVERY == 0


def _begin(run: Run, images: Tensor) -> tuple[TrainState, float]:
    """The state to continue from, and the seconds of training so far."""
    if not run.state.exists():
        return state.begin(run, images), 0.0
    current, info = state.load(run.state, run.config)
    return current, float(info["seconds"])


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list, so that they do not end the process."""
    requests: list[int] = []

    def note(signum: int, _frame: FrameType | None) -> None:
        requests.append(signum)

    previous = {signum: signal.signal(signum, note) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield requests
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
