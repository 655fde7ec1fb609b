"""Laws of making companions: they fit their generator, and what is measured of them is true."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from service.gan import checkpoint, companions
from service.gan.checkpoint import GENERATOR_FILE
from service.gan.classifier import LatentClassifier
from service.gan.networks import FEATURES, Discriminator, Generator
from training import data
from training.companions import classifier, latents, make, rejection
from training.companions.latents import Labelled
from training.companions.make import Budget
from training.companions.rejection import Seen

SMALL = Budget(
    classifier_epochs=1,
    latents=256,
    latent_epochs=1,
    checks=128,
    critic_epochs=1,
    samples=128,
    candidates=128,
    held_out=40,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint folder of untrained networks."""
    return write_networks(tmp_path / "checkpoints", 0)


def write_networks(folder: Path, seed: int) -> Path:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    files = {}
    for name, module in ((GENERATOR_FILE, Generator()), (checkpoint.DISCRIMINATOR_FILE, Discriminator())):
        checkpoint.save(folder / name, module.state_dict())
        files[name] = checkpoint.sha256(folder / name)
    manifest = checkpoint.Manifest(1, files, {}, 0, "", 0, 0, {"frechet": 1.0}, "2026-01-01", torch.__version__)
    checkpoint.write_manifest(folder, manifest)
    return folder


def test_the_same_folder_gets_the_same_companions_and_keeps_what_it_had(
    folder: Path, small_data: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    before = checkpoint.read_manifest(folder)
    manifest = make.make(folder, small_data, budget=SMALL, download=False)
    assert manifest == checkpoint.read_manifest(folder)
    assert set(manifest.files) == set(before.files) | set(companions.FILES)
    assert manifest.metrics["frechet"] == 1.0
    assert manifest._replace(files=before.files, metrics=before.metrics) == before
    assert companions.load(folder, manifest) is not None
    assert make.make(copy, small_data, budget=SMALL, download=False).files == manifest.files


def test_a_new_generator_gets_new_companions_and_the_classifier_is_kept(folder: Path, small_data: Path) -> None:
    old = make.make(folder, small_data, budget=SMALL, download=False)
    write_networks(folder, 1)
    new = make.make(folder, small_data, budget=SMALL, download=False)
    kept = [name for name in companions.FILES if old.files[name] == new.files[name]]
    assert kept == [companions.CLASSIFIER_FILE]
    assert companions.load(folder, new) is not None


def test_distorted_images_stay_images_and_differ_from_one_another() -> None:
    images = torch.full((8, 1, 32, 32), -1.0)
    images[:, :, 10:22, 12:20] = 1.0
    moved = classifier.distort(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert moved.min() >= -1
    assert moved.max() <= 1 + 1e-6
    assert len({image.numpy().tobytes() for image in moved}) == 8
    # Twelve per cent wider or narrower each way, and shifts that lose nothing of the middle.
    assert ((moved + 1).sum((1, 2, 3)) / (images + 1).sum((1, 2, 3)) - 1).abs().max() < 0.4


def test_the_logistic_regression_finds_the_log_ratio_of_two_gaussians() -> None:
    dice = np.random.default_rng(0)
    real, fake = (torch.from_numpy(dice.standard_normal(100_000) * 0.5 + mean) for mean in (1.0, -1.0))
    slope, intercept = rejection.platt(real, fake)
    # log N(x; 1, s²) - log N(x; -1, s²) = 2x/s².
    assert slope == pytest.approx(8, rel=0.05)
    assert intercept == pytest.approx(0, abs=0.1)


def features(count: int, mean: float, seed: int) -> Seen:
    dice = torch.Generator().manual_seed(seed)
    shift = torch.zeros(FEATURES)
    shift[3] = mean
    return Seen(torch.randn(count, FEATURES, generator=dice) + shift, torch.randint(10, (count,), generator=dice))


def test_the_critic_finds_the_log_ratio_of_two_gaussians_of_features() -> None:
    real, fake, held_real, held_fake = (features(8000, mean, seed) for seed, mean in enumerate((1.0, -1.0, 1.0, -1.0)))
    critic = rejection.train(real, fake, held_real, held_fake, epochs=2, seed=0)
    seen = features(2000, 0.0, 9)
    with torch.no_grad():
        found = critic(*seen)
    # log N(x; 1, 1) - log N(x; -1, 1) = 2x.
    expected = 2 * seen.features[:, 3]
    slope = float((found * expected).mean() / expected.square().mean())
    assert slope == pytest.approx(1, abs=0.1)
    assert float(torch.corrcoef(torch.stack([found, expected]))[0, 1]) > 0.95


def test_what_is_kept_has_the_shares_that_were_asked_for() -> None:
    dice = torch.Generator().manual_seed(0)
    digits = torch.multinomial(torch.arange(1.0, 11.0), 20_000, replacement=True, generator=dice)
    # Some digits come out better than others.
    logs = torch.randn(20_000, generator=dice, dtype=torch.float64) + digits / 10 - 1
    shares = torch.tensor([0.05, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.15, 0.15], dtype=torch.float64)
    kept = (logs + rejection.even_out(logs, digits, shares)[digits]).clamp(max=0).exp()
    found = torch.zeros(10, dtype=torch.float64).index_add_(0, digits, kept)
    torch.testing.assert_close(found / found.sum(), shares, rtol=1e-6, atol=0)


def test_above_a_threshold_the_share_of_right_images_is_as_high_as_promised() -> None:
    torch.manual_seed(0)
    network, samples = LatentClassifier(), torch.randn(4000, 128)
    network.state_dict()["layers.4.weight"].mul_(80)
    with torch.no_grad():
        own = network(samples)
    labelled = Labelled(samples, own + torch.randn(own.shape))
    found = latents.thresholds(network, labelled, precision=0.95)
    predicted, actual = own.softmax(1), labelled.logits.argmax(1)
    shares = [float((actual[predicted[:, k] >= found[k]] == k).double().mean()) for k in range(10)]
    assert min(shares) >= 0.95
    assert all(latents.LOWEST_THRESHOLD <= threshold < 1 for threshold in found)


@pytest.mark.real_data
def test_a_classifier_learns_digits_from_a_few_of_them(real_data: Path) -> None:
    digits = data.load(real_data, download=False)
    images = data.resize(digits.images[:3000])
    trained = classifier.train(images[:2500], digits.labels[:2500], epochs=4, seed=0)
    assert classifier.accuracy(trained, images[2500:], digits.labels[2500:3000]) > 0.8
