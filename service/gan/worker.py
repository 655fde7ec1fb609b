"""The GAN's computation for a batch of jobs: list[Job] -> list[Result]."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from service.gan import sampling
from service.gan.networks import Discriminator, Generator
from service.gan.sampling import Float32, to_input
from service.images import UINT8

ScalarT = TypeVar("ScalarT", bound=np.generic)


class GenerateJob(NamedTuple):
    """Images to draw: of `latents` (n, 128) where given, else `images` of `seed`."""

    images: int
    seed: int = 0
    latents: Float32 | None = None
    score: bool = False


class DiscriminateJob(NamedTuple):
    """Images (n, 28, 28) or (n, 32, 32), 8-bit grey, to be judged."""

    images: UINT8


Job = GenerateJob | DiscriminateJob


class Result(NamedTuple):
    """`images`, 8-bit grey, drawn (n, 32, 32) or given; `latents` (n, 128) of those drawn; `probability` (n,) of those
    judged.
    """

    images: UINT8
    latents: Float32 | None = None
    probability: Float32 | None = None


# One image and a whole pass, drawn and judged: the shapes whose kernels differ.
WARM_UP = [GenerateJob(images, score=True) for images in (1, sampling.FORWARD_ROWS)]


def cost(job: Job) -> float:
    """Images that pass through the networks."""
    return job.images if isinstance(job, GenerateJob) else len(job.images)


class GanWorker:
    """Draws and judges with one pair of networks on one device."""

    def __init__(self, generator: Generator, discriminator: Discriminator, device: torch.device) -> None:
        self._generator = generator.to(device).eval()
        self._discriminator = discriminator.to(device).eval()
        self._device = device

    def __call__(self, jobs: list[Job]) -> list[Result]:
        """One pass of the generator over all latents, one of the discriminator over all images to be judged."""
        drawn = [job for job in jobs if isinstance(job, GenerateJob)]
        latents = [job.latents if job.latents is not None else sampling.latents(job.seed, job.images) for job in drawn]
        pictures = map(Result, self._draw(latents), latents)
        results = [next(pictures) if isinstance(job, GenerateJob) else Result(job.images) for job in jobs]

        judged = [isinstance(job, DiscriminateJob) or job.score for job in jobs]
        # Levels are judged, also those just drawn: their picture, sent back, gets the same score.
        scores = iter(self._judge([to_input(r.images) for r, wanted in zip(results, judged, strict=True) if wanted]))
        return [
            result._replace(probability=next(scores)) if wanted else result
            for result, wanted in zip(results, judged, strict=True)
        ]

    def _draw(self, latents: list[Float32]) -> list[UINT8]:
        if not latents:
            return []
        return _split(sampling.generate(self._generator, np.concatenate(latents), self._device), latents)

    def _judge(self, images: list[Float32]) -> list[Float32]:
        if not images:
            return []
        return _split(sampling.probability_of_real(self._discriminator, np.concatenate(images), self._device), images)


def _split(whole: NDArray[ScalarT], like: Sequence[NDArray[Any]]) -> list[NDArray[ScalarT]]:
    edges = np.cumsum([0, *map(len, like)])
    return [whole[start:stop] for start, stop in pairwise(edges)]
