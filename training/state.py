"""A training state as one safetensors file: written atomically, and read back bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from service.gan import checkpoint
from training.config import GanConfig
from training.steps import TrainState, init_state

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save(path: Path, state: TrainState, info: dict[str, Any]) -> None:
    """Write `state`, and `info` as JSON in the file's metadata."""
    checkpoint.save(path, _tensors(state), {"step": str(state.step), "info": json.dumps(info)})


def load(path: Path, config: GanConfig) -> tuple[TrainState, dict[str, Any]]:
    """The state and the info that `save` wrote. Raises CheckpointError when the file is damaged or another run's."""
    saved, metadata = checkpoint.read(path)
    state = init_state(config)
    _prepare_moments(state)
    current = _tensors(state)
    if {name: tensor.shape for name, tensor in saved.items()} != {n: t.shape for n, t in current.items()}:
        raise checkpoint.CheckpointError(f"{path}: not the state of a training run of this version")
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
        for (name, _), moments in zip(modules[prefix].named_parameters(), optimizer.state.values(), strict=False):
            tensors |= {f"{prefix}_optimizer.{name}.{key}": moments[key] for key in MOMENTS}
    return tensors


def _prepare_moments(state: TrainState) -> None:
    """Give both optimisers the tensors that Adam makes in its first step, for `load` to fill."""
    for optimizer in (state.generator_optimizer, state.discriminator_optimizer):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                # As Adam does: moments share their parameter's memory layout, and a fused step counter its device.
                optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                }
