"""A training state as one safetensors file: written atomically, and read back bit for bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from service.errors import CheckpointError
from service.gan import checkpoint
from training.config import GanConfig
from training.steps import TrainState, init_state

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save(path: Path, state: TrainState, info: dict[str, Any]) -> None:
    """Write `state`, and `info` as JSON in the file's metadata."""
    checkpoint.save(path, _tensors(state), {"step": str(state.step), "info": json.dumps(info)})


def load(path: Path, config: GanConfig, device: str | None = None) -> tuple[TrainState, dict[str, Any]]:
    """The state and the info that `save` wrote, on `device` or else on the one that `config` names.

    Raises CheckpointError when the file is missing, damaged, or not a training state.
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


def _tensors(state: TrainState) -> dict[str, Tensor]:
    modules = {"generator": state.generator, "averaged": state.averaged, "discriminator": state.discriminator}
    optimizers = {"generator": state.generator_optimizer, "discriminator": state.discriminator_optimizer}
    tensors = {"noise": state.noise.get_state(), "totals": state.totals}
    for prefix, module in modules.items():
        tensors |= {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}
    for prefix, optimizer in optimizers.items():
        for name, parameter in modules[prefix].named_parameters():
            tensors |= {f"{prefix}_optimizer.{name}.{key}": optimizer.state[parameter][key] for key in MOMENTS}
    return tensors
