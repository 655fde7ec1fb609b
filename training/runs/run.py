"""A run's folder: what is in it, how it comes to be, and who may write to it."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import CheckpointError, LatentserveError
from service.gan import checkpoint
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
    """The run whose networks this one began with, where there is one: what its own `recipe` says, and how it went."""
    classifier_sha256: str | None = None
    """Digest of what the feature critic sees through, where there is one."""

    @property
    def recipe(self) -> dict[str, Any]:
        """The settings, with all that the run began with, as JSON values."""
        began = {"classifier_sha256": self.classifier_sha256, "origin": self.origin}
        return self.config.to_json() | {name: value for name, value in began.items() if value is not None}

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


def create_run(
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
    learnt from other data, or from images that this run holds out; CheckpointError when the state to start from is
    damaged.
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
    # The folder comes to be with all that is in it, so that a cut leaves none that can neither be begun nor continued.
    made = Run(folder.with_name(f".{folder.name}.new"), config, data, data_sha256)
    try:
        shutil.rmtree(made.folder, ignore_errors=True)
        made.folder.mkdir(parents=True)
        if start is not None:
            shutil.copy(start.state, made.start)
            made = dataclasses.replace(made, origin=start.recipe | _account(made.start))
        if config.feature_weight > 0 and classifier is not None:
            shutil.copy(classifier, made.classifier)
            made = dataclasses.replace(made, classifier_sha256=checkpoint.sha256(made.classifier))
        fields = {
            "config": config.to_json(),
            "data": str(data.resolve()),
            "data_sha256": data_sha256,
            "origin": made.origin,
            "classifier_sha256": made.classifier_sha256,
        }
        checkpoint.write_atomic(made.folder / "run.json", (json.dumps(fields, indent=2) + "\n").encode())
        made.folder.rename(folder)
    except OSError as error:
        raise RunError(f"{folder} cannot be made: {error.strerror}") from error
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)
    return dataclasses.replace(made, folder=folder)


def _account(saved: Path) -> dict[str, Any]:
    """How the run went whose state is `saved`: its steps and seconds, and the torch that took them."""
    _, metadata = checkpoint.read(saved)
    try:
        info = json.loads(metadata["info"])
        return {"steps": int(metadata["step"]), "seconds": info["seconds"], "torch": info["torch"]}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{saved}: not the state of a training run: {error!r}") from error


def open_run(folder: Path) -> Run:
    """An existing run. Raises RunError when `folder` is none, and ConfigError when its settings are not known here."""
    path = folder / "run.json"
    try:
        fields = json.loads(path.read_text())
        config, source = GanConfig.from_json(fields["config"]), Path(fields["data"])
        return Run(folder, config, source, fields["data_sha256"], fields.get("origin"), fields.get("classifier_sha256"))
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
