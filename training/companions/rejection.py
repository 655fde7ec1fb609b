"""What rejection sampling needs: a critic of the finished generator, calibrated.

At its optimum a discriminator's logit is log(p_real/p_G) (Goodfellow et al., 2014, proposition 1). The published one
followed a generator that moved, and serves one whose weights are averaged; so a copy of it is trained on against the
frozen generator, and the better of the two, by samples it leads to, is kept.
"""

from __future__ import annotations

import copy
import logging
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize
from scipy.special import expit
from torch import Tensor

from service.gan.companions import Calibration
from service.gan.networks import LATENT_DIM, Discriminator, Generator
from training.evaluation.frechet import frechet_distance
from training.figures import from_uint8, to_uint8
from training.objectives import calculate_v, gradient_penalty

BATCH_SIZE = 128
LEARNING_RATE = 2e-4
R1_GAMMA, R1_EVERY = 0.1, 4
CHECK_EVERY = 100
PATIENCE = 2
# Quantiles of the ratio among samples that are tried as M: the higher, the better and the rarer what is kept.
QUANTILES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
MOST_ATTEMPTS = 6
# More would only be the rounding of a search.
DECIMALS = 4

Float64 = NDArray[np.float64]

logger = logging.getLogger(__name__)


class Held(NamedTuple):
    """What no training saw: real images (N, 1, 32, 32), and samples (M, 1, 32, 32) of the generator, in [-1, 1]."""

    real: Tensor
    fake: Tensor


class Critic(NamedTuple):
    """A network, its calibration, and what its samples were measured to be."""

    network: Discriminator
    calibration: Calibration
    frechet: float
    """Squared Fréchet distance of what it keeps to the held-out images, on the validator's features."""
    attempts: float
    """Candidates for each image kept, on average."""


@torch.inference_mode()
def samples(generator: Generator, count: int, noise: torch.Generator) -> Tensor:
    """`count` images of random latents as they are served, 8-bit, in [-1, 1]."""
    latents = torch.randn(count, LATENT_DIM, generator=noise)
    return torch.cat([from_uint8(to_uint8(generator(rows))) for rows in torch.split(latents, 64)])


def train_on(
    published: Discriminator, generator: Generator, real: Tensor, held: Held, *, steps: int, seed: int
) -> Discriminator:
    """A copy of `published`, trained on against the frozen `generator` until V on what is held out stops rising.

    The state with the highest V is returned, of those after each 100 steps; two without a rise end it, and so do
    `steps` steps.
    """
    critic = copy.deepcopy(published).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(critic.parameters(), LEARNING_RATE, betas=(0.5, 0.99))
    noise = torch.Generator().manual_seed(seed)
    some = Held(held.real[:5000], held.fake[:5000])
    best, best_v, stale = copy.deepcopy(critic.state_dict()), value(critic, some), 0
    logger.info("critic: V %.4f before", best_v)
    for step in range(1, steps + 1):
        batch = real[torch.randint(len(real), (BATCH_SIZE,), generator=noise)]
        penalised = step % R1_EVERY == 0
        batch.requires_grad_(penalised)
        fake = samples(generator, BATCH_SIZE, noise).clone()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            real_logits, fake_logits = critic.logits(batch).float(), critic.logits(fake).float()
            penalty = gradient_penalty(real_logits, batch, R1_GAMMA * R1_EVERY) if penalised else 0.0
        optimizer.zero_grad()
        torch.autograd.backward(penalty - calculate_v(real_logits, fake_logits))
        optimizer.step()
        if step % CHECK_EVERY == 0:
            v = value(critic, some)
            logger.info("critic: step %d, V %.4f", step, v)
            stale = 0 if v > best_v else stale + 1
            if v > best_v:
                best, best_v = copy.deepcopy(critic.state_dict()), v
            if stale == PATIENCE:
                break
    critic.load_state_dict(best)
    return critic.to(memory_format=torch.contiguous_format).eval()


@torch.inference_mode()
def value(critic: Discriminator, held: Held) -> float:
    """V of what is held out, after calibration: what matters is the order that the critic sees, not its scale."""
    real, fake = logits(critic, held.real), logits(critic, held.fake)
    slope, intercept = platt(real, fake)
    return float(calculate_v(slope * real + intercept, slope * fake + intercept))


@torch.inference_mode()
def logits(critic: Discriminator, images: Tensor) -> Tensor:
    """Logits (N,) float64."""
    return torch.cat([critic.logits(batch) for batch in torch.split(images, 64)]).double()


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


def kept_count(samples: int) -> int:
    """Over how many of so many samples distances are taken: fewer images are farther by their number alone."""
    return samples // 2 // MOST_ATTEMPTS


def calibrate(network: Discriminator, held: Held, real_features: Tensor, fake_features: Tensor, seed: int) -> Critic:
    """The calibration of `network` whose samples are nearest to the held-out images, with at most 6 tries for each.

    Half of the samples are for the logistic regression and the quantiles, the other half for the measurement.
    """
    half = len(held.fake) // 2
    real, fake = logits(network, held.real), logits(network, held.fake)
    slope, intercept = (round(value, DECIMALS) for value in platt(real, fake[:half]))
    ratios = slope * fake + intercept
    dice = torch.rand(len(fake) - half, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    tried: list[Critic] = []
    for quantile in QUANTILES:
        log_m = round(float(ratios[:half].quantile(quantile)), DECIMALS)
        kept = (dice < (ratios[half:] - log_m).clamp(max=0).exp()).nonzero()[:, 0]
        # The lowest quantile keeps at least half, so that there is always one to try.
        if len(kept) < kept_count(len(fake)) and tried:
            continue
        distance = frechet_distance(fake_features[half:][kept[: kept_count(len(fake))]], real_features)
        tried.append(Critic(network, Calibration(slope, intercept, log_m), distance, len(dice) / max(1, len(kept))))
        logger.info("rejection: quantile %.2f, Fréchet %.3f, %.1f tries", quantile, distance, tried[-1].attempts)
    return min(tried, key=lambda critic: critic.frechet)
