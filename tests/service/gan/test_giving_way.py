"""Long work of the GAN gives way, part by part, and the parts do not change a result."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from service.gan import worker as workers
from service.gan.jobs import DiscriminateJob, GenerateJob, InterpolateJob, InvertJob, Job
from service.gan.worker import DRAWN_ROWS, JUDGED_ROWS
from tests.service.gan.test_worker import IMAGE, same, worker


def pauses_in(job: Job, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often the worker gives way to others while it computes `job`."""
    count = 0

    def give_way() -> None:
        nonlocal count
        count += 1

    monkeypatch.setattr(workers, "give_way", give_way)
    worker()([job])
    return count


@pytest.mark.parametrize(
    ("job", "least"),
    [
        (GenerateJob(1), 0),
        (GenerateJob(1024), 1024 // DRAWN_ROWS),
        (GenerateJob(256, score=True), 256 // JUDGED_ROWS),
        (DiscriminateJob(np.zeros((256, 32, 32), np.uint8)), 256 // JUDGED_ROWS),
        (InterpolateJob(tuple(range(16)), 64, False), 15 * 64 // DRAWN_ROWS),
        (GenerateJob(256, rejection=True, abandoned=threading.Event()), 512 // JUDGED_ROWS),
        (InvertJob(IMAGE, 1.0, threading.Event()), 3),
    ],
)
def test_a_job_gives_way_at_least_once_for_each_part_of_its_work(
    job: Job, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pauses_in(job, monkeypatch) >= least


@pytest.mark.parametrize(
    "job",
    [
        GenerateJob(200, 3, score=True),
        GenerateJob(40, 3, score=True, rejection=True),
        InterpolateJob((1, 2), 100, True),
        DiscriminateJob(np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8)),
    ],
)
def test_the_parts_do_not_change_a_result(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    (parts,) = worker()([job])
    monkeypatch.setattr(workers.GanWorker, "_in_parts", lambda _, compute, rows, size=0: compute(rows))
    (whole,) = worker()([job])
    assert same(parts, whole)
