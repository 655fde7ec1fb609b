"""Publication: write the folder that the service loads. `training/evaluation` measures it afterwards."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from service.gan import checkpoint, companions
from service.gan.checkpoint import DISCRIMINATOR_FILE, GENERATOR_FILE, MANIFEST_FILE, Manifest
from service.version import VERSION
from training import data
from training.learning.ema import published_generator
from training.learning.train_state import TrainState
from training.runs import figures, state
from training.runs.figures import fixed_latents, sample
from training.runs.plan import plan
from training.runs.run import Run, RunError

CARD_FILE = "MODEL_CARD.md"
# The key of an evaluation in the manifest's metrics.
EVALUATION = "evaluation"
SAMPLES, EVALUATORS = "samples", "evaluators"
CONTENTS = {GENERATOR_FILE, DISCRIMINATOR_FILE, MANIFEST_FILE, CARD_FILE, SAMPLES, EVALUATORS, *companions.FILES}
GRID_SIDE = 10
PICTURED_EPOCHS = (1, 2, 5, 10, 20, 50, 100, 200, 400)


def publish(run: Run, target: Path) -> Manifest:
    """Write the present networks of `run` to the folder `target`, and return the manifest.

    The generator is the averaged one. An earlier publication in `target` is replaced: its card, measurements and
    companions belong to other networks and are removed; its evaluators and image classifier are kept.

    Raises CheckpointError if the run has no valid state, and RunError if `target` contains other files. Raises
    DataError if the state is of an earlier version and its data are missing.
    """
    _restore(target)
    _check_target(target)
    current, info = state.load(run.state, run.config, device="cpu")
    target.parent.mkdir(parents=True, exist_ok=True)
    # A folder beside the target is on the same file system, so one rename moves it.
    temporary = target.with_name(f".{target.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    checkpoint.save(temporary / GENERATOR_FILE, published_generator(current).state_dict())
    checkpoint.save(temporary / DISCRIMINATOR_FILE, current.discriminator.state_dict())
    manifest = Manifest(
        format_version=checkpoint.FORMAT_VERSION,
        files={name: checkpoint.sha256(temporary / name) for name in (GENERATOR_FILE, DISCRIMINATOR_FILE)},
        recipe=run.recipe,
        seed=run.config.seed,
        data_sha256=run.data_sha256,
        epochs=info["epochs"] if "epochs" in info else _epochs(run, current.step),
        steps=current.step,
        metrics={"training_seconds": info["seconds"]},
        created=datetime.now(UTC).date().isoformat(),
        torch=info["torch"],
        version=VERSION,
    )
    checkpoint.write_manifest(temporary, manifest)
    _draw(run, current, temporary / SAMPLES)
    if (target / EVALUATORS).is_dir():
        shutil.copytree(target / EVALUATORS, temporary / EVALUATORS)
    if (target / companions.CLASSIFIER_FILE).is_file():  # `companions` keeps it
        shutil.copy(target / companions.CLASSIFIER_FILE, temporary)
    checkpoint.load(temporary)
    _replace(target, temporary)
    return manifest


def _epochs(run: Run, step: int) -> int:
    """The number of complete epochs before `step`, from the data. States of earlier versions do not store it."""
    return plan(len(data.load(run.data, download=False).images), run.config).epoch(step)


def _old(target: Path) -> Path:
    """The temporary place of an earlier publication while `target` is replaced."""
    return target.with_name(f".{target.name}.old")


def _restore(target: Path) -> None:
    """Restore an earlier publication that an interrupted one had moved away."""
    old = _old(target)
    if old.exists() and not target.exists():
        old.rename(target)


def _check_target(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise RunError(f"{target} is not a folder; choose a folder with --to")
    strange = {path.name for path in target.iterdir()} - CONTENTS if target.exists() else set()
    if strange:
        raise RunError(
            f"{target} has files of other origin: {', '.join(sorted(strange))}; choose another folder with --to"
        )


def _draw(run: Run, current: TrainState, folder: Path) -> None:
    folder.mkdir()
    picture = figures.grid(sample(published_generator(current), fixed_latents(GRID_SIDE**2)), GRID_SIDE)
    checkpoint.write_atomic(folder / "grid.png", figures.encode_png(picture))
    for epoch in PICTURED_EPOCHS:
        name = f"epoch_{epoch:03d}.png"
        if (run.samples / name).exists():
            shutil.copy(run.samples / name, folder / name)


def _replace(target: Path, new: Path) -> None:
    """Move the folder `new` to `target`, then remove what was there.

    After an interruption at any point, the earlier publication is at `target`, or `_restore` moves it back.
    """
    old = _old(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
