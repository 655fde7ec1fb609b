"""Training of a classifier on labelled 8-bit images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from training import data
from training.evaluation.classifier import Classifier


@dataclass(frozen=True)
class FitSettings:
    """Settings of the training of one classifier: AdamW with a one-cycle schedule.

    The rate rises over the first tenth of the steps, then falls to zero.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    rotation: float = 0.0
    """Maximum rotation of an image, in degrees, in both directions."""
    shift: float = 0.0
    """Maximum shift of an image, in pixels, along each axis."""
    scale: float = 0.0
    """Maximum relative change of an image's size."""
    bfloat16: bool = False
    """Whether layers are computed in bfloat16 by torch's autocast. Weights are float32."""


def fit(classifier: Classifier, images: Tensor, labels: Tensor, settings: FitSettings, seed: int) -> None:
    """Train `classifier` in place on images (N, 1, 32, 32) uint8 with `labels` (N,), and put it in eval mode.

    Order and distortions depend on `seed` alone. Labels are not smoothed. Smoothing would make the features of a
    class nearly equal (Müller, Kornblith and Hinton, 2019), and so hide differences between sets of images.
    """
    randomness = torch.Generator().manual_seed(seed)
    batches = max(1, len(images) // settings.batch_size)
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    steps = settings.epochs * batches + 1
    # The schedule needs at least two steps for its rise.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=steps, pct_start=max(0.1, 2 / steps)
    )
    classifier.train().to(memory_format=torch.channels_last)
    for epoch in range(settings.epochs):
        order = data.shuffle(len(images), seed, epoch)
        for batch in range(batches):
            chosen = order[batch * settings.batch_size : (batch + 1) * settings.batch_size]
            inputs = distort(data.from_uint8(images[chosen]), settings, randomness)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.bfloat16):
                loss = cross_entropy(classifier(inputs), labels[chosen])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    classifier.eval()


def distort(images: Tensor, settings: FitSettings, randomness: torch.Generator) -> Tensor:
    """Rotate, scale and shift each of images (B, 1, H, H) in [-1, 1] by random amounts within `settings`."""
    if settings.rotation == settings.shift == settings.scale == 0:
        return images
    angle, scale, right, down = (torch.rand(4, len(images), generator=randomness) * 2 - 1).unbind()
    angle = angle * math.radians(settings.rotation)
    # The coordinates of grid_sample are between -1 and 1, so a pixel is 2 / H wide.
    right, down = (amount * settings.shift * 2 / images.shape[-1] for amount in (right, down))
    cosine, sine = torch.cos(angle) * (1 + scale * settings.scale), torch.sin(angle) * (1 + scale * settings.scale)
    maps = torch.stack([cosine, -sine, right, sine, cosine, down], 1).reshape(-1, 2, 3)
    grid = affine_grid(maps, list(images.shape), align_corners=False)
    # The background is black, -1, but grid_sample fills with 0.
    return grid_sample(images + 1, grid, align_corners=False) - 1
