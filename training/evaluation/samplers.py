"""The samplers: the ways in which the service draws images from a checkpoint. Each is a row of the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from service.gan import sampling
from service.gan.choosing import ChoiceRequest, choose
from service.gan.companions import Companions
from service.gan.networks import Generator
from service.gan.packing import Float32
from service.gan.sampling import Sampler

Draw = Callable[[int, int], Tensor]
"""A function of a seed and a count that returns images (count, 1, 32, 32) uint8, as the service draws them."""

PLAIN = "plain"
CPU = torch.device("cpu")
BLOCK = 500
TRUNCATION = 0.7


def samplers(generator: Generator, companions: Companions | None) -> dict[str, Draw]:
    """All samplers by name, in the order of the rows. The first, PLAIN, uses every latent.

    Without companions, the samplers that need them are omitted.
    """
    sampler = Sampler(generator)
    found: dict[str, Draw] = {
        PLAIN: lambda seed, count: _images(sampler, sampling.latents(seed, count)),
        f"truncation {TRUNCATION}": lambda seed, count: _images(sampler, sampling.latents(seed, count, TRUNCATION)),
    }
    if companions is not None:
        found["rejection"] = partial(_chosen, sampler, companions, ChoiceRequest(0, 0, rejection=True))
    return found


def digit_samplers(generator: Generator, companions: Companions | None) -> dict[int, Draw]:
    """The samplers of requested digits, by digit; empty without companions."""
    if companions is None:
        return {}
    sampler = Sampler(generator)
    return {digit: partial(_chosen, sampler, companions, ChoiceRequest(0, 0, digit=digit)) for digit in range(10)}


def _chosen(sampler: Sampler, companions: Companions, request: ChoiceRequest, seed: int, count: int) -> Tensor:
    requests = [request._replace(seed=seed, image=image) for image in range(count)]
    blocks = [requests[start : start + BLOCK] for start in range(0, count, BLOCK)]
    judge = partial(sampling.logits, companions.judge)
    choices = [choice for block in blocks for choice in choose(block, companions, sampler, judge)]
    return _images(sampler, np.stack([choice.latent for choice in choices]))


def _images(sampler: Sampler, rows: Float32) -> Tensor:
    return torch.from_numpy(sampler(rows))[:, None]
