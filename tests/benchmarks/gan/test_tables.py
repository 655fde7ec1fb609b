"""The tables that are shown are those that were measured, with the recipes as they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gan import ablations, runner
from training.config import RECIPES

FOLDER = Path(runner.__file__).parents[1]


@pytest.mark.parametrize("name", ["seeds", "ablations"])
def test_the_table_shown_is_the_one_that_was_measured(name: str) -> None:
    entries = runner.read(FOLDER / "gan" / f"{name}.json")
    assert runner.summary(entries) in (FOLDER / "README.md").read_text()


def test_ten_seeds_of_the_default_recipe_were_measured_and_each_variant_by_itself() -> None:
    machine: dict[str, Any] = {"precision": "bfloat16", "threads": 1, "device": "cpu"}
    for seed, entry in enumerate(runner.read(FOLDER / "gan" / "seeds.json")):
        assert entry.config == dataclasses.replace(RECIPES["default"], epochs=2, seed=seed, **machine)
    assert seed == 9
    by_name = {entry.name: entry.config for entry in runner.read(FOLDER / "gan" / "ablations.json")}
    assert by_name == {name: dataclasses.replace(ablations.variant(name, 2), **machine) for name in ablations.VARIANTS}
