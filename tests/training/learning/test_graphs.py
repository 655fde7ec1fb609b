"""A replayed step has the effect of the original step, and a capture has no effect."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from training.config import GanConfig
from training.learning import steps
from training.learning.graphs import CapturedStep
from training.learning.steps import advance
from training.learning.train_state import METRICS, TrainState, init_state

pytestmark = pytest.mark.gpu

STEPS, RATE = 6, 1e-4


class Uncaptured:
    """Has the interface of a captured step, and runs the original step."""

    def __init__(self, step: Callable[..., None], inputs: Sequence[Tensor], _changed: Sequence[Tensor]) -> None:
        self._step = step
        self.rows = len(inputs[0])

    def __call__(self, *inputs: Tensor) -> None:
        self._step(*inputs)


class Regression:
    """A step of Adam on a linear map, and all tensors that it changes."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(8, 3).cuda()
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=0.1, capturable=True)
        self.losses = torch.zeros((), device="cuda")
        for parameter in self.module.parameters():
            self.optimizer.state[parameter] = {
                "step": torch.zeros((), device="cuda"),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        loss = (self.module(inputs) - targets).square().mean()
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.losses += loss.detach()

    @property
    def changed(self) -> list[Tensor]:
        moments = [tensor for slot in self.optimizer.state.values() for tensor in slot.values()]
        return [*self.module.parameters(), *moments, self.losses]


@pytest.fixture
def batches() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(16, 8, device="cuda"), torch.randn(16, 3, device="cuda")) for _ in range(STEPS)]


def test_capturing_a_step_changes_nothing(batches: list[tuple[Tensor, Tensor]]) -> None:
    problem = Regression()
    before = [tensor.detach().clone() for tensor in problem.changed]
    captured = CapturedStep(problem.step, batches[0], problem.changed)
    assert captured.rows == 16
    assert all(torch.equal(tensor, value) for tensor, value in zip(problem.changed, before, strict=True))


def test_a_captured_step_has_the_effect_of_the_original(batches: list[tuple[Tensor, Tensor]]) -> None:
    replayed, taken = Regression(), Regression()
    captured = CapturedStep(replayed.step, batches[0], replayed.changed)
    for batch in batches:
        captured(*batch)
        taken.step(*batch)
        for tensor, value in zip(replayed.changed, taken.changed, strict=True):
            torch.testing.assert_close(tensor, value, rtol=1e-5, atol=1e-6)
    assert taken.losses > 0


@pytest.mark.parametrize("feature_weight", [0.0, 3.0])
def test_a_captured_training_step_has_the_effect_of_the_original(
    small_config: GanConfig, images: Tensor, monkeypatch: pytest.MonkeyPatch, feature_weight: float
) -> None:
    config = dataclasses.replace(small_config, device="cuda", feature_weight=feature_weight, feature_gamma=0.02)
    real = images.cuda()

    def train() -> TrainState:
        state = init_state(config)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            for step in range(STEPS):
                # Batches double in the second half, as with `late_batches`, so the step is captured again.
                size = 16 if step < STEPS // 2 else 32
                advance(state, real.roll(-16 * step, 0)[:size], config, RATE)
        return state

    replayed = train()
    monkeypatch.setattr(steps, "CapturedStep", Uncaptured)
    taken = train()
    assert isinstance(replayed.captured, CapturedStep)
    assert type(taken.captured).__name__ == Uncaptured.__name__
    assert replayed.step == taken.step == STEPS
    assert torch.equal(replayed.noise.get_state(), taken.noise.get_state())
    for name, one, other in zip(METRICS, replayed.totals.tolist(), taken.totals.tolist(), strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4), name
    for network in ("generator", "averaged", "discriminator"):
        pairs = zip(getattr(replayed, network).parameters(), getattr(taken, network).parameters(), strict=True)
        for parameter, expected in pairs:
            # A step of Adam moves a weight by about the rate. Rounding decides the direction of small gradients.
            # The bound is therefore on the mean over all weights.
            assert (parameter - expected).abs().mean() < 0.05 * STEPS * RATE
