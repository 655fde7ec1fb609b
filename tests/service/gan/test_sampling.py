"""Laws of sampling: bytes depend on checkpoint, seed and parameters, but not on the batch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy import stats

from service.gan import sampling
from service.gan.jobs import DiscriminateJob, GenerateJob, Job, cost
from service.gan.networks import Discriminator, Generator
from tests.service.gan.conftest import new_worker
from training import data

CPU = torch.device("cpu")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]


def networks() -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    return Generator().eval(), Discriminator().eval()


def test_latent_i_of_a_seed_depends_on_the_seed_and_i_alone() -> None:
    many = sampling.latents(7, 100)
    assert np.array_equal(sampling.latents(7, 3), many[:3])
    assert len({row.tobytes() for row in many}) == 100
    assert not np.array_equal(sampling.latents(8, 1), many[:1])


@pytest.mark.parametrize("seed", [0, 7, 2**53, 2**63 - 1, 2**64 - 1])
def test_a_latent_is_the_start_of_the_stream_of_its_image(seed: int) -> None:
    streams = [sampling.normals(seed, index).standard_normal(128, np.float32) for index in range(20)]
    assert sampling.latents(seed, 20).tobytes() == np.stack(streams).tobytes()


def test_threads_that_draw_at_the_same_time_do_not_disturb_one_another() -> None:
    alone = [sampling.latents(seed, 300).tobytes() for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert [rows.tobytes() for rows in pool.map(sampling.latents, range(4), [300] * 4)] == alone


def test_latents_of_one_seed_and_of_many_seeds_are_standard_normal() -> None:
    by_index = sampling.latents(0, 200)
    by_seed = np.concatenate([sampling.latents(seed, 1) for seed in range(200)])
    for sample in (by_index, by_seed):
        assert stats.kstest(sample.ravel(), "norm").pvalue > 1e-3
        covariance = sample.T @ sample / len(sample)
        # Entries off the diagonal have standard deviation 1/sqrt(200); six of those bound all 8,128 of them.
        assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 6 / np.sqrt(200)


def test_the_latents_of_a_seed_never_change() -> None:
    """Callers rely on seeds, so a release that changes their meaning must announce it."""
    assert sampling.latents(7, 2)[:, :3].ravel().tolist() == pytest.approx(np.ravel(EXPECTED), abs=1e-6)


EXPECTED = [[-0.293339, 1.703831, 1.539192], [-0.59347, 1.547825, -0.502952]]


@pytest.mark.parametrize("device", DEVICES)
def test_seed_7_gives_the_same_bytes_alone_and_in_any_batch(device: torch.device) -> None:
    generator, discriminator = networks()
    worker = new_worker(generator, discriminator, device)
    (alone,) = worker([GenerateJob(1, 7, score=True)])
    rng = np.random.default_rng(0)
    for size in [2, 3, 5, 8, 17, 31, 33, 63, 64, 65, 100]:
        jobs: list[Job] = [GenerateJob(int(rng.integers(1, 4)), int(seed), score=seed % 2 == 0) for seed in range(size)]
        place = int(rng.integers(size))
        jobs[place] = GenerateJob(1, 7, score=True)
        result = worker(jobs)[place]
        assert result.images.tobytes() == alone.images.tobytes(), size
        assert result.probability is not None
        assert alone.probability is not None
        assert result.probability.tobytes() == alone.probability.tobytes(), size


@pytest.mark.parametrize("device", DEVICES)
def test_a_judgement_is_the_same_alone_and_in_any_batch(device: torch.device) -> None:
    worker = new_worker(*networks(), device)
    images = np.random.default_rng(0).integers(0, 256, (70, 32, 32), np.uint8)
    alone = [worker([DiscriminateJob(image[None])])[0].probability for image in images]
    for size in (2, 3, 7, 16, 33, 64, 70):
        together = worker([DiscriminateJob(images[:size])])[0].probability
        assert together is not None
        assert together.tolist() == [probability[0] for probability in alone[:size] if probability is not None]


def test_a_mixed_batch_gives_each_job_its_own_result() -> None:
    worker = new_worker(*networks(), CPU)
    image = np.full((2, 28, 28), 200, np.uint8)
    latents = sampling.latents(3, 2)
    jobs: list[Job] = [
        GenerateJob(3, 1),
        DiscriminateJob(image),
        GenerateJob(2, latents=latents, score=True),
        GenerateJob(1, 1),
    ]
    assert [cost(job) for job in jobs] == [3, 2, 2, 1]
    first, judged, given, single = worker(jobs)
    assert first.images.shape == (3, 32, 32)
    assert first.probability is None
    assert judged.images is image
    assert judged.latents is None
    assert np.array_equal(first.images[:1], single.images)
    assert np.array_equal(given.images, worker([GenerateJob(2, 3)])[0].images)
    assert given.latents is latents


def test_the_score_of_a_picture_is_the_score_of_its_levels() -> None:
    worker = new_worker(*networks(), CPU)
    (drawn,) = worker([GenerateJob(5, 11, score=True)])
    (judged,) = worker([DiscriminateJob(drawn.images)])
    assert np.array_equal(drawn.probability, judged.probability)  # type: ignore[arg-type]


def test_mnist_images_are_enlarged_as_in_training() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    expected = data.resize(torch.from_numpy(images))[:, 0].numpy()
    assert np.abs(sampling.to_input(images) - expected).max() < 1e-6
    assert sampling.to_input(np.full((1, 32, 32), 255, np.uint8)).max() == 1


def test_extreme_latents_also_give_grey_levels() -> None:
    generator, _ = networks()
    extreme = np.stack([np.full(128, value, np.float32) for value in (-1000, 1000, 0, 1e-30)])
    images = sampling.Sampler(generator)(extreme)
    assert images.dtype == np.uint8
    assert images.shape == (4, 32, 32)
