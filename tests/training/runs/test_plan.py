"""Laws of the plan: each step belongs to one epoch, and epochs follow one another."""

from __future__ import annotations

import dataclasses

import pytest

from training.config import ConfigError, GanConfig
from training.runs.plan import Plan, plan

PLANS = [Plan(160, 2, 16, 1), Plan(161, 5, 16, 4), Plan(50, 1, 7, 3), Plan(1000, 4, 10, 2)]


@pytest.mark.parametrize("steps", PLANS)
def test_epochs_follow_one_another_without_a_gap(steps: Plan) -> None:
    assert steps.start(0) == 0
    for epoch in range(steps.epochs):
        assert steps.start(epoch + 1) - steps.start(epoch) == steps.batches(epoch)
        assert {steps.epoch(step) for step in range(steps.start(epoch), steps.start(epoch + 1))} == {epoch}
    assert steps.epoch(steps.steps) == steps.epochs


@pytest.mark.parametrize("steps", PLANS)
def test_an_epoch_omits_less_than_one_batch_of_images(steps: Plan) -> None:
    for epoch in range(steps.epochs):
        assert 0 <= steps.images - steps.batches(epoch) * steps.size(epoch) < steps.size(epoch)


def test_batches_are_larger_in_the_second_half() -> None:
    assert [Plan(1000, 4, 10, 3).size(epoch) for epoch in range(4)] == [10, 10, 30, 30]


def test_the_plan_excludes_the_held_out_images(small_config: GanConfig) -> None:
    assert plan(160, dataclasses.replace(small_config, held_out=60)).images == 100


@pytest.mark.parametrize("changes", [{"held_out": 150}, {"held_out": 1000}, {"late_batches": 11}])
def test_a_batch_larger_than_the_remaining_images_is_refused(small_config: GanConfig, changes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="images are left to learn from"):
        plan(160, dataclasses.replace(small_config, **changes))  # type: ignore[arg-type]
