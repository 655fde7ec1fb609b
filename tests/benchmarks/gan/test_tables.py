"""The tables in the README are those of the JSON files, measured with the present recipes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gan import ablations, runner
from benchmarks.gan.__main__ import spread
from training.config import RECIPES

FOLDER = Path(runner.__file__).parents[1]


@pytest.mark.parametrize("name", ["seeds", "ablations"])
def test_the_readme_has_the_measured_table(name: str) -> None:
    entries = runner.read(FOLDER / "gan" / f"{name}.json")
    assert runner.summary(entries) in (FOLDER / "README.md").read_text()


def test_the_readme_has_the_spread_of_the_seeds() -> None:
    assert spread(runner.read(FOLDER / "gan" / "seeds.json")) in (FOLDER / "README.md").read_text()


def test_the_entries_have_the_settings_of_ten_seeds_and_of_all_variants() -> None:
    machine: dict[str, Any] = {"precision": "bfloat16", "threads": 1, "device": "cpu"}
    for seed, entry in enumerate(runner.read(FOLDER / "gan" / "seeds.json")):
        assert entry.config == dataclasses.replace(RECIPES["default"], epochs=2, seed=seed, **machine)
    assert seed == 9
    by_name = {entry.name: entry.config for entry in runner.read(FOLDER / "gan" / "ablations.json")}
    assert by_name == {name: dataclasses.replace(ablations.variant(name, 2), **machine) for name in ablations.VARIANTS}
