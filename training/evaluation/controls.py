"""Negative controls: sets of real images with one fault each.

They verify that the metrics can detect faults. Each control lists the metrics that must be worse for the faulty images
than for the same images without the fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from service.errors import LatentserveError
from training.evaluation.memorisation import Memorisation
from training.evaluation.metrics import METRICS

BLUR_WEIGHTS = (1.0, 4.0, 6.0, 4.0, 1.0)
DROPPED = 7
# Fraction of different images in the control that repeats images.
ORIGINALS = 0.01
# Fraction of training images in the control of memorisation.
COPIED = 0.1


class ControlError(LatentserveError):
    """A metric does not detect a fault that it must detect, so its values for samples have no meaning."""


class Control(NamedTuple):
    """A fault, and the metrics that must detect it."""

    title: str
    corrupt: Callable[[Tensor, Tensor, int], Tensor]
    """Takes images (N, 1, H, W) uint8 in random order, their labels (N,), and a count of at most N. Returns that number
    of faulty images."""
    sensitive: tuple[str, ...]
    """The names of the metrics that must be worse."""


def blur(images: Tensor, _labels: Tensor, count: int) -> Tensor:
    """The first `count` images, smoothed with the binomial weights (1, 4, 6, 4, 1)/16 along both axes."""
    weights = torch.tensor(BLUR_WEIGHTS) / sum(BLUR_WEIGHTS)
    kernel = torch.outer(weights, weights)[None, None]
    return torch.nn.functional.conv2d(images[:count].float(), kernel, padding="same").round().to(torch.uint8)


def drop_class(images: Tensor, labels: Tensor, count: int) -> Tensor:
    """`count` images without those of class DROPPED. If these are too few, the first are repeated."""
    others = images[labels != DROPPED]
    return others[torch.arange(count) % len(others)]


def repeat_few(images: Tensor, _labels: Tensor, count: int) -> Tensor:
    """`count` images that repeat the first ORIGINALS · count."""
    return images[torch.arange(count) % max(1, round(count * ORIGINALS))]


def copy_some(test_images: Tensor, train_images: Tensor) -> Tensor:
    """Test images (N, 1, H, W) with the fraction COPIED replaced by training images, as from a model that copies."""
    copied = max(1, round(len(test_images) * COPIED))
    return torch.cat([train_images[:copied], test_images[copied:]])


# The key of the training images without a fault.
NO_FAULT = "none"
CONTROLS = {
    "blurred": Control("Every image blurred", blur, ("frechet", "frechet_limit", "kernel_distance")),
    "dropped": Control(f"No {DROPPED}", drop_class, ("frechet", "recall", "coverage", "class_kl")),
    "repeated": Control(f"{ORIGINALS:.0%} of the images, repeated", repeat_few, ("frechet", "recall", "coverage")),
}


def check(name: str, evaluator: str, faulty: dict[str, float], intact: dict[str, float]) -> None:
    """Raise ControlError unless the sensitive metrics of control `name` are worse than without the fault.

    `faulty` and `intact` are the metrics with and without the fault, by name.
    """
    for metric in CONTROLS[name].sensitive:
        worse = faulty[metric] > intact[metric] if METRICS[metric].lower_is_better else faulty[metric] < intact[metric]
        if not worse:
            raise ControlError(
                f"{metric} by the evaluator {evaluator} does not detect the control {name}: {faulty[metric]:.6g}, and "
                f"{intact[metric]:.6g} without the fault; train other evaluators with: python -m training evaluators"
            )


def check_copies(copies: Memorisation) -> None:
    """Raise ControlError unless the memorisation metrics of `copy_some` show that images were copied."""
    if copies.auc >= 0.5 or copies.share_close < COPIED / 2:
        raise ControlError(
            f"memorisation does not detect that {COPIED:.0%} of the images are copies: AUC {copies.auc:.4f}, expected "
            f"below 0.5, and {copies.share_close:.2%} close, expected at least {COPIED / 2:.2%}"
        )
