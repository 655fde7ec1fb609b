"""One training step, and the state that it advances."""

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
    """The learning rate of `step` (from 0) out of `steps`: a linear rise, a time at its height, half a cosine to 0."""
    rise = min(1.0, (step + 1) / (config.warmup_steps + 1))
    if config.schedule == "constant":
        return config.learning_rate * rise
    progress = max(0.0, (step / steps - config.hold) / (1 - config.hold))
    return config.learning_rate * rise * (1 + math.cos(math.pi * progress)) / 2


def advance(state: TrainState, real: Tensor, config: GanConfig, learning_rate: float, group: Group = ALONE) -> None:
    """One step on a batch of `real` images (B, 1, 32, 32): D descends its loss, then G its own; the average follows.

    With several processes `real` is the whole batch, of which each takes its share.
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
    """Latents (2, B, 128), D's and G's, and shifts (3, B, 2) of the real images, D's and G's generated ones."""
    latents = torch.randn(2, count, LATENT_DIM, generator=state.noise)
    most = config.translation
    if most == 0:
        return latents, torch.zeros(3, count, 2, dtype=torch.int64)
    return latents, torch.randint(-most, most + 1, (3, count, 2), generator=state.noise)


def _to_device(values: Tensor, config: GanConfig) -> Tensor:
    # From pinned memory the copy is queued behind the last step, and nobody waits for it.
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
        # One pass over both: twice the rows cost less than two passes.
        logits = pooled.logits(state.discriminator, torch.cat([real, fake]))
    real_logits, fake_logits = logits.chunk(2)
    penalty = _penalty(state, real, config.r1_gamma, config) + _penalty(state, fake, config.r2_gamma, config)
    loss = OBJECTIVES[config.loss].discriminator(real_logits, fake_logits) + penalty
    state.discriminator_optimizer.zero_grad()
    torch.autograd.backward(loss)
    _drop_offset(state.discriminator.linear, config)
    group.average_gradients(state.discriminator)
    state.discriminator_optimizer.step()
    with torch.no_grad():
        v = calculate_v(real_logits, fake_logits)
        probabilities = torch.stack([torch.sigmoid(real_logits).mean(), torch.sigmoid(fake_logits).mean()])
    return v, loss.detach(), penalty.detach(), probabilities


def _penalty(state: TrainState, images: Tensor, gamma: float, config: GanConfig) -> Tensor:
    """The gradient penalty at one image in `penalty_every` of `images`: a smaller sample of the same mean."""
    if gamma == 0:
        return images.new_zeros(())
    some = images[: -(-len(images) // config.penalty_every)]
    with _autocast(config):
        return discriminator_penalty(state.discriminator, some, gamma)


def _critic_step(state: TrainState, real: Tensor, fake: Tensor, config: GanConfig, group: Group) -> Tensor:
    """One descent of the feature critic, where there is one; returns its loss."""
    if state.critic is None or state.critic_optimizer is None:
        return real.new_zeros(())
    with torch.no_grad(), _autocast(config):
        seen = state.critic.features(torch.cat([real, fake]))
    seen.requires_grad_(True)
    logits = state.critic.logits(seen)
    real_logits, fake_logits = logits.chunk(2)
    # The sum over the real rows has no gradient at the others, but the mean is taken over all rows: hence twice.
    penalty = gradient_penalty(real_logits, seen, 2 * config.feature_gamma)
    loss = OBJECTIVES[config.loss].discriminator(real_logits, fake_logits) + penalty
    state.critic_optimizer.zero_grad()
    torch.autograd.backward(loss)
    _drop_offset(state.critic.layers[-1], config)
    group.average_gradients(state.critic)
    state.critic_optimizer.step()
    return loss.detach()


def _generator_step(
    state: TrainState, real: Tensor, latents: Tensor, shifts: Tensor, config: GanConfig, group: Group
) -> Tensor:
    """One descent of G; returns its loss."""
    objective, critic = OBJECTIVES[config.loss], state.critic
    # D's own gradients are not needed here; leaving them out saves about a sixth of the step.
    state.discriminator.requires_grad_(False)
    with _autocast(config):
        fake = _moved(state.generator(latents), shifts, config)
        fake_logits = pooled.logits(state.discriminator, fake)
        real_logits = pooled.logits(state.discriminator, real) if objective.pairs else fake_logits.detach()
        seen = None if critic is None else critic.features(fake)
    loss = objective.generator(real_logits, fake_logits)
    if critic is not None and seen is not None:
        critic.layers.requires_grad_(False)
        judged = critic.logits(seen)
        known = critic.logits(critic.features(real)) if objective.pairs else judged.detach()
        loss = loss + config.feature_weight * objective.generator(known, judged)
        critic.layers.requires_grad_(True)
    state.generator_optimizer.zero_grad()
    torch.autograd.backward(loss)
    group.average_gradients(state.generator)
    state.generator_optimizer.step()
    state.discriminator.requires_grad_(True)
    return loss.detach()


def _drop_offset(last: nn.Module, config: GanConfig) -> None:
    """Remove the gradient of the bias of the `last` layer where the loss does not depend on that bias.

    Its terms cancel, and what remains is rounding error, which Adam would scale up to a full step.
    """
    if OBJECTIVES[config.loss].pairs:
        last.get_parameter("bias").grad = None


def _moved(images: Tensor, shifts: Tensor, config: GanConfig) -> Tensor:
    return translate(images, shifts, config.translation) if config.translation else images


def _autocast(config: GanConfig) -> AbstractContextManager[object]:
    # A captured step may not keep casts from one step to the next.
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
