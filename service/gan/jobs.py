"""What the GAN is asked for, and what comes back: jobs, results, and how jobs queue."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Literal, NamedTuple, get_args

from ..formats.images import UINT8
from . import sampling
from .choosing import Choice
from .inversion import Inversion
from .sampling import Float32


class GenerateJob(NamedTuple):
    """Images to draw: of `latents` (n, 128) where given, else `images` of `seed`.

    `digits` has one digit per image; `rejection` lets the critic choose among candidates. `abandoned` is set when the
    result is no longer wanted. Only the choice of latents checks it, because all other steps are short.
    """

    images: int
    seed: int = 0
    latents: Float32 | None = None
    score: bool = False
    truncation: float = 1.0
    digits: tuple[int, ...] | None = None
    rejection: bool = False
    abandoned: threading.Event | None = None


class InterpolateJob(NamedTuple):
    """The way through image 0 of each of `seeds`, `frames` for each leg."""

    seeds: tuple[int, ...]
    frames: int
    loop: bool
    truncation: float = 1.0
    digit: int | None = None
    abandoned: threading.Event | None = None


class DiscriminateJob(NamedTuple):
    """Images (n, 28, 28) or (n, 32, 32), 8-bit grey, to be judged."""

    images: UINT8


class InvertJob(NamedTuple):
    """Images (n, 28, 28) or (n, 32, 32), 8-bit grey, whose latents are sought."""

    images: UINT8
    prior_weight: float
    abandoned: threading.Event


Job = GenerateJob | InterpolateJob | DiscriminateJob | InvertJob


class Result(NamedTuple):
    """`images`, 8-bit grey, drawn (n, 32, 32) or given; `latents` (n, 128) of those drawn; `probability` (n,) and
    `class_probabilities` (n, 10) of those judged; the `choices` of those chosen, the `inversions` of those inverted.
    """

    images: UINT8
    latents: Float32 | None = None
    probability: Float32 | None = None
    class_probabilities: Float32 | None = None
    choices: list[Choice] | None = None
    inversions: list[Inversion] | None = None


# One image and a whole pass, drawn and judged: the shapes whose kernels differ.
WARM_UP = [GenerateJob(images, score=True) for images in (1, sampling.FORWARD_ROWS)]

# Passes through the networks that an image takes, in round numbers, where it is chosen or inverted.
DIGIT_COST, REJECTION_COST, INVERSION_COST = 2, 5, 1000
# Choices that cost more are large. The rest keeps its lane for a second at most, also where no latent passes.
SMALL_COST = 64

Lane = Literal["gan", "gan-choices", "gan-large", "gan-inversions"]
LANES: tuple[Lane, ...] = get_args(Lane)


def cost(job: Job) -> float:
    """Images that pass through the networks, in round numbers: what bounds queues and batches."""
    if isinstance(job, InvertJob):
        return len(job.images) * INVERSION_COST
    if isinstance(job, InterpolateJob):
        return job.frames * len(job.seeds) + _picked(len(job.seeds), job.digit is not None, False)
    if isinstance(job, DiscriminateJob):
        return len(job.images)
    return max(job.images, _picked(job.images, job.digits is not None, job.rejection))


def _picked(images: int, by_digit: bool, by_rejection: bool) -> int:
    return images * ((DIGIT_COST if by_digit else 0) + (REJECTION_COST if by_rejection else 0))


def lane(job: Job) -> Lane:
    """Who waits for whom: plain pictures and judgements, choices and animations, choices of many images, inversions."""
    if isinstance(job, InvertJob):
        return "gan-inversions"
    if isinstance(job, InterpolateJob):
        return "gan-choices"
    if isinstance(job, DiscriminateJob) or not is_chosen(job):
        return "gan"
    return "gan-choices" if cost(job) <= SMALL_COST else "gan-large"


def key(job: Job) -> Hashable:
    """Plain images share batches; so does what is chosen, which takes longer; inversions run alone."""
    if isinstance(job, InvertJob):
        return id(job)
    return isinstance(job, GenerateJob) and is_chosen(job)


def cancel(job: Job) -> None:
    """Nobody waits any longer: an inversion stops at its next iteration, a choice before its next latents."""
    if not isinstance(job, DiscriminateJob) and job.abandoned is not None:
        job.abandoned.set()


def is_chosen(job: GenerateJob) -> bool:
    """Whether its latents are chosen among candidates."""
    return job.digits is not None or job.rejection
