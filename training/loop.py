"""The training loop: epochs over the data, with a state on disk that a killed run continues from, bit for bit.

Whatever belongs to a step (metrics, pictures) is written before the state of that step. A run that dies between the
two repeats the steps since its last state and writes the same bytes again.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from service.errors import LatentserveError
from service.gan.checkpoint import write_atomic
from training import data, figures, state
from training.runs import Run, exclusive
from training.samples import fixed_latents, sample
from training.steps import METRICS, TrainState, advance, init_state, learning_rate_at

GRID_SIDE = 8


class NonFiniteLoss(LatentserveError):
    """A loss became infinite or not a number."""


class Stopped(LatentserveError):
    """The run was asked to stop, and its state is saved."""

    def __init__(self, detail: str, *, signum: int) -> None:
        super().__init__(detail)
        self.signum = signum


def train(run: Run, images: Tensor) -> TrainState:
    """Train `run` to its end, from its last saved state if it has one, and return the final state.

    `images` (N, 1, 32, 32) float32 in [-1, 1]. Raises NonFiniteLoss; Stopped after SIGTERM or Ctrl-C, with the state
    saved; RunError when another process trains this run; CheckpointError when its saved state is damaged.
    """
    config = run.config
    torch.set_num_threads(config.threads)
    batches = len(images) // config.batch_size
    steps = config.epochs * batches
    images = images.to(config.device)
    with exclusive(run), _stop_requests() as stop_requests:
        current, seconds = _begin(run)
        started = time.monotonic() - seconds
        with (
            SummaryWriter(str(run.events), purge_step=current.step + 1) as writer,
            _progress(steps, current.step, config.batch_size) as progress,
        ):
            for epoch in range(current.step // batches, config.epochs):
                progress.set_description(f"epoch {epoch + 1}/{config.epochs}")
                order = data.shuffle(len(images), config.seed, epoch).to(config.device)
                for batch in range(current.step % batches, batches):
                    real = images[order[batch * config.batch_size : (batch + 1) * config.batch_size]]
                    advance(current, real, config, learning_rate_at(current.step, steps, config))
                    progress.update(config.batch_size)
                    if current.step % config.log_every == 0:
                        progress.set_postfix(_record(run, current, epoch, steps, writer), refresh=False)
                    if batch == batches - 1:
                        _draw(run, current, epoch, writer)
                    if batch == batches - 1 or current.step % config.save_every == 0 or stop_requests:
                        _save(run, current, time.monotonic() - started)
                    if stop_requests and current.step < steps:
                        raise Stopped(
                            f"stopped by {signal.Signals(stop_requests[0]).name} at step {current.step} of {steps}, "
                            f"and saved; continue with: python -m training gan --resume {run.folder}",
                            signum=stop_requests[0],
                        )
    return current


def _begin(run: Run) -> tuple[TrainState, float]:
    """The state to go on from and the seconds that it took, with every line of metrics later than it removed."""
    if run.state.exists():
        current, info = state.load(run.state, run.config)
        seconds = float(info["seconds"])
    else:
        current, seconds = init_state(run.config), 0.0
    run.samples.mkdir(exist_ok=True)
    lines = run.metrics.read_text().splitlines(keepends=True) if run.metrics.exists() else []
    # A line that a crash cut short has no end; those up to the state's step are whole.
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= current.step]
    write_atomic(run.metrics, "".join(kept).encode())
    return current, seconds


def _record(run: Run, current: TrainState, epoch: int, steps: int, writer: SummaryWriter) -> dict[str, str]:
    """Write the means of the metrics since the last line, and start over; returns a few for the progress line."""
    means = dict(zip(METRICS, (current.totals / run.config.log_every).tolist(), strict=True))
    _check_finite(run, current, means)
    rate = learning_rate_at(current.step - 1, steps, run.config)
    row: dict[str, Any] = {"step": current.step, "epoch": epoch + 1, "learning_rate": rate, **means}
    with run.metrics.open("a") as file:
        file.write(json.dumps(row) + "\n")
    for name in (*METRICS, "learning_rate"):
        writer.add_scalar(name, row[name], current.step)
    current.totals.zero_()
    return {"V": f"{means['v']:.3f}", "G": f"{means['generator_loss']:.3f}"}


def _check_finite(run: Run, current: TrainState, values: dict[str, float]) -> None:
    if broken := [name for name, value in values.items() if not math.isfinite(value)]:
        raise NonFiniteLoss(
            f"{', '.join(broken)} not finite by step {current.step}; {run.folder} keeps the last sound state, if any. "
            f"Start anew with another --seed, --precision float32, or a learning rate below {run.config.learning_rate}"
        )


def _draw(run: Run, current: TrainState, epoch: int, writer: SummaryWriter) -> None:
    """Draw the samples after `epoch` (from 0), always of the same latents, and the curves so far."""
    picture = figures.grid(sample(current.averaged, fixed_latents(GRID_SIDE**2)), GRID_SIDE)
    write_atomic(run.samples / f"epoch_{epoch + 1:03d}.png", figures.encode_png(picture))
    writer.add_image("samples", picture.numpy(), current.step, dataformats="HW")
    if rows := figures.read_metrics(run.metrics):
        write_atomic(run.curves, figures.encode_curves(rows))


def _save(run: Run, current: TrainState, seconds: float) -> None:
    # A state that is not sound would be resumed from for ever.
    _check_finite(run, current, dict(zip(METRICS, current.totals.tolist(), strict=True)))
    state.save(run.state, current, {"seconds": round(seconds, 1)})


def _progress(steps: int, step: int, batch_size: int) -> tqdm[Any]:
    return tqdm(
        total=steps * batch_size,
        initial=step * batch_size,
        unit="image",
        unit_scale=True,
        mininterval=1,
        smoothing=0.02,
        dynamic_ncols=True,
    )


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
