"""Laws of one training step."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from service.gan.networks import LATENT_DIM
from training.config import RECIPES, GanConfig
from training.learning.losses import calculate_v
from training.learning.steps import advance, learning_rate_at
from training.learning.train_state import METRICS, TrainState, init_state


def flat(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])


def value(state: TrainState, real: Tensor, latents: Tensor) -> float:
    with torch.no_grad():
        fake = state.generator(latents)
        return calculate_v(state.discriminator.logits(real), state.discriminator.logits(fake)).item()


def test_the_initial_state_depends_on_the_seed_alone_and_the_global_random_state_is_not_changed(
    small_config: GanConfig,
) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = init_state(small_config)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = init_state(small_config)
    other = init_state(dataclasses.replace(small_config, seed=1))
    assert torch.equal(flat(first.generator), flat(second.generator))
    assert not torch.equal(flat(first.generator), flat(other.generator))
    assert torch.equal(flat(first.averaged), flat(first.generator))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("loss", ["minimax", "non_saturating", "relativistic"])
def test_a_step_depends_on_the_state_the_batch_and_the_settings_alone(
    small_config: GanConfig, images: Tensor, loss: str, precision: str
) -> None:
    config = dataclasses.replace(small_config, loss=loss, precision=precision)
    first, second = init_state(config), init_state(config)
    for step in range(2):
        torch.manual_seed(step)
        advance(first, images[:16], config, 1e-3)
    for step in range(2):
        torch.manual_seed(step + 5)
        advance(second, images[:16], config, 1e-3)
    for name in ("generator", "averaged", "discriminator"):
        assert torch.equal(flat(getattr(first, name)), flat(getattr(second, name)))
        assert flat(getattr(first, name)).isfinite().all()
    assert torch.equal(first.totals, second.totals)
    assert first.step == 2


def test_the_memory_layout_changes_only_rounding(small_config: GanConfig, images: Tensor) -> None:
    plain = dataclasses.replace(small_config, channels_last=False)
    config = dataclasses.replace(small_config, channels_last=True)
    reference, state = init_state(plain), init_state(config)
    advance(reference, images[:16], plain, 1e-3)
    advance(state, images[:16], config, 1e-3)
    # G's loss is computed after a step of D by Adam, which amplifies the rounding of small gradients.
    torch.testing.assert_close(state.totals, reference.totals, rtol=1e-3, atol=1e-3)


def test_the_discriminator_ascends_v_and_then_the_minimax_generator_descends_it(
    small_config: GanConfig, images: Tensor
) -> None:
    config = dataclasses.replace(RECIPES["minimax"], precision="float32", device="cpu", betas=(0.0, 0.99))
    state = init_state(config)
    latents = torch.randn(64, LATENT_DIM, generator=torch.Generator().manual_seed(5))
    start = value(state, images, latents)
    frozen = {name: tensor.clone() for name, tensor in state.generator.state_dict().items()}
    for _ in range(8):
        state.generator.load_state_dict(frozen)
        advance(state, images[:64], config, 1e-3)
    state.generator.load_state_dict(frozen)
    raised = value(state, images, latents)
    assert raised > start + 0.01
    judge = {name: tensor.clone() for name, tensor in state.discriminator.state_dict().items()}
    for _ in range(8):
        advance(state, images[:64], config, 1e-3)
        state.discriminator.load_state_dict(judge)
    assert value(state, images, latents) < raised


@pytest.mark.parametrize(("r1", "r2"), [(0.0, 0.0), (2.0, 0.0), (0.0, 2.0)])
def test_a_penalty_is_positive_if_and_only_if_a_weight_is(
    small_config: GanConfig, images: Tensor, r1: float, r2: float
) -> None:
    config = dataclasses.replace(small_config, r1_gamma=r1, r2_gamma=r2)
    state = init_state(config)
    advance(state, images[:16], config, 1e-3)
    assert (state.totals[METRICS.index("penalty")].item() > 0) == (r1 + r2 > 0)


def test_the_penalty_at_a_quarter_of_equal_images_is_that_at_all(small_config: GanConfig, images: Tensor) -> None:
    penalties = []
    for every in (1, 4):
        config = dataclasses.replace(small_config, penalty_every=every, translation=0)
        state = init_state(config)
        # The closest maxima of this image are 191 rounding steps apart, so both batch sizes choose the same ones.
        advance(state, images[:1].expand(16, -1, -1, -1), dataclasses.replace(config, r2_gamma=0.0), 1e-3)
        penalties.append(state.totals[METRICS.index("penalty")].item())
    assert penalties[0] == pytest.approx(penalties[1], rel=1e-4)


def test_the_discriminator_loss_is_the_penalty_minus_v(small_config: GanConfig, images: Tensor) -> None:
    config = dataclasses.replace(small_config, loss="non_saturating")
    state = init_state(config)
    advance(state, images[:16], config, 1e-3)
    totals = dict(zip(METRICS, state.totals.tolist(), strict=True))
    assert totals["discriminator_loss"] == pytest.approx(totals["penalty"] - totals["v"], rel=1e-5)


@pytest.mark.parametrize("loss", ["minimax", "non_saturating", "relativistic"])
def test_the_last_bias_of_the_discriminator_changes_only_if_the_loss_depends_on_it(
    small_config: GanConfig, images: Tensor, loss: str
) -> None:
    config = dataclasses.replace(small_config, loss=loss)
    state = init_state(config)
    before = state.discriminator.linear.bias.detach().clone()
    for _ in range(3):
        advance(state, images[:16], config, 1e-3)
    assert torch.equal(state.discriminator.linear.bias, before) == (loss == "relativistic")


def test_with_a_decay_of_0_the_average_equals_the_generator_bit_for_bit(
    small_config: GanConfig, images: Tensor
) -> None:
    config = dataclasses.replace(small_config, ema_decay=0.0)
    state = init_state(config)
    advance(state, images[:16], config, 1e-3)
    assert torch.equal(flat(state.averaged), flat(state.generator))


def test_the_cosine_schedule_falls_from_the_full_rate_through_half_of_it_to_zero(small_config: GanConfig) -> None:
    config = dataclasses.replace(small_config, warmup_steps=0)
    rates = [learning_rate_at(step, 1000, config) for step in range(1001)]
    assert rates[0] == config.learning_rate
    assert rates[500] == pytest.approx(config.learning_rate / 2)
    assert rates[1000] == pytest.approx(0)
    assert rates == sorted(rates, reverse=True)


def test_the_constant_schedule_is_constant(small_config: GanConfig) -> None:
    config = dataclasses.replace(small_config, schedule="constant", warmup_steps=0)
    assert {learning_rate_at(step, 10, config) for step in range(10)} == {config.learning_rate}


def test_the_learning_rate_rises_linearly_before_its_schedule(small_config: GanConfig) -> None:
    config = dataclasses.replace(small_config, schedule="constant", warmup_steps=3)
    rates = [learning_rate_at(step, 10, config) / config.learning_rate for step in range(5)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1])


def test_the_learning_rate_is_constant_before_the_end_of_its_hold(small_config: GanConfig) -> None:
    config = dataclasses.replace(small_config, hold=0.5, warmup_steps=0)
    rates = [learning_rate_at(step, 100, config) / config.learning_rate for step in range(101)]
    assert rates[:51] == [1.0] * 51
    assert rates[75] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)
