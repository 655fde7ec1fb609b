"""What rejection sampling needs: a critic of the finished generator, calibrated, and even-handed among the digits.

The logit of a network that tells real images from generated ones estimates log(p_real/p_G) (Goodfellow et al., 2014,
proposition 1). The critic is such a network behind the serving classifier, trained against the frozen generator.
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
from training.learning.feature_critic import LEAST_SCALE

BATCH_SIZE = 512
LEARNING_RATE = 1e-3
# Quantiles of the ratio among samples that are tried as M: the higher, the nearer to p_real and the rarer what is kept.
QUANTILES = (0.5, 0.7, 0.8, 0.9, 0.95)
MOST_ATTEMPTS = 4
MOST_OFFSET, BISECTIONS = 30.0, 60

Float64 = NDArray[np.float64]

logger = logging.getLogger(__name__)


class Seen(NamedTuple):
    """Images as the classifier sees them: features (N, 128), and their likeliest digits (N,)."""

    features: Tensor
    digits: Tensor


class Rejection(NamedTuple):
    """A critic, and what the samples that it keeps were measured to be, by what it was chosen by."""

    critic: Critic
    frechet: float
    """Squared Fréchet distance of what it keeps to the held-out images, on the validator's features."""
    plain: float
    """The same of as many candidates as they come."""
    attempts: float
    """Candidates for each image kept, on average."""


@torch.inference_mode()
def samples(generator: Generator, count: int, noise: torch.Generator) -> Tensor:
    """`count` 8-bit images (count, 1, 32, 32) of random latents, as they are served."""
    latents = torch.randn(count, LATENT_DIM, generator=noise)
    return torch.cat([to_uint8(generator(rows)) for rows in torch.split(latents, 64)])


@torch.inference_mode()
def look(classifier: Classifier, images: Tensor) -> Seen:
    """What `classifier` sees in 8-bit images (N, 1, 32, 32)."""
    features = torch.cat([classifier.features(from_uint8(batch)) for batch in torch.split(images, 64)])
    return Seen(features, torch.cat([classifier.logits(batch).argmax(1) for batch in torch.split(features, 500)]))


def train(real: Seen, fake: Seen, held_real: Seen, held_fake: Seen, *, epochs: int, seed: int) -> Critic:
    """A critic that tells `real` from `fake`: its logits, calibrated on what is held out, estimate log(p_real/p_G).

    The state with the smallest loss on what is held out is returned, of those after each epoch. Deterministic on one
    machine.
    """
    mean, scale = real.features.mean(0), real.features.std(0) + LEAST_SCALE
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = Critic()
    ours, theirs, *held = ((part.features - mean) / scale for part in (real, fake, held_real, held_fake))
    features = torch.cat([ours, theirs])
    signs = torch.cat([torch.ones(len(ours)), -torch.ones(len(theirs))])
    optimizer = torch.optim.AdamW(critic.parameters(), LEARNING_RATE, weight_decay=1e-2)
    steps = epochs * math.ceil(len(features) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, least = copy.deepcopy(critic.state_dict()), math.inf
    for epoch in range(epochs):
        for batch in torch.split(data.shuffle(len(features), seed, epoch), BATCH_SIZE):
            loss = softplus(-signs[batch] * critic.layers(features[batch]).squeeze(1)).mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            of_real, of_fake = (critic.layers(part).squeeze(1) for part in held)
            found = float(softplus(-of_real).mean() + softplus(of_fake).mean())
        logger.info("critic: epoch %d of %d, loss of what is held out %.4f", epoch + 1, epochs, found / 2)
        if found < least:
            best, least = copy.deepcopy(critic.state_dict()), found
    critic.load_state_dict(best)
    with torch.no_grad():
        slope, intercept = platt(*(critic.layers(part).squeeze(1).double() for part in held))
        # The serving critic takes features as they are, and its logits are calibrated ones.
        weights = critic.state_dict()
        weights["layers.0.weight"].div_(scale)
        weights["layers.0.bias"].sub_(weights["layers.0.weight"] @ mean)
        weights["layers.4.weight"].mul_(slope)
        weights["layers.4.bias"].mul_(slope).add_(intercept)
    return critic.eval()


def platt(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """Slope and intercept of the logistic regression of real (1) against fake (0) on their logits (N,), (M,).

    Platt, "Probabilistic outputs for support vector machines" (1999), with both classes weighing the same, so that
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


def even_out(logs: Tensor, digits: Tensor, shares: Tensor) -> Tensor:
    """Offsets (10,) of the logs (N,) of candidates of `digits` (N,), so that what is kept has the `shares` (10,).

    Where M is below the largest ratio, the digits with the most good images lose most. The rate at which candidates
    are kept stays about what it was where every digit comes often enough, and never falls below half of it.
    """
    found = torch.zeros(DIGITS, dtype=torch.float64)
    kept = logs.clamp(max=0).exp()
    own = [digits == digit for digit in range(DIGITS)]
    there = [digit for digit in range(DIGITS) if shares[digit] > 0 and own[digit].any()]
    rate = fmean(float(kept[own[digit]].sum() / shares[digit]) for digit in there)
    # No digit can be kept more often than it comes; one that hardly ever does is not waited for.
    rate = max(rate / 2, min(rate, *(float(own[digit].sum() / shares[digit]) for digit in there)))
    for digit in there:
        found[digit] = _offset(logs[own[digit]], rate * float(shares[digit] / own[digit].sum()))
    return found


def _offset(logs: Tensor, rate: float) -> float:
    """What is added to `logs` (N,) so that the mean of the probabilities is `rate`, by bisection."""
    low, high = -MOST_OFFSET, MOST_OFFSET
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        enough = float((logs + middle).clamp(max=0).exp().mean()) >= rate
        low, high = (low, middle) if enough else (middle, high)
    return high


def calibrate(
    critic: Critic, known: Seen, candidates: Seen, shares: Tensor, features: Tensor, held_out: Tensor, seed: int
) -> Rejection:
    """The M and the offsets of `critic` whose samples are nearest to the held-out images, at most 4 tries for each.

    They are set by the samples `known`, and measured by what they keep of `candidates`, whose features for the
    validator are `features` (N, F), as those of the held-out images are `held_out` (M, F). Distances are taken over
    equally many samples, because fewer are farther by their number alone, and are means over as many such sets as
    there are.
    """
    of_known, of_candidates = (_ratios(critic, seen) for seen in (known, candidates))
    dice = torch.rand(len(of_candidates), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    count = min(len(held_out), len(of_candidates) // MOST_ATTEMPTS)
    plain = _distance(features, held_out, count)
    logger.info("rejection: Fréchet %.3f without", plain)
    tried: list[Rejection] = []
    for quantile in QUANTILES:
        log_m = float(of_known.quantile(quantile))
        offsets = even_out(of_known - log_m, known.digits, shares)
        kept = (dice < (of_candidates - log_m + offsets[candidates.digits]).clamp(max=0).exp()).nonzero()[:, 0]
        # The lowest keeps half before it evens out the digits, so that there is one to take.
        if len(kept) * MOST_ATTEMPTS < len(dice) and tried:
            continue
        distance = _distance(features[kept], held_out, count)
        ready = copy.deepcopy(critic)
        with torch.no_grad():
            ready.state_dict()["layers.4.bias"].sub_(log_m)
            ready.offsets.copy_(offsets)
        tried.append(Rejection(ready, distance, plain, len(dice) / len(kept)))
        logger.info("rejection: quantile %.2f, Fréchet %.3f, %.1f tries", quantile, distance, tried[-1].attempts)
    return min(tried, key=lambda rejection: rejection.frechet)


def _distance(features: Tensor, held_out: Tensor, count: int) -> float:
    """The mean distance of the sets of `count` that there are in `features` (N, F), or of the one that is smaller."""
    sets = [rows for rows in torch.split(features, count) if len(rows) >= min(count, len(features))]
    return fmean(frechet_distance(rows, held_out) for rows in sets)


@torch.inference_mode()
def _ratios(critic: Critic, seen: Seen) -> Tensor:
    """The estimated log(p_real/p_G), (N,) float64."""
    ratios: Tensor = critic.layers(seen.features).squeeze(1).double()
    return ratios
