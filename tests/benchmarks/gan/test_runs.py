"""Laws of the compared runs: each is trained once, with its own settings, and saving one entry keeps the others."""

from __future__ import annotations

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gan import ablations, runner, speed, story
from benchmarks.gan.runner import Bench, Entry
from service.gan import checkpoint
from training import data
from training.config import RECIPES, GanConfig
from training.evaluation.validation import Quality, Validator
from training.runs.run import RunError

SETTINGS: dict[str, Any] = {
    "precision": "float32",
    "threads": 1,
    "device": "cpu",
    "batch_size": 16,
    "held_out": 0,
    "warmup_steps": 0,
}


@pytest.fixture(scope="module")
def bench(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    digits, folder = data.load(small_data, download=False), tmp_path_factory.mktemp("runs")
    validator = Validator(digits, folder / "validator.safetensors", held_out=60)
    return Bench(digits, data.resize(digits.images), small_data, folder, validator)


@pytest.fixture(scope="module")
def config() -> GanConfig:
    return dataclasses.replace(RECIPES["default"], epochs=1, **SETTINGS)


def entry(name: str, seconds: float) -> Entry:
    return Entry(name, RECIPES["default"], Quality(1.0, 2.0, 0.1), seconds)


def test_a_saved_entry_replaces_only_the_entry_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "seeds.json"
    for found in (entry("seed 0", 1.0), entry("seed 1", 2.0), entry("seed 2", 3.0), entry("seed 1", 4.0)):
        runner.save(path, found)
    kept = json.loads(path.read_text())
    assert [(part["name"], part["seconds"]) for part in kept] == [("seed 0", 1.0), ("seed 1", 4.0), ("seed 2", 3.0)]
    assert kept[1] == json.loads(json.dumps(entry("seed 1", 4.0).to_json()))
    assert runner.read(path)[1] == entry("seed 1", 4.0)
    assert len(path.read_text().splitlines()) == 2 + len(kept), "one entry a line, between brackets"


def test_a_run_is_trained_once_and_its_measurement_is_repeatable(bench: Bench, config: GanConfig) -> None:
    first = runner.measure(bench, "once", config)
    state = bench.folder / "once" / "state.safetensors"
    written = state.stat().st_mtime_ns
    # A setting that is left to the machine equals the value that the run has.
    assert runner.measure(bench, "once", dataclasses.replace(config, precision="auto")) == first
    assert state.stat().st_mtime_ns == written
    assert first.quality is not None
    assert first.config == config


@pytest.mark.parametrize(("name", "value", "own"), [("epochs", 2, 1), ("seed", 1, 0), ("r1_gamma", 1.0, 10.0)])
def test_a_run_with_other_settings_is_refused(
    bench: Bench, config: GanConfig, name: str, value: float, own: float
) -> None:
    runner.train(bench, "ours", config)
    other = dataclasses.replace(config, **{name: value})  # type: ignore[arg-type]
    with pytest.raises(RunError, match=f"ours was trained with {name} {own}, not {value}; remove it"):
        runner.train(bench, "ours", other)


def test_a_run_with_other_data_is_refused(bench: Bench, config: GanConfig) -> None:
    runner.train(bench, "ours", config)
    with pytest.raises(RunError, match="learns from data with sha256"):
        runner.train(bench._replace(digits=bench.digits._replace(sha256="0" * 64)), "ours", config)


def test_a_run_with_an_infinite_loss_has_no_quality(bench: Bench, config: GanConfig) -> None:
    found = runner.measure(bench, "infinite", dataclasses.replace(config, learning_rate=1e20, log_every=1))
    assert found.quality is None
    assert runner.cells(found.quality)[-1] == "not finite"


def test_the_story_has_every_epoch_of_every_run(bench: Bench, config: GanConfig, tmp_path: Path) -> None:
    first = runner.train(bench, "default-seed-0", config).folder
    second = runner.train(bench, "default-seed-1", dataclasses.replace(config, seed=1)).folder
    namesake = Path(shutil.copytree(second, tmp_path / second.name))
    table = story.compare(bench, 2, SETTINGS, [first, second, namesake], tmp_path / "story.png")
    rows = [line.split()[:2] for line in table.splitlines()[1:]]
    trained = [[name, epoch] for name in ("minimax", "default") for epoch in ("1", "2")]
    assert rows == [*trained, ["default-seed-0", "1"], ["default-seed-1", "1"], [str(namesake), "1"]]
    assert (tmp_path / "story.png").read_bytes().startswith(b"\x89PNG")


def test_the_epochs_of_a_run_are_those_of_its_kept_generators(bench: Bench, config: GanConfig) -> None:
    run = runner.train(bench, "two epochs", dataclasses.replace(config, epochs=2))
    found = runner.by_epoch(bench, run)
    assert list(found) == [1, 2]
    last = runner.measure(bench, "two epochs", run.config).quality
    # The weights are equal but have another memory layout, so an 8-bit level may round differently.
    assert found[2][0] == pytest.approx(last, rel=1e-4)
    file = run.generators / "epoch_001.safetensors"
    kept, _ = checkpoint.read(file)
    assert all(bool((kept[name] == tensor).all()) for name, tensor in found[1][1].state_dict().items())


def test_the_picture_has_at_most_seven_epochs_with_the_first_and_the_last() -> None:
    for count in (1, 7, 8, 100):
        shown = story._spread(list(range(count)))
        assert len(shown) == min(count, story.SHOWN)
        assert (shown[0], shown[-1]) == (0, count - 1)
        assert shown == sorted(set(shown))


def test_each_ablation_changes_only_its_own_settings() -> None:
    default = ablations.variant("default", 3).to_json()
    seen = []
    for name, changes in ablations.VARIANTS.items():
        found = ablations.variant(name, 3).to_json()
        assert {key: found[key] for key in found if found[key] != default[key]} == changes
        seen.append(found)
    assert all(one != other for index, one in enumerate(seen) for other in seen[:index])


def test_a_column_of_a_table_is_as_wide_as_its_widest_cell() -> None:
    assert runner.table(("", "value"), [("a name", "1"), ("b", "1,000,000")]).splitlines() == [
        "            value",
        "a name          1",
        "b       1,000,000",
    ]


def test_rounds_of_the_speed_alternate_between_the_loops() -> None:
    turns: list[str] = []

    def loop(name: str) -> Any:
        while True:
            turns.append(name)
            sum(range(10_000))
            yield

    rates = speed.images_a_second({name: partial(loop, name) for name in "ab"}, steps=2, rounds=3)
    assert turns == [*"aaaaabbbbb", *"aabb" * 3]
    assert all(len(found) == 3 and min(found) > 0 for found in rates.values())
