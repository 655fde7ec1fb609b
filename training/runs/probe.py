"""Replace the settings `auto` and 0 by values for this machine, before a run starts."""

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
    """Replace `auto` and 0 in `config` by values for this machine, and set torch's number of threads.

    `images` (N, 1, 32, 32) are the training data. The precision is the one whose steps are faster. Raises ConfigError
    if there is no such device, if a batch is too large, or if it cannot be divided among `processes`.
    """
    images = images[: plan(len(images), config, processes).images]
    if config.device == "auto":
        config = dataclasses.replace(config, device="cuda" if torch.cuda.is_available() else "cpu")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch finds no CUDA device; use --device cpu")
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
    """Seconds of a real step with each of `configs`, on temporary states."""
    trials = [(config, init_state(config), images[: config.batch_size].to(config.device)) for config in configs]
    fastest = [float("inf")] * len(configs)
    # Rounds alternate, and the fastest counts, so that the load of other processes affects all alike.
    for _ in range(ROUNDS):
        for index, (config, state, batch) in enumerate(trials):
            start = time.perf_counter()
            for _ in range(STEPS):
                advance(state, batch, config, config.learning_rate)
            state.totals.tolist()  # waits for the device
            fastest[index] = min(fastest[index], (time.perf_counter() - start) / STEPS)
    return fastest
