"""Runs of training that are compared: each is trained once, continued where it was cut, and measured at its end."""

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
    """One run and what it came to."""

    name: str
    config: GanConfig
    quality: Quality | None
    """None where the loss left the finite numbers."""
    seconds: float

    def to_json(self) -> dict[str, object]:
        """As JSON values."""
        quality = None if self.quality is None else self.quality._asdict()
        return {"name": self.name, "config": self.config.to_json(), "quality": quality, "seconds": self.seconds}


class Bench(NamedTuple):
    """The data, and where runs are kept."""

    digits: data.Digits
    images: Tensor
    source: Path
    folder: Path
    validator: Validator


def prepare(source: Path, folder: Path) -> Bench:
    """Read MNIST under `source`; runs and the validating classifier are kept under `folder`."""
    digits = data.load(source, download=False)
    validator = Validator(digits, folder / "validator.safetensors")
    return Bench(digits, data.resize(digits.images), source, folder, validator)


def train(bench: Bench, name: str, config: GanConfig) -> Run:
    """The run `name`, trained to its end. Raises RunError when there is one with other settings or data already."""
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
    # What was left to the machine is settled in the run.
    differing = [name for name in own if wanted[name] != own[name] and (name, wanted[name]) not in LEFT_TO_THE_MACHINE]
    if differing:
        settings = ", ".join(f"{name} {own[name]}, not {wanted[name]}" for name in differing)
        raise RunError(f"{run.folder} was trained with {settings}; remove it, or take another folder with --runs")


def measure(bench: Bench, name: str, config: GanConfig) -> Entry:
    """Train the run `name`, and measure it."""
    try:
        run = train(bench, name, config)
    except journal.NonFiniteLoss:
        return Entry(name, config, None, 0.0)
    current, info = state.load(run.state, run.config, device="cpu")
    quality = bench.validator.measure(published_generator(current))
    return Entry(name, run.config, quality, float(info["seconds"]))


def by_epoch(bench: Bench, run: Run) -> dict[int, tuple[Quality, Generator]]:
    """What each generator that `run` kept is worth, by its epoch."""
    found = {}
    for path in sorted(run.generators.glob("epoch_*.safetensors")):
        generator = Generator()
        checkpoint.load_module(path, generator)
        found[int(path.stem.removeprefix("epoch_"))] = bench.validator.measure(generator), generator
    return found


def keep(path: Path, entry: Entry) -> None:
    """Keep `entry` with all its settings among those in the JSON file `path`, in place of one of the same name."""
    entries = json.loads(path.read_text()) if path.exists() else []
    kept = {found["name"]: found for found in entries} | {entry.name: entry.to_json()}
    write_atomic(path, (json.dumps(list(kept.values()), indent=1) + "\n").encode())


def read(path: Path) -> list[Entry]:
    """The entries that `keep` wrote."""
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
    """A table with one line for each entry."""
    head = ("", "Fréchet", "over floor", "class KL", "seconds")
    return table(head, [(entry.name, *cells(entry.quality), f"{entry.seconds:.0f}") for entry in entries])


def table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    """Columns as wide as their widest cell, the first to the left and the others to the right."""
    lines = [head, *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def cells(quality: Quality | None) -> tuple[str, str, str]:
    """Fréchet distance, its ratio to the floor, and the divergence of the classes."""
    if quality is None:
        return "-", "-", "not finite"
    return f"{quality.frechet:.3f}", f"{quality.ratio:.2f}", f"{quality.class_kl:.4f}"
