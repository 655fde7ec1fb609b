"""Pictures of a run: grids of samples and curves of metrics."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from service.gan.networks import LATENT_DIM, Generator
from training.data import to_uint8


def grid(images: Tensor, columns: int, padding: int = 2) -> Tensor:
    """Arrange images (N, 1, H, W) uint8 row by row in one uint8 picture, with `padding` black pixels around each.

    The picture is (rows·(H + padding) + padding, columns·(W + padding) + padding).
    """
    count, _, height, width = images.shape
    rows = -(-count // columns)
    picture = torch.zeros(rows * (height + padding) + padding, columns * (width + padding) + padding, dtype=torch.uint8)
    for index, image in enumerate(images.cpu()):
        row, column = divmod(index, columns)
        top, left = row * (height + padding) + padding, column * (width + padding) + padding
        picture[top : top + height, left : left + width] = image[0]
    return picture


def encode_png(picture: Tensor) -> bytes:
    """Encode a picture (H, W) uint8 as an 8-bit grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(picture.cpu().numpy()).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


@torch.inference_mode()
def sample(generator: Generator, latents: Tensor, batch_size: int = 100) -> Tensor:
    """Images (N, 1, 32, 32) uint8 of `latents` (N, 128), on the CPU, computed in float32."""
    device = next(generator.parameters()).device
    batches = torch.split(latents, batch_size)
    return torch.cat([to_uint8(generator(batch.to(device))).cpu() for batch in batches])


def fixed_latents(count: int, seed: int = 0) -> Tensor:
    """Latents (count, 128) from N(0, I), the same in every run."""
    return torch.randn(count, LATENT_DIM, generator=torch.Generator().manual_seed(seed))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a metrics.jsonl file, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def encode_curves(metrics: Iterable[Mapping[str, float]]) -> bytes:
    """Plot the losses, V and the mean probabilities against the step, as the bytes of a PNG."""
    rows = list(metrics)
    steps = [row["step"] for row in rows]
    panels = {
        "losses": ("generator_loss", "discriminator_loss", "penalty", "feature_loss"),
        "V(G, D)": ("v",),
        "mean D": ("real_probability", "fake_probability"),
    }
    figure = Figure(figsize=(8, 9), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True)
    for axis, (title, names) in zip(axes, panels.items(), strict=True):
        for name in names:
            axis.plot(steps, [row[name] for row in rows], label=name.replace("_", " "), linewidth=0.8)
        axis.set_ylabel(title)
        axis.grid(alpha=0.3)
        axis.legend(loc="upper right")
    axes[-1].set_xlabel("step")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
