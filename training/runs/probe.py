"""What this machine has: settings left to it, `auto` and 0, become definite ones before a run begins."""

from __future__ import annotations

import dataclasses
import logging
import time

import torch
from torch import Tensor

from training.config import ConfigError, GanConfig
from training.learning.steps import advance
from training.learning.train_state import init_state
from training.runs.plan import plan

ROUNDS, STEPS = 4, 4

logger = logging.getLogger(__name__)


def resolve(config: GanConfig, images: Tensor, processes: int = 1) -> GanConfig:
    """`config` with `auto` and 0 replaced by what this machine has; sets the number of threads.

    `images` (N, 1, 32, 32) are the training data. Precision is chosen by timing real steps.
    Raises ConfigError for a device that is not there, and a batch that is too large or cannot be shared by `processes`.
    """
    images = images[: plan(len(images), config, processes).images]
    if config.device == "auto":
        config = dataclasses.replace(config, device="cuda" if torch.cuda.is_available() else "cpu")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch finds none; use --device cpu")
    if config.threads == 0:
        config = dataclasses.replace(config, threads=torch.get_num_threads())
    torch.set_num_threads(config.threads)
    if config.precision == "auto":
        candidates = [dataclasses.replace(config, precision=precision) for precision in ("float32", "bfloat16")]
        seconds = _time_steps(candidates, images)
        config = candidates[seconds.index(min(seconds))]
        logger.info("a step takes %.1f ms in float32, %.1f ms in bfloat16", seconds[0] * 1e3, seconds[1] * 1e3)
    return config


def _time_steps(configs: list[GanConfig], images: Tensor) -> list[float]:
    """Seconds of a real step with each of `configs`, on states that are thrown away."""
    trials = [(config, init_state(config), images[: config.batch_size].to(config.device)) for config in configs]
    fastest = [float("inf")] * len(configs)
    # In turns, and the fastest of each: another process's load then weighs on none of them more than on the others.
    for _ in range(ROUNDS):
        for index, (config, state, batch) in enumerate(trials):
            start = time.perf_counter()
            for _ in range(STEPS):
                advance(state, batch, config, config.learning_rate)
            state.totals.tolist()  # waits for the device
            fastest[index] = min(fastest[index], (time.perf_counter() - start) / STEPS)
    return fastest
