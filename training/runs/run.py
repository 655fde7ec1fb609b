"""The folder of a run: its contents, its creation, and the lock that permits one process to train it."""

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
    """The folder of a run is missing, damaged, in use, or has other settings or data than the caller states."""


@dataclass(frozen=True)
class Run:
    """The folder of one training run, its settings, and its data set."""

    folder: Path
    config: GanConfig
    data: Path
    """Folder of the data set when the run was created."""
    data_sha256: str
    origin: dict[str, Any] | None = None
    """The `recipe` of the run that this one started from, with its steps, seconds and torch version; or None."""
    classifier_sha256: str | None = None
    """sha256 of the feature critic's classifier, or None."""

    @property
    def recipe(self) -> dict[str, Any]:
        """The settings, the origin and the sha256 of the classifier, as JSON values."""
        sources = {"classifier_sha256": self.classifier_sha256, "origin": self.origin}
        return self.config.to_json() | {name: value for name, value in sources.items() if value is not None}

    @property
    def start(self) -> Path:
        """A copy of the state that this run started from."""
        return self.folder / "start.safetensors"

    @property
    def classifier(self) -> Path:
        """A copy of the feature critic's classifier."""
        return self.folder / "classifier.safetensors"

    @property
    def state(self) -> Path:
        """The last saved state."""
        return self.folder / "state.safetensors"

    @property
    def metrics(self) -> Path:
        """Metrics: one line with a JSON object every `log_every` steps."""
        return self.folder / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Folder of the sample grids, one for each epoch."""
        return self.folder / "samples"

    @property
    def generators(self) -> Path:
        """Folder of the generators after some of the epochs, in the published architecture."""
        return self.folder / "generators"

    @property
    def curves(self) -> Path:
        """Plot of the metrics."""
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
    """Create the folder of a new run, with copies of the state of `start` and of the feature critic's `classifier`.

    Raises RunError if the folder exists, if a required file is missing, or if `start` learned from other data or from
    images that this run holds out. Raises CheckpointError if the state of `start` is damaged.
    """
    if folder.exists():
        raise RunError(f"{folder} exists already; choose another --name, or continue the run with --resume {folder}")
    if start is not None and not start.state.is_file():
        raise RunError(f"{start.folder} has no state to start from yet; train it first")
    if start is not None and (start.data_sha256 != data_sha256 or start.config.held_out < config.held_out):
        raise RunError(
            f"{start.folder} held out {start.config.held_out} images of data with sha256 {start.data_sha256}, but this "
            f"run holds out {config.held_out} of {data_sha256}; start from a run that did not learn from them"
        )
    if config.feature_weight > 0 and (classifier is None or not classifier.is_file()):
        raise RunError(
            f"the feature critic needs a classifier, and {classifier} is not a file; name one with --classifier"
        )
    # One rename creates the complete folder, so an interrupted call leaves no partial folder.
    made = Run(folder.with_name(f".{folder.name}.new"), config, data, data_sha256)
    try:
        shutil.rmtree(made.folder, ignore_errors=True)
        made.folder.mkdir(parents=True)
        if start is not None:
            shutil.copy(start.state, made.start)
            made = dataclasses.replace(made, origin=start.recipe | _summary(made.start))
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
        raise RunError(f"{folder} cannot be created: {error.strerror}") from error
    finally:
        shutil.rmtree(made.folder, ignore_errors=True)
    return dataclasses.replace(made, folder=folder)


def _summary(saved: Path) -> dict[str, Any]:
    """The number of steps, the seconds and the torch version of the run whose state is `saved`."""
    _, metadata = checkpoint.read(saved)
    try:
        info = json.loads(metadata["info"])
        return {"steps": int(metadata["step"]), "seconds": info["seconds"], "torch": info["torch"]}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{saved}: not the state of a training run: {error!r}") from error


def open_run(folder: Path) -> Run:
    """Open an existing run.

    Raises RunError if `folder` is not a run or is damaged, and ConfigError if its settings are unknown or invalid.
    """
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
    """Raise RunError unless `sha256` is the digest of the data that the run was created with."""
    if sha256 != run.data_sha256:
        raise RunError(f"{run.folder} learns from data with sha256 {run.data_sha256}, but these have {sha256}")


@contextmanager
def exclusive(run: Run) -> Iterator[None]:
    """A context that locks the run. Raises RunError if another process trains it."""
    with (run.folder / "lock").open("w") as file:
        try:
            # The system releases the lock at the end of the process, so a killed run does not stay locked.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(f"{run.folder} is being trained by another process") from error
        yield
