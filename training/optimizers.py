"""The optimizers of a run."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.config import GanConfig


def adam(module: nn.Module, learning_rate: Tensor, config: GanConfig) -> torch.optim.Adam:
    """Adam for `module`, in one kernel; `learning_rate` () is read at every step, so that a captured one follows it."""
    optimizer = torch.optim.Adam(
        module.parameters(), lr=learning_rate, betas=config.betas, fused=True, capturable=config.device == "cuda"
    )
    # What Adam would make in its first step is made here, so that a state has the same tensors before it and after.
    for parameter in module.parameters():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
        }
    return optimizer
