"""The original objective, the default recipe and the published model by epoch, with the same latents."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.gan import runner
from benchmarks.gan.runner import Bench
from service.gan.checkpoint import write_atomic
from service.gan.networks import Generator
from training.config import RECIPES
from training.evaluation.validation import Quality
from training.runs.figures import fixed_latents, grid, sample
from training.runs.run import open_run

SIDE = 4
SHOWN = 7

Epochs = dict[int, tuple[Quality, Generator]]


def compare(bench: Bench, epochs: int, settings: dict[str, Any], published: Sequence[Path], picture: Path) -> str:
    """Train the runs of both recipes if necessary, write the file `picture`, and return the table.

    The rows have the names of the recipes, and of the folders in `published`. Raises RunError if a run exists with
    other settings, or if a published folder is not a run.
    """
    parts: dict[str, Epochs] = {}
    for name in ("minimax", "default"):
        config = dataclasses.replace(RECIPES[name], epochs=epochs, **settings)
        parts[name] = runner.by_epoch(bench, runner.train(bench, f"story {name}", config))
    for folder in published:
        run = open_run(folder)
        own = folder.resolve().name
        name = own if own not in parts else str(folder)
        parts[name] = runner.by_epoch(bench, run)
    write_atomic(picture, draw(parts))
    rows = [
        (name, str(epoch), *runner.cells(quality))
        for name, part in parts.items()
        for epoch, (quality, _) in part.items()
    ]
    return runner.table(("run", "epoch", "Fréchet", "over floor", "class KL"), rows)


def draw(parts: dict[str, Epochs]) -> bytes:
    """Draw samples of some epochs of each run, one row a run, as the bytes of a PNG."""
    figure = Figure(figsize=(2 * SHOWN, 2.3 * len(parts)), layout="constrained")
    axes = figure.subplots(len(parts), SHOWN, squeeze=False)
    for row, (name, part) in zip(axes, parts.items(), strict=True):
        chosen = _spread(list(part))
        for axis in row:
            axis.axis("off")
        for axis, epoch in zip(row, chosen, strict=False):
            quality, generator = part[epoch]
            axis.imshow(grid(sample(generator, fixed_latents(SIDE**2)), SIDE).numpy(), cmap="gray")
            over = f"{quality.ratio:,.0f}" if quality.ratio > 100 else f"{quality.ratio:.2f}"
            axis.set_title(f"{name}, epoch {epoch}\n{over} × floor", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def _spread(epochs: list[int]) -> list[int]:
    """At most SHOWN of `epochs`, with the first and the last."""
    if len(epochs) <= SHOWN:
        return epochs
    return [epochs[round(i * (len(epochs) - 1) / (SHOWN - 1))] for i in range(SHOWN)]
