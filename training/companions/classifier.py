"""Training of the image classifier that the service uses. It learns from MNIST and depends on no generator."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from service.gan.classifier import Classifier
from training import data

BATCH_SIZE = 128
LEARNING_RATE = 2e-3
LABEL_SMOOTHING = 0.02

# Maximum rotation in radians, shear, relative change of scale, and shift in units of half the image.
ROTATION, SHEAR, SCALE, SHIFT = math.radians(12), 0.15, 0.12, 0.12

logger = logging.getLogger(__name__)


def train(images: Tensor, labels: Tensor, *, epochs: int, seed: int) -> Classifier:
    """Train a classifier on images (N, 1, 32, 32) in [-1, 1] with `labels` (N,); deterministic on one machine.

    In each epoch, every image gets a new random rotation, shear, scale and shift. The learning rate follows a one-cycle
    schedule (Smith and Topin, 2018).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier().to(memory_format=torch.channels_last)
    randomness = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=1e-2)
    steps = epochs * math.ceil(len(images) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    for epoch in range(epochs):
        total = torch.zeros(())
        for batch in torch.split(data.shuffle(len(images), seed, epoch), BATCH_SIZE):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = classifier(distort(images[batch], randomness)).float()
            loss = cross_entropy(logits, labels[batch], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(batch)
        logger.info("classifier: epoch %d of %d, loss %.4f", epoch + 1, epochs, float(total) / len(images))
    return classifier.to(memory_format=torch.contiguous_format).eval()


def distort(images: Tensor, randomness: torch.Generator) -> Tensor:
    """Apply a small random affine map to each of images (B, 1, H, W) in [-1, 1], on a black background."""
    angle, shear, wide, high, right, down = ((2 * torch.rand(6, len(images), generator=randomness) - 1).T * _LIMITS).T
    cosine, sine = angle.cos(), angle.sin()
    rows = [
        torch.stack([(1 + wide) * cosine, (1 + wide) * (shear * cosine - sine), right], 1),
        torch.stack([(1 + high) * sine, (1 + high) * (shear * sine + cosine), down], 1),
    ]
    grids = affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return grid_sample(images + 1, grids, align_corners=False) - 1


_LIMITS = torch.tensor([ROTATION, SHEAR, SCALE, SCALE, SHIFT, SHIFT])


@torch.inference_mode()
def accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    """Fraction of images (N, 1, 32, 32) in [-1, 1] whose most probable class equals their label (N,)."""
    classes = torch.cat([classifier(batch).argmax(1) for batch in torch.split(images, 500)])
    return float((classes == labels).double().mean())
