"""Training of the latent classifier, which predicts from z the class that the image classifier gives to G(z)."""

from __future__ import annotations

import copy
import logging
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, softmax

from service.gan.classifier import DIGITS, Classifier, LatentClassifier
from service.gan.networks import LATENT_DIM, Generator
from training import data
from training.data import from_uint8, to_uint8

BATCH_SIZE = 256
LEARNING_RATE = 4e-3
LABEL_BATCH = 128
PRECISION = 0.9985
"""Of the latents above a digit's threshold, the required fraction whose images show that digit."""
LOWEST_THRESHOLD = 0.5

logger = logging.getLogger(__name__)


class Labelled(NamedTuple):
    """Latents (N, 128) and the class logits (N, 10) of their images."""

    latents: Tensor
    logits: Tensor


@torch.inference_mode()
def label(generator: Generator, classifier: Classifier, count: int, seed: int) -> Labelled:
    """Draw `count` latents from `seed`, and classify their 8-bit images, in bfloat16."""
    latents = torch.randn(count, LATENT_DIM, generator=torch.Generator().manual_seed(seed))
    logits = torch.empty(count, DIGITS)
    fast = copy.deepcopy(generator).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for rows, out in zip(torch.split(latents, LABEL_BATCH), torch.split(logits, LABEL_BATCH), strict=True):
            images = from_uint8(to_uint8(fast(rows).float()))
            out.copy_(classifier(images.to(memory_format=torch.channels_last)))
    return Labelled(latents, logits)


def train(samples: Labelled, *, seed: int, epochs: int) -> LatentClassifier:
    """Train a latent classifier q by minimising KL(p ‖ q), with p the class probabilities of the latents' images.

    Deterministic on one machine.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = LatentClassifier()
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=1e-2)
    targets = softmax(samples.logits, 1)
    steps = epochs * math.ceil(len(targets) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps)
    for epoch in range(epochs):
        total = torch.zeros(())
        for batch in torch.split(data.shuffle(len(targets), seed, epoch), BATCH_SIZE):
            loss = kl_div(log_softmax(classifier(samples.latents[batch]), 1), targets[batch], reduction="batchmean")
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(batch)
        logger.info("latent classifier: epoch %d of %d, KL %.4f", epoch + 1, epochs, float(total) / len(targets))
    return classifier.eval()


@torch.inference_mode()
def agreement(classifier: LatentClassifier, samples: Labelled) -> float:
    """Fraction of latents whose most probable digit equals that of their image."""
    return float((classifier(samples.latents).argmax(1) == samples.logits.argmax(1)).double().mean())


@torch.inference_mode()
def thresholds(classifier: LatentClassifier, samples: Labelled, precision: float = PRECISION) -> list[float]:
    """For each digit, the lowest probability above which latents are accepted; 10 numbers.

    Of the `samples` at or above a threshold, at least the fraction `precision` have images of that digit. If no
    threshold reaches `precision`, the one with the highest fraction is returned.
    """
    predicted, actual = softmax(classifier(samples.latents), 1), samples.logits.argmax(1)
    found = []
    for digit in range(DIGITS):
        scores, order = predicted[:, digit].sort(descending=True)
        shares = (actual[order] == digit).double().cumsum(0) / torch.arange(1, len(order) + 1)
        # A threshold accepts all latents of equal probability, so only the last of them has a valid share.
        shares[:-1].masked_fill_(scores[:-1] == scores[1:], 0)
        likely = max(1, int((scores >= LOWEST_THRESHOLD).sum()))
        reached = torch.nonzero(shares[:likely] >= precision).flatten()
        last = int(reached[-1]) if len(reached) else int(shares[:likely].argmax())
        found.append(float(scores[last]))
    return found
