"""Laws of jobs of every kind: each has its own result, which is the same alone and in any batch."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
import torch

from service.gan import sampling
from service.gan.choosing import CHUNK_ROWS, MAX_CHUNKS
from service.gan.encoding import Encoding, encode
from service.gan.jobs import (
    DiscriminateJob,
    GenerateJob,
    InterpolateJob,
    InvertJob,
    Job,
    Result,
    cancel,
    cost,
    key,
    lane,
)
from service.gan.worker import GanWorker
from tests.service.gan.conftest import make_companions, networks, new_worker

CPU = torch.device("cpu")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]
IMAGE = np.full((1, 28, 28), 200, np.uint8)

KINDS: dict[str, Job] = {
    "plain": GenerateJob(3, 7, score=True),
    "truncated": GenerateJob(2, 7, score=True, truncation=0.7),
    "digit": GenerateJob(2, 7, score=True, digits=(3, 3)),
    "digits": GenerateJob(3, 7, score=True, digits=(2, 0, 2)),
    "rejection": GenerateJob(2, 7, score=True, rejection=True),
    "everything": GenerateJob(2, 7, score=True, truncation=0.7, digits=(3, 8), rejection=True),
    "interpolation": InterpolateJob((1, 7), 3, False),
    "interpolation of a digit": InterpolateJob((1, 7, 9), 2, True, 0.8, 5),
    "judgement": DiscriminateJob(IMAGE),
}


def worker(device: torch.device = CPU) -> GanWorker:
    return new_worker(*networks(), device, make_companions())


def same(one: Result, other: Result) -> bool:
    arrays = [
        (one.images, other.images),
        (one.latents, other.latents),
        (one.probability, other.probability),
        (one.class_probabilities, other.class_probabilities),
    ]
    return all((a is None) == (b is None) and (a is None or b is None or a.tobytes() == b.tobytes()) for a, b in arrays)


@pytest.mark.parametrize("device", DEVICES)
def test_every_kind_of_job_gets_the_same_bytes_alone_and_among_63_others(device: torch.device) -> None:
    gan_worker, rng = worker(device), np.random.default_rng(0)
    alone = {name: gan_worker([job])[0] for name, job in KINDS.items()}
    others = [
        GenerateJob(
            1,
            int(seed),
            score=bool(seed % 2),
            digits=(int(seed) % 10,) if seed % 3 else None,
            rejection=bool(seed % 5 == 0),
        )
        for seed in range(64 - len(KINDS))
    ]
    jobs: list[Job] = [*KINDS.values(), *others]
    order = rng.permutation(len(jobs))
    together = gan_worker([jobs[place] for place in order])
    for place, result in zip(order, together, strict=True):
        if place < len(KINDS):
            name = list(KINDS)[place]
            assert same(result, alone[name]), name


@pytest.mark.parametrize("rejection", [False, True])
@pytest.mark.parametrize("truncation", [1.0, 0.7])
def test_image_i_depends_on_neither_count_nor_the_digits_of_others(truncation: float, rejection: bool) -> None:
    def draw(digits: tuple[int, ...]) -> Result:
        job = GenerateJob(len(digits), 5, truncation=truncation, digits=digits, rejection=rejection)
        return worker()([job])[0]

    number, fours = draw((2, 0, 4, 6)), draw((4, 4, 4))
    assert np.array_equal(number.images[2], fours.images[2])
    assert np.array_equal(draw((2,)).images[0], number.images[0])


@pytest.mark.parametrize("name", [name for name, job in KINDS.items() if isinstance(job, GenerateJob)])
def test_the_latents_of_a_result_reproduce_its_images_and_scores(name: str) -> None:
    gan_worker = worker()
    (first,) = gan_worker([KINDS[name]])
    assert first.latents is not None
    (again,) = gan_worker([GenerateJob(len(first.latents), latents=first.latents, score=True)])
    assert same(again, first)


def test_key_frames_are_the_images_of_their_seeds() -> None:
    gan_worker = worker()
    for digit in (None, 5):
        (way,) = gan_worker([InterpolateJob((1, 7, 9), 4, True, 0.8, digit)])
        digits = None if digit is None else (digit,)
        stills = [gan_worker([GenerateJob(1, s, truncation=0.8, digits=digits)])[0].images[0] for s in (1, 7, 9)]
        assert len(way.images) == 12
        assert np.array_equal(way.images[::4], stills)


@pytest.mark.parametrize("encoding", [Encoding("png"), Encoding("png", 1, 3), Encoding("npy")])
def test_a_job_with_an_encoding_also_gets_the_bytes_of_its_images(encoding: Encoding) -> None:
    job = GenerateJob(3, 7)
    plain, encoded = worker()([job, job._replace(encoding=encoding)])
    assert plain.content is None
    assert same(plain, encoded)
    assert encoded.content == encode(plain.images, encoding)


def test_an_array_is_the_file_that_numpy_writes() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
    out = io.BytesIO()
    np.save(out, images, allow_pickle=False)
    assert encode(images, Encoding("npy")) == out.getvalue()


def test_class_probabilities_require_companions() -> None:
    (with_them,), (without,) = (w([GenerateJob(2, 1, score=True)]) for w in (worker(), new_worker(*networks(), CPU)))
    assert with_them.class_probabilities is not None
    assert with_them.class_probabilities.sum(1) == pytest.approx(np.ones(2), rel=1e-6)
    assert without.class_probabilities is None
    assert np.array_equal(with_them.probability, without.probability)  # type: ignore[arg-type]


def test_truncation_scales_the_latents() -> None:
    (whole,), (half,) = (worker()([GenerateJob(2, 1, truncation=psi)]) for psi in (1.0, 0.5))
    assert np.array_equal(whole.latents, sampling.latents(1, 2))  # type: ignore[arg-type]
    assert np.array_equal(half.latents, sampling.latents(1, 2) * np.float32(0.5))  # type: ignore[arg-type]


def test_slow_jobs_have_other_lanes_and_share_no_batch_with_plain_images() -> None:
    inversion = InvertJob(IMAGE, 1.0, threading.Event())
    assert lane(inversion) == "gan-inversions"
    assert lane(GenerateJob(64, 1, digits=(1,) * 64)) == "gan-large"
    for name in ("digit", "digits", "rejection", "everything", "interpolation", "interpolation of a digit"):
        assert lane(KINDS[name]) == "gan-choices"
    for job in (KINDS["plain"], KINDS["judgement"], GenerateJob(1024, 1)):
        assert lane(job) == "gan"
    assert key(KINDS["plain"]) == key(KINDS["judgement"]) != key(KINDS["digit"])
    assert key(inversion) not in {key(job) for job in KINDS.values()}
    assert cost(KINDS["everything"]) > cost(KINDS["digit"]) > cost(GenerateJob(2)) > 0
    cancel(inversion)
    assert inversion.abandoned.is_set()


@pytest.mark.parametrize("name", ["digit", "digits", "interpolation of a digit"])
def test_an_abandoned_choice_ends_early_and_changes_nothing_for_its_batch_mates(name: str) -> None:
    gan_worker = new_worker(*networks(), CPU, make_companions()._replace(thresholds=(2.0,) * 10))
    mate, job = KINDS["digits"], KINDS[name]._replace(abandoned=threading.Event())  # type: ignore[call-arg]
    (alone,) = gan_worker([mate])
    cancel(job)
    ended, together = gan_worker([job, mate])
    assert same(together, alone)
    assert alone.choices is not None
    assert ended.choices is not None
    assert {choice.attempts for choice in alone.choices} == {CHUNK_ROWS * MAX_CHUNKS}
    assert {choice.attempts for choice in ended.choices} == {CHUNK_ROWS}
