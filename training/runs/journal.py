"""The files that a run writes during training: metrics, pictures, generators, and the state to continue from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from service.errors import LatentserveError
from service.gan import checkpoint
from service.gan.checkpoint import write_atomic
from training.learning.ema import published_generator
from training.learning.steps import learning_rate_at
from training.learning.train_state import METRICS, TrainState
from training.runs import figures, state
from training.runs.figures import fixed_latents, sample
from training.runs.plan import Plan
from training.runs.run import Run

GRID_SIDE = 8
# Generators are kept of each of the first KEPT_EPOCHS epochs, then of every KEPT_EVERY-th.
KEPT_EPOCHS, KEPT_EVERY = 10, 10


class NonFiniteLoss(LatentserveError):
    """A loss is infinite or NaN."""


class Journal(Protocol):
    """The interface between the training loop and the files of a run; `epoch` counts from 1."""

    def stepped(self, current: TrainState, epoch: int) -> None:
        """After every step."""

    def epoch_ended(self, current: TrainState, epoch: int) -> None:
        """After the last step of an epoch."""

    def save(self, current: TrainState, seconds: float) -> None:
        """Save `current`, the state after `seconds` of training, to continue from."""


class SilentJournal:
    """The journal of all processes except the first. It clears the sums of metrics, so that all states are equal."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def stepped(self, current: TrainState, epoch: int) -> None:
        """After every step."""
        if current.step % self._run.config.log_every == 0:
            current.totals.zero_()

    def epoch_ended(self, current: TrainState, epoch: int) -> None:
        """After the last step of an epoch."""

    def save(self, current: TrainState, seconds: float) -> None:
        """Save nothing."""


class RunJournal:
    """Writes the files of a run, and the progress line on stderr."""

    def __init__(self, run: Run, steps: Plan, writer: SummaryWriter, progress: tqdm[Any]) -> None:
        self._run = run
        self._steps = steps
        self._writer = writer
        self._progress = progress

    def stepped(self, current: TrainState, epoch: int) -> None:
        """Advance the progress line. Every `log_every` steps, write the means of the metrics since the last line."""
        config = self._run.config
        self._progress.update(self._steps.size(epoch - 1))
        if current.step % config.log_every:
            return
        means = dict(zip(METRICS, (current.totals / config.log_every).tolist(), strict=True))
        self._check_finite(current, means)
        rate = learning_rate_at(current.step - 1, self._steps.steps, config)
        row: dict[str, Any] = {"step": current.step, "epoch": epoch, "learning_rate": rate, **means}
        with self._run.metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name in (*METRICS, "learning_rate"):
            self._writer.add_scalar(name, row[name], current.step)
        current.totals.zero_()
        self._progress.set_description(f"epoch {epoch}/{config.epochs}", refresh=False)
        self._progress.set_postfix({"V": f"{means['v']:.3f}", "G": f"{means['generator_loss']:.3f}"}, refresh=False)

    def epoch_ended(self, current: TrainState, epoch: int) -> None:
        """Write a grid of samples of fixed latents and the curves so far; keep the generators of some epochs."""
        run, generator = self._run, published_generator(current)
        picture = figures.grid(sample(generator, fixed_latents(GRID_SIDE**2)), GRID_SIDE)
        write_atomic(run.samples / f"epoch_{epoch:03d}.png", figures.encode_png(picture))
        self._writer.add_image("samples", picture.numpy(), current.step, dataformats="HW")
        if rows := figures.read_metrics(run.metrics):
            write_atomic(run.curves, figures.encode_curves(rows))
        if epoch <= KEPT_EPOCHS or epoch % KEPT_EVERY == 0:
            checkpoint.save(run.generators / f"epoch_{epoch:03d}.safetensors", generator.state_dict())

    def save(self, current: TrainState, seconds: float) -> None:
        """Save `current`, the state after `seconds` of training, to continue from. Raises NonFiniteLoss."""
        # A run could not recover from a state with NaN, so it is never saved.
        self._check_finite(current, dict(zip(METRICS, current.totals.tolist(), strict=True)))
        info = {
            "seconds": round(seconds, 1),
            "torch": torch.__version__,
            "epochs": self._steps.epoch(current.step),
        }
        state.save(self._run.state, current, info)

    def _check_finite(self, current: TrainState, values: dict[str, float]) -> None:
        run = self._run
        if broken := [name for name, value in values.items() if not math.isfinite(value)]:
            raise NonFiniteLoss(
                f"{', '.join(broken)} not finite by step {current.step}; {run.folder} has the last finite state, if "
                "any. Start a new run with another --seed, with --precision float32, or with a learning rate below "
                f"{run.config.learning_rate}"
            )


@contextmanager
def opened(run: Run, current: TrainState, steps: Plan) -> Iterator[RunJournal]:
    """A context with the journal of `run`, which continues from `current`. Later lines of metrics are removed."""
    for folder in (run.samples, run.generators):
        folder.mkdir(exist_ok=True)
    lines = run.metrics.read_text().splitlines(keepends=True) if run.metrics.exists() else []
    # A crash may leave an incomplete last line, without a line feed. Lines up to the step of the state are complete.
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= current.step]
    write_atomic(run.metrics, "".join(kept).encode())
    epoch = steps.epoch(current.step)
    trained = epoch * steps.images + (current.step - steps.start(epoch)) * steps.size(epoch)
    with (
        SummaryWriter(str(run.events), purge_step=current.step + 1) as writer,
        tqdm(
            total=steps.epochs * steps.images,
            initial=trained,
            unit="image",
            unit_scale=True,
            mininterval=1,
            smoothing=0.02,
            dynamic_ncols=True,
        ) as progress,
    ):
        yield RunJournal(run, steps, writer, progress)
