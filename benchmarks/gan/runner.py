"""The runs of a comparison. Each is trained once, continued after an interruption, and measured at its end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from service.gan import checkpoint
from service.gan.checkpoint import write_atomic
from service.gan.networks import Generator
from training import data, loop
from training.config import GanConfig
from training.evaluation.validation import Quality, Validator
from training.learning.ema import published_generator
from training.runs import journal, probe, state
from training.runs.run import Run, RunError, check_data, create_run, open_run

LEFT_TO_THE_MACHINE = (("precision", "auto"), ("device", "auto"), ("threads", 0))


class Entry(NamedTuple):
    """One run with its measurements."""

    name: str
    config: GanConfig
    quality: Quality | None
    """None if a loss was infinite or NaN."""
    seconds: float

    def to_json(self) -> dict[str, object]:
        """Return the entry as JSON values."""
        quality = None if self.quality is None else self.quality._asdict()
        return {"name": self.name, "config": self.config.to_json(), "quality": quality, "seconds": self.seconds}


class Bench(NamedTuple):
    """The data, the folder of the runs, and the classifier that measures them."""

    digits: data.Digits
    images: Tensor
    source: Path
    folder: Path
    validator: Validator


def prepare(source: Path, folder: Path) -> Bench:
    """Read MNIST in `source`. Runs and the classifier that measures them are kept in `folder`.

    Raises DataError if the data are missing or damaged.
    """
    digits = data.load(source, download=False)
    validator = Validator(digits, folder / "validator.safetensors")
    return Bench(digits, data.resize(digits.images), source, folder, validator)


def train(bench: Bench, name: str, config: GanConfig) -> Run:
    """Train the run `name` to its end. Raises RunError if it exists with other settings or data, and NonFiniteLoss."""
    folder = bench.folder / name
    if not folder.exists():
        create_run(folder, probe.resolve(config, bench.images), bench.source, bench.digits.sha256)
    run = open_run(folder)
    _check_same(run, config)
    check_data(run, bench.digits.sha256)
    loop.train(run, bench.images)
    return run


def _check_same(run: Run, config: GanConfig) -> None:
    own, wanted = run.config.to_json(), config.to_json()
    # The run has definite values for settings that were left to the machine.
    differing = [name for name in own if wanted[name] != own[name] and (name, wanted[name]) not in LEFT_TO_THE_MACHINE]
    if differing:
        settings = ", ".join(f"{name} {own[name]}, not {wanted[name]}" for name in differing)
        raise RunError(f"{run.folder} was trained with {settings}; remove it, or choose another folder with --runs")


def measure(bench: Bench, name: str, config: GanConfig) -> Entry:
    """Train the run `name` to its end, and measure its published generator. Raises RunError."""
    try:
        run = train(bench, name, config)
    except journal.NonFiniteLoss:
        return Entry(name, config, None, 0.0)
    current, info = state.load(run.state, run.config, device="cpu")
    quality = bench.validator.measure(published_generator(current))
    return Entry(name, run.config, quality, float(info["seconds"]))


def by_epoch(bench: Bench, run: Run) -> dict[int, tuple[Quality, Generator]]:
    """The quality of each generator that `run` kept, and the generator, by epoch."""
    found = {}
    for path in sorted(run.generators.glob("epoch_*.safetensors")):
        generator = Generator()
        checkpoint.load_module(path, generator)
        found[int(path.stem.removeprefix("epoch_"))] = bench.validator.measure(generator), generator
    return found


def save(path: Path, entry: Entry) -> None:
    """Write `entry` to the JSON file `path`, one entry a line. It replaces an entry of the same name."""
    entries = json.loads(path.read_text()) if path.exists() else []
    by_name = {found["name"]: found for found in entries} | {entry.name: entry.to_json()}
    lines = ",\n".join(json.dumps(fields, ensure_ascii=False) for fields in by_name.values())
    write_atomic(path, f"[\n{lines}\n]\n".encode())


def read(path: Path) -> list[Entry]:
    """Read the entries that `save` wrote."""
    return [
        Entry(
            found["name"],
            GanConfig.from_json(found["config"]),
            None if found["quality"] is None else Quality(**found["quality"]),
            found["seconds"],
        )
        for found in json.loads(path.read_text())
    ]


def summary(entries: Iterable[Entry]) -> str:
    """A table with one row for each entry."""
    head = ("", "Fréchet", "over floor", "class KL", "seconds")
    return table(head, [(entry.name, *cells(entry.quality), f"{entry.seconds:.0f}") for entry in entries])


def table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    """Format a table. The first column is aligned to the left, the others to the right."""
    lines = [head, *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def cells(quality: Quality | None) -> tuple[str, str, str]:
    """The cells of a quality: Fréchet distance, its ratio to the floor, and class divergence."""
    if quality is None:
        return "-", "-", "not finite"
    return f"{quality.frechet:.3f}", f"{quality.ratio:.2f}", f"{quality.class_kl:.4f}"
