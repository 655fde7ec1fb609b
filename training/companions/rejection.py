"""The critic of rejection sampling: training, calibration, and offsets that keep the frequencies of the digits.

The logit of a network that separates real from generated images estimates log(p_real/p_G) (Goodfellow et al., 2014,
proposition 1). The critic is such a network on the features of the image classifier. The generator is frozen.
"""

from __future__ import annotations

import copy
import logging
import math
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import expit
from torch import Tensor
from torch.nn.functional import softplus

from service.gan.classifier import DIGITS, Classifier
from service.gan.critic import Critic
from service.gan.networks import LATENT_DIM, Generator
from training import data
from training.data import from_uint8, to_uint8
from training.evaluation.frechet import frechet_distance
from training.learning.feature_critic import MIN_SCALE

BATCH_SIZE = 512
LEARNING_RATE = 1e-3
# Candidates for M, as quantiles of the ratio among samples. A higher M is closer to p_real and keeps fewer samples.
QUANTILES = (0.5, 0.7, 0.8, 0.9, 0.95)
MAX_ATTEMPTS = 4
MAX_OFFSET, BISECTIONS = 30.0, 60

Float64 = NDArray[np.float64]

logger = logging.getLogger(__name__)


class Classified(NamedTuple):
    """The classifier's features (N, 128) of N images, and their most probable digits (N,)."""

    features: Tensor
    digits: Tensor


class Rejection(NamedTuple):
    """A calibrated critic, with the measurements by which its M was chosen."""

    critic: Critic
    frechet: float
    """Squared Fréchet distance of the kept samples to the held-out images, in the validator's features."""
    plain: float
    """The same distance for equally many candidates without rejection."""
    attempts: float
    """Mean number of candidates for each kept image."""


@torch.inference_mode()
def samples(generator: Generator, count: int, noise: torch.Generator) -> Tensor:
    """8-bit images (count, 1, 32, 32) of latents from N(0, I), as the service draws them."""
    latents = torch.randn(count, LATENT_DIM, generator=noise)
    return torch.cat([to_uint8(generator(rows)) for rows in torch.split(latents, 64)])


@torch.inference_mode()
def classify(classifier: Classifier, images: Tensor) -> Classified:
    """The features and digits that `classifier` computes for 8-bit images (N, 1, 32, 32)."""
    features = torch.cat([classifier.features(from_uint8(batch)) for batch in torch.split(images, 64)])
    return Classified(features, torch.cat([classifier.logits(batch).argmax(1) for batch in torch.split(features, 500)]))


def train(
    real: Classified, fake: Classified, held_real: Classified, held_fake: Classified, *, epochs: int, seed: int
) -> Critic:
    """Train a critic that separates `real` from `fake`. Its calibrated logits estimate log(p_real/p_G).

    The held-out images select the epoch, by the smallest loss, and calibrate the logits. Deterministic on one machine.
    """
    mean, scale = real.features.mean(0), real.features.std(0) + MIN_SCALE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = Critic()
    positive, negative, *held = ((part.features - mean) / scale for part in (real, fake, held_real, held_fake))
    features = torch.cat([positive, negative])
    signs = torch.cat([torch.ones(len(positive)), -torch.ones(len(negative))])
    optimizer = torch.optim.AdamW(critic.parameters(), LEARNING_RATE, weight_decay=1e-2)
    steps = epochs * math.ceil(len(features) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, smallest = copy.deepcopy(critic.state_dict()), math.inf
    for epoch in range(epochs):
        for batch in torch.split(data.shuffle(len(features), seed, epoch), BATCH_SIZE):
            loss = softplus(-signs[batch] * critic.layers(features[batch]).squeeze(1)).mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            real_logits, fake_logits = (critic.layers(part).squeeze(1) for part in held)
            total = float(softplus(-real_logits).mean() + softplus(fake_logits).mean())
        logger.info("critic: epoch %d of %d, held-out loss %.4f", epoch + 1, epochs, total / 2)
        if total < smallest:
            best, smallest = copy.deepcopy(critic.state_dict()), total
    critic.load_state_dict(best)
    with torch.no_grad():
        slope, intercept = platt(*(critic.layers(part).squeeze(1).double() for part in held))
        # The standardisation and the calibration become part of the weights of the critic that serves.
        weights = critic.state_dict()
        weights["layers.0.weight"].div_(scale)
        weights["layers.0.bias"].sub_(weights["layers.0.weight"] @ mean)
        weights["layers.4.weight"].mul_(slope)
        weights["layers.4.bias"].mul_(slope).add_(intercept)
    return critic.eval()


def platt(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of real (1) against fake (0) on logits (N,) and (M,), float64.

    Platt, "Probabilistic outputs for support vector machines" (1999). Both classes have equal weight, so that
    slope·l + intercept estimates log(p_real/p_fake).
    """
    r, f = real.numpy(), fake.numpy()

    def loss_and_gradient(values: Float64) -> tuple[float, Float64]:
        slope, intercept = values
        on_real, on_fake = -(slope * r + intercept), slope * f + intercept
        loss = np.logaddexp(0, on_real).mean() + np.logaddexp(0, on_fake).mean()
        by_real, by_fake = -expit(on_real), expit(on_fake)
        return float(loss), np.array([(by_real * r).mean() + (by_fake * f).mean(), by_real.mean() + by_fake.mean()])

    slope, intercept = optimize.minimize(loss_and_gradient, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return float(slope), float(intercept)


def balance_digits(logs: Tensor, digits: Tensor, shares: Tensor) -> Tensor:
    """Offsets (10,) to the log-probabilities (N,) of candidates, so that kept samples have the `shares` (10,).

    `digits` (N,) are those of the candidates. With M below the largest ratio, digits with many good images would be
    kept too rarely. The overall rate of kept candidates stays about the same, and never falls below half.
    """
    offsets = torch.zeros(DIGITS, dtype=torch.float64)
    kept = logs.clamp(max=0).exp()
    own = [digits == digit for digit in range(DIGITS)]
    present = [digit for digit in range(DIGITS) if shares[digit] > 0 and own[digit].any()]
    rate = fmean(float(kept[own[digit]].sum() / shares[digit]) for digit in present)
    # A digit cannot be kept more often than it occurs. A very rare digit lowers the rate of all by half at most.
    rate = max(rate / 2, min(rate, *(float(own[digit].sum() / shares[digit]) for digit in present)))
    for digit in present:
        offsets[digit] = _offset(logs[own[digit]], rate * float(shares[digit] / own[digit].sum()))
    return offsets


def _offset(logs: Tensor, rate: float) -> float:
    """The offset to `logs` (N,) that makes the mean probability equal `rate`, by bisection."""
    low, high = -MAX_OFFSET, MAX_OFFSET
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = float((logs + middle).clamp(max=0).exp().mean()) >= rate
        low, high = (low, middle) if enough else (middle, high)
    return high


def calibrate(
    critic: Critic,
    known: Classified,
    candidates: Classified,
    shares: Tensor,
    features: Tensor,
    held_out: Tensor,
    seed: int,
) -> Rejection:
    """Choose the M and the offsets of `critic` whose kept samples are closest to the held-out images.

    The samples `known` determine M and the offsets; `candidates` measure them. `features` (N, F) and `held_out` (M, F)
    are the validator's features of the candidates and of the held-out images. On average at most 4 candidates are used
    for each kept image. Every distance is over equally many samples, because its bias depends on their number. It is
    the mean over all sets of that size.
    """
    known_ratios, ratios = (_ratios(critic, part) for part in (known, candidates))
    uniform = torch.rand(len(ratios), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    count = min(len(held_out), len(ratios) // MAX_ATTEMPTS)
    plain = _distance(features, held_out, count)
    logger.info("rejection: Fréchet distance %.3f without rejection", plain)
    tried: list[Rejection] = []
    for quantile in QUANTILES:
        log_m = float(known_ratios.quantile(quantile))
        offsets = balance_digits(known_ratios - log_m, known.digits, shares)
        kept = (uniform < (ratios - log_m + offsets[candidates.digits]).clamp(max=0).exp()).nonzero()[:, 0]
        # The first quantile is always a candidate, so that there is at least one.
        if len(kept) * MAX_ATTEMPTS < len(uniform) and tried:
            continue
        distance = _distance(features[kept], held_out, count)
        calibrated = copy.deepcopy(critic)
        with torch.no_grad():
            calibrated.state_dict()["layers.4.bias"].sub_(log_m)
            calibrated.offsets.copy_(offsets)
        tried.append(Rejection(calibrated, distance, plain, len(uniform) / len(kept)))
        logger.info(
            "rejection: quantile %.2f, Fréchet distance %.3f, %.1f attempts", quantile, distance, tried[-1].attempts
        )
    return min(tried, key=lambda rejection: rejection.frechet)


def _distance(features: Tensor, held_out: Tensor, count: int) -> float:
    """The mean distance of all sets of `count` rows of `features` (N, F); of all rows if N is smaller."""
    sets = [rows for rows in torch.split(features, count) if len(rows) >= min(count, len(features))]
    return fmean(frechet_distance(rows, held_out) for rows in sets)


@torch.inference_mode()
def _ratios(critic: Critic, images: Classified) -> Tensor:
    """The estimated log(p_real/p_G), (N,) float64."""
    ratios: Tensor = critic.layers(images.features).squeeze(1).double()
    return ratios
