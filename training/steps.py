"""One training step, and the state that it advances."""

from __future__ import annotations

import copy
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from service.gan.networks import LATENT_DIM, Discriminator, Generator
from training import ema
from training.config import GanConfig
from training.objectives import GENERATOR_LOSSES, calculate_v, r1_penalty

METRICS = ("v", "generator_loss", "discriminator_loss", "r1", "real_probability", "fake_probability")


@dataclass
class TrainState:
    """Everything that the next step depends on, besides the settings and the data."""

    generator: Generator
    averaged: Generator
    discriminator: Discriminator
    generator_optimizer: torch.optim.Adam
    discriminator_optimizer: torch.optim.Adam
    noise: torch.Generator
    """Source of all latents. It lives on the CPU, so that a seed means the same on any device."""
    totals: Tensor
    """(6,) float32: sums of METRICS over the steps since the last line of metrics."""
    step: int = 0


def init_state(config: GanConfig) -> TrainState:
    """The state before the first step; it depends on `config` alone, and leaves the global random state untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        generator, discriminator = Generator(), Discriminator()
    for module in (generator, discriminator):
        module.to(config.device)
        if config.channels_last:
            module.to(memory_format=torch.channels_last)
    return TrainState(
        generator=generator,
        averaged=copy.deepcopy(generator).requires_grad_(False),
        discriminator=discriminator,
        generator_optimizer=_adam(generator, config),
        discriminator_optimizer=_adam(discriminator, config),
        noise=torch.Generator().manual_seed(config.seed),
        totals=torch.zeros(len(METRICS), device=config.device),
    )


def learning_rate_at(step: int, steps: int, config: GanConfig) -> float:
    """The learning rate of `step` (from 0) out of `steps`."""
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2


def advance(state: TrainState, real: Tensor, config: GanConfig, learning_rate: float) -> None:
    """One step on a batch of `real` images (B, 1, 32, 32): D ascends V, then G descends, then the average follows."""
    for optimizer in (state.generator_optimizer, state.discriminator_optimizer):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
    measured = _discriminator_step(state, real, config)
    generator_loss = _generator_step(state, real.shape[0], config)
    ema.update(state.averaged, state.generator, ema.decay_at(state.step, config.ema_decay))
    v, discriminator_loss, r1, real_probability, fake_probability = measured
    state.totals += torch.stack([v, generator_loss, discriminator_loss, r1, real_probability, fake_probability])
    state.step += 1


def _discriminator_step(state: TrainState, real: Tensor, config: GanConfig) -> tuple[Tensor, ...]:
    """One ascent of V over D. Returns V, the loss, the penalty, mean D(x) and mean D(G(z)), all scalars."""
    penalised = config.r1_gamma > 0 and state.step % config.r1_every == 0
    with torch.no_grad(), _autocast(config):
        fake = state.generator(_latents(state, real.shape[0], config)).float()
    real = real.detach().requires_grad_(penalised)
    with _autocast(config):
        real_logits = state.discriminator.logits(real).float()
        fake_logits = state.discriminator.logits(fake).float()
        v = calculate_v(real_logits, fake_logits)
        r1 = r1_penalty(real_logits, real, config.r1_gamma, config.r1_every) if penalised else torch.zeros_like(v)
    loss = r1 - v
    state.discriminator_optimizer.zero_grad()
    torch.autograd.backward(loss)
    state.discriminator_optimizer.step()
    with torch.no_grad():
        probabilities = torch.sigmoid(real_logits).mean(), torch.sigmoid(fake_logits).mean()
    return v.detach(), loss.detach(), r1.detach(), *probabilities


def _generator_step(state: TrainState, count: int, config: GanConfig) -> Tensor:
    """One descent of G on `count` latents; returns its loss."""
    # D's own gradients are not needed here; leaving them out saves about a sixth of the step.
    state.discriminator.requires_grad_(False)
    with _autocast(config):
        fake = state.generator(_latents(state, count, config))
        loss = GENERATOR_LOSSES[config.loss](state.discriminator.logits(fake).float())
    state.generator_optimizer.zero_grad()
    torch.autograd.backward(loss)
    state.generator_optimizer.step()
    state.discriminator.requires_grad_(True)
    return loss.detach()


def _latents(state: TrainState, count: int, config: GanConfig) -> Tensor:
    return torch.randn(count, LATENT_DIM, generator=state.noise).to(config.device, non_blocking=True)


def _autocast(config: GanConfig) -> AbstractContextManager[object]:
    return torch.autocast(config.device, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")


def _adam(module: nn.Module, config: GanConfig) -> torch.optim.Adam:
    optimizer = torch.optim.Adam(module.parameters(), lr=config.learning_rate, betas=config.betas, fused=True)
    # What Adam would make in its first step is made here, so that a state has the same tensors before it and after.
    for parameter in module.parameters():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    return optimizer
