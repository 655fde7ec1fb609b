"""What a run leaves in its folder as it goes: lines of metrics, pictures, generators, and the state to go on from."""

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
# The generators of the first epochs, in which most happens, are all kept, then one in so many.
KEPT_EPOCHS, KEPT_EVERY = 10, 10


class NonFiniteLoss(LatentserveError):
    """A loss became infinite or not a number."""


class Journal(Protocol):
    """Where the loop reports to; `epoch` counts from 1."""

    def stepped(self, current: TrainState, epoch: int) -> None:
        """After every step."""

    def epoch_ended(self, current: TrainState, epoch: int) -> None:
        """After the last step of an epoch."""

    def save(self, current: TrainState, seconds: float) -> None:
        """Keep `current`, which took `seconds` in all, to go on from."""


class SilentJournal:
    """For all processes but the first. Also clears the metrics' sums, so that every process has the same state."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def stepped(self, current: TrainState, epoch: int) -> None:
        """After every step."""
        if current.step % self._run.config.log_every == 0:
            current.totals.zero_()

    def epoch_ended(self, current: TrainState, epoch: int) -> None:
        """After the last step of an epoch."""

    def save(self, current: TrainState, seconds: float) -> None:
        """Keep nothing."""


class RunJournal:
    """Writes a run's files, and the progress line."""

    def __init__(self, run: Run, steps: Plan, writer: SummaryWriter, progress: tqdm[Any]) -> None:
        self._run = run
        self._steps = steps
        self._writer = writer
        self._progress = progress

    def stepped(self, current: TrainState, epoch: int) -> None:
        """Move the progress line; every `log_every` steps write the means of the metrics since the last line."""
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
        """Draw the samples, always of the same latents, and the curves so far; keep some epochs' generators."""
        run, generator = self._run, published_generator(current)
        picture = figures.grid(sample(generator, fixed_latents(GRID_SIDE**2)), GRID_SIDE)
        write_atomic(run.samples / f"epoch_{epoch:03d}.png", figures.encode_png(picture))
        self._writer.add_image("samples", picture.numpy(), current.step, dataformats="HW")
        if rows := figures.read_metrics(run.metrics):
            write_atomic(run.curves, figures.encode_curves(rows))
        if epoch <= KEPT_EPOCHS or epoch % KEPT_EVERY == 0:
            checkpoint.save(run.generators / f"epoch_{epoch:03d}.safetensors", generator.state_dict())

    def save(self, current: TrainState, seconds: float) -> None:
        """Keep `current`, which took `seconds` in all, to go on from."""
        # A state that is not sound would be resumed from for ever.
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
                f"{', '.join(broken)} not finite by step {current.step}; {run.folder} keeps the last sound state, if "
                "any. Start anew with another --seed, --precision float32, or a learning rate below "
                f"{run.config.learning_rate}"
            )


@contextmanager
def opened(run: Run, current: TrainState, steps: Plan) -> Iterator[RunJournal]:
    """The journal of `run`, which goes on from `current`, with every line of metrics later than that removed."""
    for folder in (run.samples, run.generators):
        folder.mkdir(exist_ok=True)
    lines = run.metrics.read_text().splitlines(keepends=True) if run.metrics.exists() else []
    # A line that a crash cut short has no end; those up to the state's step are whole.
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= current.step]
    write_atomic(run.metrics, "".join(kept).encode())
    epoch = steps.epoch(current.step)
    seen = epoch * steps.images + (current.step - steps.start(epoch)) * steps.size(epoch)
    with (
        SummaryWriter(str(run.events), purge_step=current.step + 1) as writer,
        tqdm(
            total=steps.epochs * steps.images,
            initial=seen,
            unit="image",
            unit_scale=True,
            mininterval=1,
            smoothing=0.02,
            dynamic_ncols=True,
        ) as progress,
    ):
        yield RunJournal(run, steps, writer, progress)
