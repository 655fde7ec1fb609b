"""The state that a training step changes, and its initial value."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from service.gan.networks import Discriminator, Generator
from training.config import GanConfig
from training.learning.feature_critic import FeatureCritic
from training.learning.graphs import CapturedStep
from training.learning.normalised import NormalisedGenerator

METRICS = (
    "v", "generator_loss", "discriminator_loss", "penalty", "real_probability", "fake_probability", "feature_loss",
)  # fmt: skip


@dataclass
class TrainState:
    """Everything that the next step depends on, except the settings and the data."""

    generator: Generator | NormalisedGenerator
    averaged: Generator | NormalisedGenerator
    discriminator: Discriminator
    generator_optimizer: torch.optim.Adam
    discriminator_optimizer: torch.optim.Adam
    critic: FeatureCritic | None
    critic_optimizer: torch.optim.Adam | None
    noise: torch.Generator
    """The source of all latents and shifts. It is on the CPU, so that a seed gives the same noise on every device."""
    totals: Tensor
    """(7,) float32: sums of METRICS over the steps since the last written line."""
    learning_rate: Tensor
    """() float32: all optimizers read it, so that a captured step can follow a schedule."""
    averaging: Tensor
    """() float32: the weight of the newest parameters in the average."""
    step: int = 0
    captured: CapturedStep | None = field(default=None, repr=False)
    """The step as a CUDA graph; the first step on a GPU creates it."""


def init_state(config: GanConfig) -> TrainState:
    """The state before the first step. It depends on `config` alone. The global random state is not changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        plain, discriminator = Generator(), Discriminator()
        critic = FeatureCritic() if config.feature_weight > 0 else None
    generator = NormalisedGenerator(plain) if config.generator_norm == "batch" else plain
    for module in filter(None, (generator, discriminator, critic)):
        module.to(config.device)
        if config.channels_last:
            module.to(memory_format=torch.channels_last)
    learning_rate = torch.tensor(config.learning_rate, device=config.device)
    return TrainState(
        generator=generator,
        averaged=copy.deepcopy(generator).requires_grad_(False),
        discriminator=discriminator,
        generator_optimizer=adam(generator, learning_rate, config),
        discriminator_optimizer=adam(discriminator, learning_rate, config),
        critic=critic,
        critic_optimizer=None if critic is None else adam(critic.layers, learning_rate, config),
        noise=torch.Generator().manual_seed(config.seed),
        totals=torch.zeros(len(METRICS), device=config.device),
        learning_rate=learning_rate,
        averaging=torch.ones((), device=config.device),
    )


def adam(module: nn.Module, learning_rate: Tensor, config: GanConfig) -> torch.optim.Adam:
    """A fused Adam for `module`. It reads `learning_rate` () at every step, also in a captured step."""
    optimizer = torch.optim.Adam(
        module.parameters(), lr=learning_rate, betas=config.betas, fused=True, capturable=config.device == "cuda"
    )
    # Adam creates its state in the first step. Creating it here gives every saved state the same tensors.
    for parameter in module.parameters():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    return optimizer
