"""A training state as one safetensors file. It is written atomically and read back bit for bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from service.errors import CheckpointError
from service.gan import checkpoint
from service.gan.classifier import Classifier
from training.config import GanConfig
from training.learning.train_state import TrainState, init_state
from training.runs.run import Run

NETWORKS = ("generator", "averaged", "discriminator")
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save(path: Path, state: TrainState, info: dict[str, Any]) -> None:
    """Write `state` to `path`, with `info` as JSON in the metadata of the file."""
    checkpoint.save(path, _tensors(state), {"step": str(state.step), "info": json.dumps(info)})


def load(path: Path, config: GanConfig, device: str | None = None) -> tuple[TrainState, dict[str, Any]]:
    """Read the state and the info that `save` wrote. The state is on `device`, by default that of `config`.

    Raises CheckpointError if the file is missing, damaged, or not a training state.
    """
    saved, metadata = checkpoint.read(path)
    state = init_state(config if device is None else dataclasses.replace(config, device=device))
    current = _tensors(state)
    if {name: tensor.shape for name, tensor in saved.items()} != {n: t.shape for n, t in current.items()}:
        raise CheckpointError(f"{path}: not the state of a training run of this version")
    with torch.no_grad():
        for name, tensor in current.items():
            tensor.copy_(saved[name])
    state.noise.set_state(saved["noise"])
    state.step = int(metadata["step"])
    return state, json.loads(metadata["info"])


def begin(run: Run, images: Tensor) -> TrainState:
    """The state before the first step of `run`, with `images` (N, 1, 32, 32) as training data.

    If the run starts from another, the state has that run's networks and optimizers. A feature critic uses the run's
    classifier. Raises CheckpointError if a file is missing or has other networks.
    """
    state = init_state(run.config)
    if run.origin is not None:
        saved, _ = checkpoint.read(run.start)
        current = {n: t for n, t in _tensors(state).items() if n.split(".")[0].removesuffix("_optimizer") in NETWORKS}
        if any(name not in saved or saved[name].shape != tensor.shape for name, tensor in current.items()):
            raise CheckpointError(f"{run.start}: has other networks; start from a run with the same generator_norm")
        with torch.no_grad():
            for name, tensor in current.items():
                tensor.copy_(saved[name])
    if state.critic is not None:
        classifier = Classifier()
        checkpoint.load_module(run.classifier, classifier)
        state.critic.use_classifier(classifier, images)
    return state


def _tensors(state: TrainState) -> dict[str, Tensor]:
    modules: dict[str, nn.Module | None] = {
        "generator": state.generator,
        "averaged": state.averaged,
        "discriminator": state.discriminator,
        "critic": state.critic,
    }
    learning: dict[str, tuple[nn.Module, torch.optim.Adam]] = {
        "generator": (state.generator, state.generator_optimizer),
        "discriminator": (state.discriminator, state.discriminator_optimizer),
    }
    if state.critic is not None and state.critic_optimizer is not None:
        learning["critic"] = (state.critic.layers, state.critic_optimizer)
    tensors = {"noise": state.noise.get_state(), "totals": state.totals}
    for prefix, module in modules.items():
        if module is not None:
            tensors |= {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}
    for prefix, (module, optimizer) in learning.items():
        for name, parameter in module.named_parameters():
            tensors |= {f"{prefix}_optimizer.{name}.{key}": optimizer.state[parameter][key] for key in MOMENTS}
    return tensors
