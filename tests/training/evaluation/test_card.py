"""The model card describes all runs behind the published networks, with the commands that repeat them."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest

from service.gan import checkpoint
from service.gan.checkpoint import Manifest
from service.gan.companions import CLASSIFIER_FILE
from training.__main__ import parse
from training.config import RECIPES, GanConfig
from training.evaluation import card
from training.evaluation.controls import CONTROLS, NO_FAULT
from training.evaluation.evaluation import Estimate, Evaluation, Judge, Row
from training.evaluation.metrics import METRICS
from training.evaluation.samplers import PLAIN
from training.runs.publish import CARD_FILE, EVALUATION

PUBLISHED = Path(__file__).parents[3] / "checkpoints"

SETTLED: dict[str, Any] = {"precision": "float32", "threads": 2, "device": "cpu"}
LONG = dataclasses.replace(RECIPES["long"], **SETTLED | {"device": "cuda"}, held_out=5000)
REFINED = dataclasses.replace(RECIPES["refined"], **SETTLED, held_out=5000)
AGAIN = dataclasses.replace(REFINED, seed=7)
ACCOUNT = {"steps": 84_825, "seconds": 5400.0, "torch": "2.11.0"}


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    values, estimates = dict.fromkeys(METRICS, 1.0), dict.fromkeys(METRICS, Estimate(1.0, 0.1))
    return Evaluation(
        samples=10,
        seeds=[1, 2],
        threads=3,
        judges={"stacked": Judge("c" * 64, 1000, 10, 128, 0.99, 0.99)},
        floor={"stacked": estimates},
        held_out={},
        rows={PLAIN: Row({"stacked": estimates}, [1] * 10, 1.0)},
        controls={name: {"stacked": values} for name in (NO_FAULT, *CONTROLS)},
        memorisation={},
        copies=dict.fromkeys(("median_ratio", "share_close", "auc", "auc_error"), 0.5),
        classification={kind: Estimate(0.9, 0.01) for kind in ("samples", "real")},
        digits={},
    )


@pytest.fixture
def manifest(published: Path) -> Manifest:
    """The manifest of a run that was refined twice, first with another classifier, then with the published one."""
    long = LONG.to_json() | ACCOUNT
    refined = REFINED.to_json() | ACCOUNT | {"steps": 1560, "classifier_sha256": "a" * 64, "origin": long}
    recipe = AGAIN.to_json() | {"classifier_sha256": "b" * 64, "origin": refined}
    found = checkpoint.read_manifest(published)
    return found._replace(recipe=recipe, files=found.files | {CLASSIFIER_FILE: "b" * 64})


def commands(text: str) -> list[list[str]]:
    """The arguments of every `python -m training gan` of a card."""
    return [shlex.split(line)[3:] for line in text.splitlines() if line.startswith("python -m training gan ")]


def settings(arguments: list[str]) -> tuple[GanConfig, Any]:
    """The settings that the command line makes of `arguments`, and all its options."""
    options = parse(arguments)
    given = {name: value for name in card.FLAGS if (value := getattr(options, name)) is not None}
    return dataclasses.replace(RECIPES[given.pop("recipe")], **given), options


def test_the_commands_of_the_card_repeat_every_run(manifest: Manifest, evaluation: Evaluation) -> None:
    found = [settings(arguments) for arguments in commands(card.write(manifest, evaluation))]
    assert [config for config, _ in found] == [LONG, REFINED, AGAIN]
    names, starts = ([getattr(options, key) for _, options in found] for key in ("name", "start"))
    assert starts == [None, *(Path("runs") / name for name in names[:-1])]
    assert len(set(names)) == 3
    # Only a classifier other than the published one must be named.
    assert [options.classifier == parse(["gan"]).classifier for _, options in found] == [True, False, True]


def test_the_card_has_the_steps_hours_and_settings_of_earlier_runs(manifest: Manifest, evaluation: Evaluation) -> None:
    text = card.write(manifest, evaluation)
    assert "435 epochs on cuda (84,825 steps, 1.5 hours, torch 2.11.0)" in text
    assert "4 epochs on cpu (1,560 steps, 1.5 hours, torch 2.11.0)" in text
    assert f"feature critic used the classifier sha256 `{'a' * 64}`" in text
    assert "feature critic used the classifier `classifier.safetensors`" in text
    assert "| seed | `7` | `0` | `0` |" in text
    assert "| steps |" not in text
    assert "For each of 2 seeds, 10 samples in 8 bits were compared with the same number of test images, with 3" in text


def test_a_manifest_of_an_earlier_version_has_a_card_without_the_later_details(
    manifest: Manifest, evaluation: Evaluation
) -> None:
    old = manifest._replace(recipe=AGAIN.to_json() | {"origin": LONG.to_json()})
    text = card.write(old, evaluation._replace(threads=None))
    assert "It started from the networks of a run of 435 epochs on cuda; its settings" in text
    assert [settings(arguments)[0] for arguments in commands(text)] == [LONG, AGAIN]
    assert "same number of test images.\n" in text


def test_the_published_card_is_what_its_manifest_renders() -> None:
    manifest = checkpoint.read_manifest(PUBLISHED)
    evaluation = Evaluation.from_json(manifest.metrics[EVALUATION])
    assert (PUBLISHED / CARD_FILE).read_text() == card.write(manifest, evaluation)
