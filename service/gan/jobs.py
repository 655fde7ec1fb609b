"""Jobs of the GAN, their results, and their lanes, costs and keys."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple, get_args

from ..formats.images import UINT8
from . import sampling
from .choosing import Choice
from .encoding import Encoding
from .inversion import Inversion
from .packing import Float32


class GenerateJob(NamedTuple):
    """Images to draw: those of `latents` (n, 128) if given, else the first `images` of `seed`.

    `digits` has one digit per image; `rejection` lets the critic choose among candidates. `abandoned` is set when the
    result is no longer needed. Only the choice of latents checks it, because all other steps are short. The worker
    encodes the images if `encoding` is given.
    """

    images: int
    seed: int = 0
    latents: Float32 | None = None
    score: bool = False
    truncation: float = 1.0
    digits: tuple[int, ...] | None = None
    rejection: bool = False
    abandoned: threading.Event | None = None
    encoding: Encoding | None = None


class InterpolateJob(NamedTuple):
    """Images on the path through image 0 of each of `seeds`, `frames` per leg."""

    seeds: tuple[int, ...]
    frames: int
    loop: bool
    truncation: float = 1.0
    digit: int | None = None
    abandoned: threading.Event | None = None


class DiscriminateJob(NamedTuple):
    """Images (n, 28, 28) or (n, 32, 32) to judge, in 8-bit grey levels."""

    images: UINT8


class InvertJob(NamedTuple):
    """Images (n, 28, 28) or (n, 32, 32) to invert, in 8-bit grey levels; `prior_weight` is in levels²."""

    images: UINT8
    prior_weight: float
    abandoned: threading.Event


Job = GenerateJob | InterpolateJob | DiscriminateJob | InvertJob


class Result(NamedTuple):
    """The result of one job, in the order of its images."""

    images: UINT8
    """8-bit grey levels, (n, 32, 32) if drawn, else as given."""
    latents: Float32 | None = None
    """(n, 128), if the images were drawn."""
    probability: Float32 | None = None
    """Of being real, (n,), if the images were judged."""
    class_probabilities: Float32 | None = None
    """(n, 10), if the images were judged and the checkpoint has companions."""
    choices: list[Choice] | None = None
    """If latents were chosen."""
    inversions: list[Inversion] | None = None
    """If the images were inverted."""
    content: bytes | None = None
    """The encoded images, if the job has an encoding."""


# One image and one full pass, drawn and judged, because these shapes use different kernels.
WARM_UP = [GenerateJob(images, score=True) for images in (1, sampling.FORWARD_ROWS)]

# Approximate passes through the networks per image: chosen by digit, chosen by rejection, inverted.
DIGIT_COST, REJECTION_COST, INVERSION_COST = 2, 5, 1000
# A processor takes about this many times as long to judge an image as to draw it.
JUDGE_COST = 32
# Choices above this cost are large. Smaller ones occupy their lane for at most a second, even if no latent passes.
SMALL_COST = 64

# Images of a batch that the event loop may draw itself.
SHORT_COST = 64

Lane = Literal["gan", "gan-choices", "gan-large", "gan-inversions"]
LANES: tuple[Lane, ...] = get_args(Lane)


def cost(job: Job) -> float:
    """Approximate number of images that pass through the networks. It bounds queues and batches."""
    if isinstance(job, GenerateJob):
        return max(job.images, _choice_cost(job.images, job.digits is not None, job.rejection))
    if isinstance(job, InvertJob):
        return len(job.images) * INVERSION_COST
    if isinstance(job, InterpolateJob):
        return job.frames * len(job.seeds) + _choice_cost(len(job.seeds), job.digit is not None, False)
    return len(job.images)


def size(job: Job) -> float:
    """Approximate time that a processor takes, in images drawn."""
    is_judged = job.score if isinstance(job, GenerateJob) else isinstance(job, DiscriminateJob)
    return cost(job) * (JUDGE_COST if is_judged else 1)


def _choice_cost(images: int, by_digit: bool, by_rejection: bool) -> int:
    return images * ((DIGIT_COST if by_digit else 0) + (REJECTION_COST if by_rejection else 0))


def lane(job: Job) -> Lane:
    """The lane of a job: plain images and judgements, small choices and animations, large choices, or inversions."""
    if isinstance(job, InvertJob):
        return "gan-inversions"
    if isinstance(job, InterpolateJob):
        return "gan-choices"
    if isinstance(job, DiscriminateJob) or not is_chosen(job):
        return "gan"
    return "gan-choices" if cost(job) <= SMALL_COST else "gan-large"


def key(job: Job) -> Hashable:
    """Plain images share batches, and so do choices, which take longer. Inversions run alone."""
    if isinstance(job, InvertJob):
        return id(job)
    return isinstance(job, GenerateJob) and is_chosen(job)


def is_short(jobs: Sequence[Job]) -> bool:
    """Whether a batch takes 3 ms at most on a processor: plain images, which no network judges, at their own size."""
    return all(_is_plain(job) for job in jobs) and sum(map(cost, jobs)) <= SHORT_COST


def _is_plain(job: Job) -> bool:
    if not isinstance(job, GenerateJob) or job.score or is_chosen(job):
        return False
    return job.encoding is None or job.encoding.scale == 1


def cancel(job: Job) -> None:
    """Signal that no result is needed: an inversion stops at its next iteration, a choice before its next chunk."""
    if not isinstance(job, DiscriminateJob) and job.abandoned is not None:
        job.abandoned.set()


def is_chosen(job: GenerateJob) -> bool:
    """Whether the latents of `job` are chosen among candidates."""
    return job.digits is not None or job.rejection
