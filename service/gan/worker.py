"""The GAN's computation for a batch of jobs: list[Job] -> list[Result]."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import numpy as np
import scipy.special
import torch
from numpy.typing import NDArray

from ..errors import InvalidInput
from ..formats.images import UINT8
from ..runtime.turns import give_way
from . import interpolation, sampling
from .choosing import Choice, ChoiceRequest, choose, never
from .classifier import probabilities
from .companions import Companions
from .encoding import encode
from .inversion import Inverter
from .jobs import (
    DiscriminateJob,
    GenerateJob,
    InterpolateJob,
    InvertJob,
    Job,
    Result,
    is_chosen,
)
from .networks import Generator
from .packing import Float32
from .passes import Passes
from .sampling import to_input

ScalarT = TypeVar("ScalarT", bound=np.generic)
# Rows that a processor draws, and that it judges, between two opportunities for other jobs: in 2 and about 15 ms.
DRAWN_ROWS, JUDGED_ROWS = 64, 16
# The jobs whose images are given.
GIVEN = DiscriminateJob, InvertJob


class GanWorker:
    """Draws, chooses, judges and inverts with the networks of one checkpoint.

    Args:
        generator: inverted on the processor.
        passes: the forward passes of the networks of images.
        companions: choose latents on the processor, where latents are drawn; None if the checkpoint has none.
    """

    def __init__(self, generator: Generator, passes: Passes, companions: Companions | None = None) -> None:
        self._inverter = Inverter(generator)
        self._passes = passes
        self._companions = companions

    @property
    def on_processor(self) -> bool:
        """Whether the forward passes compute on a processor of this process."""
        return self._passes.on_processor

    def __call__(self, jobs: list[Job]) -> list[Result]:
        """Results of `jobs`, in order, with one pass of the generator and one of each judge over the whole batch.

        Raises:
            InvalidInput: a job chooses latents, but the checkpoint has no companions.
        """
        found = self._latents(jobs)
        pictures = iter(self._draw([latents for latents, _ in found if latents is not None]))
        results = []
        for job, (latents, picks) in zip(jobs, found, strict=True):
            images = job.images if isinstance(job, GIVEN) else next(pictures)
            results.append(Result(images, latents, choices=picks, content=_encoded(job, images)))
        self._judge(results, [place for place, job in enumerate(jobs) if _is_judged(job)])
        return [
            self._invert(job) if isinstance(job, InvertJob) else result
            for job, result in zip(jobs, results, strict=True)
        ]

    def _latents(self, jobs: list[Job]) -> list[tuple[Float32 | None, list[Choice] | None]]:
        """For each job, its latents (n, 128) and its choices; None for those that it does not have."""
        requests = [_choice_requests(job) for job in jobs]
        choices = iter(self._choose([request for some in requests for request in some]))
        return [self._latents_of(job, [next(choices) for _ in some]) for job, some in zip(jobs, requests, strict=True)]

    def _latents_of(self, job: Job, picks: list[Choice]) -> tuple[Float32 | None, list[Choice] | None]:
        if isinstance(job, GenerateJob):
            if picks:
                return np.stack([pick.latent for pick in picks]), picks
            if job.latents is not None:
                return job.latents, None
            return sampling.latents(job.seed, job.images, job.truncation), None
        if isinstance(job, InterpolateJob):
            keys = [pick.latent for pick in picks] or [
                sampling.latents(seed, 1, job.truncation)[0] for seed in job.seeds
            ]
            return interpolation.path(np.stack(keys), job.frames, loop=job.loop), picks or None
        return None, None

    def _choose(self, requests: list[ChoiceRequest]) -> list[Choice]:
        if not requests:
            return []
        if self._companions is None or self._passes.judge is None:  # the routes refuse this with a better message
            raise InvalidInput("this checkpoint has no companions")
        return choose(requests, self._companions, self._passes.draw, self._passes.judge, self._in_parts)

    def _draw(self, latents: list[Float32]) -> list[UINT8]:
        if not latents:
            return []
        return _split(self._in_parts(self._passes.draw, np.concatenate(latents), DRAWN_ROWS), latents)

    def _in_parts(
        self, compute: Callable[[NDArray[np.float32]], NDArray[ScalarT]], rows: Float32, size: int = JUDGED_ROWS
    ) -> NDArray[ScalarT]:
        """`compute(rows)`. On a processor other jobs may have their turn after each `size` rows."""
        if not self._passes.on_processor or len(rows) <= size:
            return compute(rows)
        found = []
        for start in range(0, len(rows), size):
            give_way()
            found.append(compute(rows[start : start + size]))
        return np.concatenate(found)

    def _judge(self, results: list[Result], places: list[int]) -> None:
        """Add the scores to the results at `places`."""
        if not places:
            return
        # The networks judge 8-bit levels, so that a drawn image has the same score when it is uploaded.
        images = [to_input(results[place].images) for place in places]
        together = np.concatenate(images)
        # torch's sigmoid rounds the last few elements of an array differently from the rest; scipy's does not.
        real = _split(scipy.special.expit(self._in_parts(self._passes.realness, together)), images)
        classes: Sequence[Float32 | None] = [None] * len(images)
        if self._passes.digits is not None:
            classes = _split(probabilities(self._in_parts(self._passes.digits, together)), images)
        for place, probability, by_class in zip(places, real, classes, strict=True):
            results[place] = results[place]._replace(probability=probability, class_probabilities=by_class)

    def _invert(self, job: InvertJob) -> Result:
        inputs = (to_input(job.images) + np.float32(1)) * np.float32(127.5)
        found = [
            self._inverter.invert(torch.from_numpy(image).clone(), job.prior_weight, _poll(job.abandoned))
            for image in inputs
        ]
        latents = np.stack([inversion.latent.numpy() for inversion in found])
        images = self._passes.draw(latents)
        return Result(images, latents, inversions=found)


def _poll(abandoned: threading.Event) -> Callable[[], bool]:
    """A function that lets other jobs have their turn, and then tells whether a job is abandoned."""

    def poll() -> bool:
        give_way()
        return abandoned.is_set()

    return poll


def _is_judged(job: Job) -> bool:
    return job.score if isinstance(job, GenerateJob) else isinstance(job, DiscriminateJob)


def _encoded(job: Job, images: UINT8) -> bytes | None:
    return encode(images, job.encoding) if isinstance(job, GenerateJob) and job.encoding is not None else None


def _choice_requests(job: Job) -> list[ChoiceRequest]:
    if isinstance(job, GIVEN):
        return []
    cancelled = never if job.abandoned is None else _poll(job.abandoned)
    if isinstance(job, GenerateJob) and is_chosen(job):
        digits: Sequence[int | None] = job.digits or [None] * job.images
        return [
            ChoiceRequest(job.seed, i, job.truncation, digit, job.rejection, cancelled)
            for i, digit in enumerate(digits)
        ]
    if isinstance(job, InterpolateJob) and job.digit is not None:
        return [ChoiceRequest(seed, 0, job.truncation, job.digit, cancelled=cancelled) for seed in job.seeds]
    return []


def _split(whole: NDArray[ScalarT], like: Sequence[NDArray[Any]]) -> list[NDArray[ScalarT]]:
    edges = accumulate(map(len, like), initial=0)
    return [whole[start:stop] for start, stop in pairwise(edges)]
