"""A run's folder: what is in it, how it comes to be, and who may write to it."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import LatentserveError
from service.gan.checkpoint import write_atomic
from training.config import GanConfig


class RunError(LatentserveError):
    """A run's folder is missing, damaged, in use, or not what the caller says it is."""


@dataclass(frozen=True)
class Run:
    """The folder of one training run, its settings, and the data that it learns from."""

    folder: Path
    config: GanConfig
    data: Path
    """Where the data set lay when the run began."""
    data_sha256: str
    origin: dict[str, Any] | None = None
    """Settings of the run whose networks this one began with, where there is one."""

    @property
    def start(self) -> Path:
        """The state of the run that this one began with."""
        return self.folder / "start.safetensors"

    @property
    def classifier(self) -> Path:
        """What the feature critic sees through."""
        return self.folder / "classifier.safetensors"

    @property
    def state(self) -> Path:
        """Everything that the next step depends on."""
        return self.folder / "state.safetensors"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, every `log_every` steps."""
        return self.folder / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Folder of the sample grids, one after each epoch."""
        return self.folder / "samples"

    @property
    def generators(self) -> Path:
        """Folder of the generators after some of the epochs, in the published shape."""
        return self.folder / "generators"

    @property
    def curves(self) -> Path:
        """Picture of the metrics."""
        return self.folder / "curves.png"

    @property
    def events(self) -> Path:
        """Folder of the TensorBoard events."""
        return self.folder / "events"

    def last_epoch(self) -> int:
        """The last complete epoch, by the pictures drawn at the end of each; 0 before the first."""
        return max((int(path.stem.removeprefix("epoch_")) for path in self.samples.glob("epoch_*.png")), default=0)


def create(
    folder: Path,
    config: GanConfig,
    data: Path,
    data_sha256: str,
    *,
    start: Run | None = None,
    classifier: Path | None = None,
) -> Run:
    """Make a new run's folder, with copies of what it starts from and of the classifier of its feature critic.

    Raises RunError when there is such a folder already, a file that it needs is not there, or what it starts from has
    learnt from other data, or from images that this run holds out.
    """
    if folder.exists():
        raise RunError(f"{folder} exists already; take another --name, or continue it with --resume {folder}")
    if start is not None and not start.state.is_file():
        raise RunError(f"{start.folder} has no state to start from yet; train it first")
    if start is not None and (start.data_sha256 != data_sha256 or start.config.held_out < config.held_out):
        raise RunError(
            f"{start.folder} held out {start.config.held_out} images of data with sha256 {start.data_sha256}, but this "
            f"run holds out {config.held_out} of {data_sha256}; start from a run that has not seen them"
        )
    if config.feature_weight > 0 and (classifier is None or not classifier.is_file()):
        raise RunError(f"the feature critic needs a classifier, and {classifier} is none; name one with --classifier")
    origin = None if start is None else start.config.to_json()
    # The folder comes to be with all that is in it, so that a cut leaves none that can neither be begun nor continued.
    temporary = Run(folder.with_name(f".{folder.name}.new"), config, data, data_sha256, origin)
    try:
        shutil.rmtree(temporary.folder, ignore_errors=True)
        temporary.folder.mkdir(parents=True)
        if start is not None:
            shutil.copy(start.state, temporary.start)
        if config.feature_weight > 0 and classifier is not None:
            shutil.copy(classifier, temporary.classifier)
        fields = {"config": config.to_json(), "data": str(data.resolve()), "data_sha256": data_sha256, "origin": origin}
        write_atomic(temporary.folder / "run.json", (json.dumps(fields, indent=2) + "\n").encode())
        temporary.folder.rename(folder)
    except OSError as error:
        raise RunError(f"{folder} cannot be made: {error.strerror}") from error
    return Run(folder, config, data, data_sha256, origin)


def open_run(folder: Path) -> Run:
    """An existing run. Raises RunError when `folder` is none, and ConfigError when its settings are not known here."""
    path = folder / "run.json"
    try:
        fields = json.loads(path.read_text())
        config, source = GanConfig.from_json(fields["config"]), Path(fields["data"])
        return Run(folder, config, source, fields["data_sha256"], fields.get("origin"))
    except OSError as error:
        raise RunError(f"{folder} is not a training run: {path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged: {error!r}") from error


def check_data(run: Run, sha256: str) -> None:
    """Raise RunError unless the data are those that the run began with."""
    if sha256 != run.data_sha256:
        raise RunError(f"{run.folder} learns from data with sha256 {run.data_sha256}, but these have {sha256}")


@contextmanager
def exclusive(run: Run) -> Iterator[None]:
    """Hold the run alone. Raises RunError while another process trains it."""
    with (run.folder / "lock").open("w") as file:
        try:
            # The system drops the lock with the process, so that a killed run never stays locked.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"{run.folder} is being trained by another process") from error
        yield
