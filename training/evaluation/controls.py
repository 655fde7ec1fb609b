"""Bad sets of images, made of real ones, that the metrics have to notice.

A measurement is worth what it can tell apart. Each control has one fault, and names the metrics that must call it worse
than the images that it was made of.
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
ORIGINALS = 0.01
COPIED = 0.1


class ControlError(LatentserveError):
    """A metric did not notice a fault that it is there to notice: what it says about samples means nothing."""


class Control(NamedTuple):
    """One fault."""

    title: str
    spoil: Callable[[Tensor, Tensor, int], Tensor]
    """Images (N, 1, H, W) uint8, in random order, and their labels (N,) to so many spoilt images, at most N."""
    notice: tuple[str, ...]
    """The metrics that have to get worse."""


def blur(images: Tensor, _labels: Tensor, count: int) -> Tensor:
    """Every image smoothed by the binomial weights 1 4 6 4 1 along both axes."""
    weights = torch.tensor(BLUR_WEIGHTS) / sum(BLUR_WEIGHTS)
    kernel = torch.outer(weights, weights)[None, None]
    return torch.nn.functional.conv2d(images[:count].float(), kernel, padding="same").round().to(torch.uint8)


def drop_class(images: Tensor, labels: Tensor, count: int) -> Tensor:
    """Images of all classes but one; the first of them come twice where there are not enough."""
    others = images[labels != DROPPED]
    return others[torch.arange(count) % len(others)]


def repeat_few(images: Tensor, _labels: Tensor, count: int) -> Tensor:
    """A hundredth of the images, over and over."""
    return images[torch.arange(count) % max(1, round(count * ORIGINALS))]


def copy_some(test_images: Tensor, train_images: Tensor) -> Tensor:
    """New real images, a tenth of which is replaced by training images: what a model that copies would draw."""
    copied = max(1, round(len(test_images) * COPIED))
    return torch.cat([train_images[:copied], test_images[copied:]])


# What the training images without a fault are called among the controls.
SOUND = "none"
CONTROLS = {
    "blurred": Control("Every image blurred", blur, ("frechet", "frechet_limit", "kernel_distance")),
    "dropped": Control(f"No {DROPPED}", drop_class, ("frechet", "recall", "coverage", "class_kl")),
    "repeated": Control(f"{ORIGINALS:.0%} of the images, repeated", repeat_few, ("frechet", "recall", "coverage")),
}


def check(name: str, evaluator: str, spoilt: dict[str, float], sound: dict[str, float]) -> None:
    """Raise ControlError unless the control's metrics are worse than those of the images that it was made of."""
    for metric in CONTROLS[name].notice:
        worse = spoilt[metric] > sound[metric] if METRICS[metric].lower_is_better else spoilt[metric] < sound[metric]
        if not worse:
            raise ControlError(
                f"{metric} by the evaluator {evaluator} does not notice the control {name}: "
                f"{spoilt[metric]:.6g}, and {sound[metric]:.6g} without the fault; the evaluator is not fit to measure"
            )


def check_copies(copies: Memorisation) -> None:
    """Raise ControlError unless the memorisation of `copy_some` shows that images were copied."""
    if copies.auc >= 0.5 or copies.share_close < COPIED / 2:
        raise ControlError(
            f"memorisation does not notice that {COPIED:.0%} of the images are copies: "
            f"AUC {copies.auc:.4f}, {copies.share_close:.2%} close"
        )
