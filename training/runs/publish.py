"""Publication: the folder that the service loads. What it is worth is measured afterwards (training/evaluation)."""

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
# What the evaluation of a folder is called among its manifest's metrics.
EVALUATION = "evaluation"
SAMPLES, EVALUATORS = "samples", "evaluators"
CONTENTS = {GENERATOR_FILE, DISCRIMINATOR_FILE, MANIFEST_FILE, CARD_FILE, SAMPLES, EVALUATORS, *companions.FILES}
GRID_SIDE = 10
PICTURED_EPOCHS = (1, 2, 5, 10, 20, 50, 100, 200, 400)


def publish(run: Run, target: Path) -> Manifest:
    """Write `run` as it is now to the folder `target`, in place of what was published there; returns the manifest.

    The generator is the averaged one. The card, the measurements and the companions go, because they are of other
    networks; the evaluators and the classifier of images stay. Raises CheckpointError when the run has no sound state
    yet, DataError when that is of an earlier version and its data are missing, and RunError when `target` holds
    anything that was not published.
    """
    _restore(target)
    _check_target(target)
    current, info = state.load(run.state, run.config, device="cpu")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that moving it there is one rename on one file system.
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
    if (target / companions.CLASSIFIER_FILE).is_file():  # `companions` goes on from it, and makes the others anew
        shutil.copy(target / companions.CLASSIFIER_FILE, temporary)
    checkpoint.load(temporary)
    _replace(target, temporary)
    return manifest


def _epochs(run: Run, step: int) -> int:
    """The complete epochs before `step`, from the data: states of earlier versions do not name them."""
    return plan(len(data.load(run.data, download=False).images), run.config).epoch(step)


def _old(target: Path) -> Path:
    """Where what was published at `target` stays while something else takes its place."""
    return target.with_name(f".{target.name}.old")


def _restore(target: Path) -> None:
    """Bring back what a publication that was cut had already moved away."""
    old = _old(target)
    if old.exists() and not target.exists():
        old.rename(target)


def _check_target(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise RunError(f"{target} is not a folder; choose another with --to")
    strange = {path.name for path in target.iterdir()} - CONTENTS if target.exists() else set()
    if strange:
        raise RunError(f"{target} holds {', '.join(sorted(strange))}, not published here; choose another with --to")


def _draw(run: Run, current: TrainState, folder: Path) -> None:
    folder.mkdir()
    picture = figures.grid(sample(published_generator(current), fixed_latents(GRID_SIDE**2)), GRID_SIDE)
    checkpoint.write_atomic(folder / "grid.png", figures.encode_png(picture))
    for epoch in PICTURED_EPOCHS:
        name = f"epoch_{epoch:03d}.png"
        if (run.samples / name).exists():
            shutil.copy(run.samples / name, folder / name)


def _replace(target: Path, new: Path) -> None:
    """Put the folder `new` in the place of `target`; what was there goes only after that.

    Wherever this is cut, what was there is still at `target`, or `_restore` brings it back.
    """
    old = _old(target)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
