"""One training step: D, the feature critic if there is one, G, and the average of G's weights."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from service.gan.networks import LATENT_DIM
from training.config import GanConfig
from training.learning import ema, pooled
from training.learning.augment import translate
from training.learning.distributed import ALONE, Group
from training.learning.graphs import CapturedStep
from training.learning.losses import OBJECTIVES, calculate_v
from training.learning.penalty import discriminator_penalty, gradient_penalty
from training.learning.train_state import TrainState


def learning_rate_at(step: int, steps: int, config: GanConfig) -> float:
    """The learning rate of `step`, counted from 0, in a run of `steps` steps.

    It rises linearly, is constant (`hold`), and decays to 0 as a half cosine. The schedule `constant` has no decay.
    """
    rise = min(1.0, (step + 1) / (config.warmup_steps + 1))
    if config.schedule == "constant":
        return config.learning_rate * rise
    progress = max(0.0, (step / steps - config.hold) / (1 - config.hold))
    return config.learning_rate * rise * (1 + math.cos(math.pi * progress)) / 2


def advance(state: TrainState, real: Tensor, config: GanConfig, learning_rate: float, group: Group = ALONE) -> None:
    """Take one step on `real` images (B, 1, 32, 32) in [-1, 1]: update D, then G, then the average of G's weights.

    Changes `state` in place. With several processes, `real` is the whole batch, and each process takes its share.
    """
    latents, shifts = _draw(state, len(real), config)
    inputs = [
        group.share(real),
        _to_device(group.share(latents, dim=1), config),
        _to_device(group.share(shifts, dim=1), config),
    ]
    state.learning_rate.fill_(learning_rate)
    state.averaging.fill_(1 - ema.decay_at(state.step, config.ema_decay, config.ema_rise))

    def step(real: Tensor, latents: Tensor, shifts: Tensor) -> None:
        _step(state, real, latents, shifts, config, group)

    if config.device == "cuda" and group.size == 1:
        if state.captured is None or state.captured.rows != len(real):
            state.captured = CapturedStep(step, inputs, _changed(state))
        state.captured(*inputs)
    else:
        step(*inputs)
    state.step += 1


def _draw(state: TrainState, count: int, config: GanConfig) -> tuple[Tensor, Tensor]:
    """Latents (2, B, 128) for D and G, and shifts (3, B, 2) of the real images and of both generated sets."""
    latents = torch.randn(2, count, LATENT_DIM, generator=state.noise)
    limit = config.translation
    if limit == 0:
        return latents, torch.zeros(3, count, 2, dtype=torch.int64)
    return latents, torch.randint(-limit, limit + 1, (3, count, 2), generator=state.noise)


def _to_device(values: Tensor, config: GanConfig) -> Tensor:
    # A copy from pinned memory is queued on the device, so this process does not wait for it.
    return values.pin_memory().to(config.device, non_blocking=True) if config.device == "cuda" else values


def _step(state: TrainState, real: Tensor, latents: Tensor, shifts: Tensor, config: GanConfig, group: Group) -> None:
    real = _moved(real, shifts[0], config)
    with torch.no_grad(), _autocast(config):
        fake = _moved(state.generator(latents[0]).float(), shifts[1], config)
    v, loss, penalty, probabilities = _discriminator_step(state, real, fake, config, group)
    feature_loss = _critic_step(state, real, fake, config, group)
    generator_loss = _generator_step(state, real, latents[1], shifts[2], config, group)
    ema.update(state.averaged, state.generator, state.averaging)
    measured = torch.stack([v, generator_loss, loss, penalty, *probabilities, feature_loss])
    state.totals += group.average(measured)


def _discriminator_step(
    state: TrainState, real: Tensor, fake: Tensor, config: GanConfig, group: Group
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One descent of D. Returns V, the loss, the penalty, and mean D(x) and mean D(G(z)) as (2,)."""
    with _autocast(config):
        # One pass over both halves costs less than two passes.
        logits = pooled.logits(state.discriminator, torch.cat([real, fake]))
    real_logits, fake_logits = logits.chunk(2)
    penalty = _penalty(state, real, config.r1_gamma, config) + _penalty(state, fake, config.r2_gamma, config)
    loss = OBJECTIVES[config.loss].discriminator(real_logits, fake_logits) + penalty
    state.discriminator_optimizer.zero_grad()
    torch.autograd.backward(loss)
    _remove_bias_gradient(state.discriminator.linear, config)
    group.average_gradients(state.discriminator)
    state.discriminator_optimizer.step()
    with torch.no_grad():
        v = calculate_v(real_logits, fake_logits)
        probabilities = torch.stack([torch.sigmoid(real_logits).mean(), torch.sigmoid(fake_logits).mean()])
    return v, loss.detach(), penalty.detach(), probabilities


def _penalty(state: TrainState, images: Tensor, gamma: float, config: GanConfig) -> Tensor:
    """The gradient penalty at the first 1/`penalty_every` of `images`, an estimate of the mean over all."""
    if gamma == 0:
        return images.new_zeros(())
    chosen = images[: -(-len(images) // config.penalty_every)]
    with _autocast(config):
        return discriminator_penalty(state.discriminator, chosen, gamma)


def _critic_step(state: TrainState, real: Tensor, fake: Tensor, config: GanConfig, group: Group) -> Tensor:
    """One descent of the feature critic; returns its loss, or 0 if there is no feature critic."""
    if state.critic is None or state.critic_optimizer is None:
        return real.new_zeros(())
    with torch.no_grad(), _autocast(config):
        features = state.critic.features(torch.cat([real, fake]))
    features.requires_grad_(True)
    logits = state.critic.logits(features)
    real_logits, fake_logits = logits.chunk(2)
    # Half of the rows are real, and only these have a gradient. The factor 2 corrects the mean over all rows.
    penalty = gradient_penalty(real_logits, features, 2 * config.feature_gamma)
    loss = OBJECTIVES[config.loss].discriminator(real_logits, fake_logits) + penalty
    state.critic_optimizer.zero_grad()
    torch.autograd.backward(loss)
    _remove_bias_gradient(state.critic.layers[-1], config)
    group.average_gradients(state.critic)
    state.critic_optimizer.step()
    return loss.detach()


def _generator_step(
    state: TrainState, real: Tensor, latents: Tensor, shifts: Tensor, config: GanConfig, group: Group
) -> Tensor:
    """One descent of G; returns its loss."""
    objective, critic = OBJECTIVES[config.loss], state.critic
    # D's weight gradients are not needed here. Omitting them saves about a sixth of the step.
    state.discriminator.requires_grad_(False)
    with _autocast(config):
        fake = _moved(state.generator(latents), shifts, config)
        fake_logits = pooled.logits(state.discriminator, fake)
        real_logits = pooled.logits(state.discriminator, real) if objective.pairs else fake_logits.detach()
        features = None if critic is None else critic.features(fake)
    loss = objective.generator(real_logits, fake_logits)
    if critic is not None and features is not None:
        critic.layers.requires_grad_(False)
        fake_scores = critic.logits(features)
        real_scores = critic.logits(critic.features(real)) if objective.pairs else fake_scores.detach()
        loss = loss + config.feature_weight * objective.generator(real_scores, fake_scores)
        critic.layers.requires_grad_(True)
    state.generator_optimizer.zero_grad()
    torch.autograd.backward(loss)
    group.average_gradients(state.generator)
    state.generator_optimizer.step()
    state.discriminator.requires_grad_(True)
    return loss.detach()


def _remove_bias_gradient(last: nn.Module, config: GanConfig) -> None:
    """Remove the gradient of the bias of the `last` layer if the loss does not depend on that bias.

    The exact gradient is 0. Adam would scale the rounding error up to a full step.
    """
    if OBJECTIVES[config.loss].pairs:
        last.get_parameter("bias").grad = None


def _moved(images: Tensor, shifts: Tensor, config: GanConfig) -> Tensor:
    return translate(images, shifts, config.translation) if config.translation else images


def _autocast(config: GanConfig) -> AbstractContextManager[object]:
    # A captured step must not reuse casts of an earlier step.
    cached = config.device == "cpu"
    enabled = config.precision == "bfloat16"
    return torch.autocast(config.device, dtype=torch.bfloat16, enabled=enabled, cache_enabled=cached)


def _changed(state: TrainState) -> list[Tensor]:
    """Every tensor that a step writes to."""
    optimizers = filter(None, (state.generator_optimizer, state.discriminator_optimizer, state.critic_optimizer))
    moments = [tensor for optimizer in optimizers for slot in optimizer.state.values() for tensor in slot.values()]
    modules: list[nn.Module] = [state.generator, state.averaged, state.discriminator]
    modules += [] if state.critic is None else [state.critic.layers]
    return [parameter for module in modules for parameter in module.parameters()] + moments + [state.totals]
