"""Laws of companions: they belong to one generator, and their measurements hold for new samples."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from service.errors import CheckpointError
from service.gan import checkpoint, companions
from service.gan.checkpoint import GENERATOR_FILE
from service.gan.classifier import LatentClassifier
from service.gan.critic import Critic
from service.gan.networks import FEATURES, Discriminator, Generator
from tests.problems.mnist import TRAIN
from training import data
from training.companions import classifier, latents, make, rejection
from training.companions.latents import Labelled
from training.companions.make import Budget
from training.companions.rejection import Classified

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


# Number and mean of: real, generated, held-out real, held-out generated, candidates, new candidates.
GAUSSIANS = ((6000, 0.5), (6000, -0.5), (3000, 0.5), (6000, -0.5), (12_000, -0.5), (20_000, -0.5))


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


class Made(NamedTuple):
    """A checkpoint folder with companions."""

    folder: Path
    before: checkpoint.Manifest
    """The manifest of the folder without companions."""
    manifest: checkpoint.Manifest
    """What `make` returned."""
    learned: rejection.Classified
    """The real features that the critic learned from."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Made:
    """The networks of `folder` with companions of the small data set. Tests change copies only."""
    folder = write_networks(tmp_path_factory.mktemp("made") / "checkpoints", 0)
    before = checkpoint.read_manifest(folder)
    with pytest.MonkeyPatch.context() as patch:
        learned = record_training(patch)
        manifest = make.make(folder, small_data, budget=SMALL, download=False)
    (real,) = learned
    return Made(folder, before, manifest, real)


def record_training(patch: pytest.MonkeyPatch) -> list[Classified]:
    """A list that collects the real features of every critic trained from now on."""
    learned: list[Classified] = []
    train = rejection.train

    def spy(real: Classified, fake: Classified, *held: Classified, epochs: int, seed: int) -> Critic:
        learned.append(real)
        return train(real, fake, *held, epochs=epochs, seed=seed)

    patch.setattr(rejection, "train", spy)
    return learned


def test_companions_are_reproducible_and_the_rest_of_the_manifest_is_kept(
    made: Made, folder: Path, small_data: Path
) -> None:
    before, manifest = made.before, made.manifest
    assert manifest == checkpoint.read_manifest(made.folder)
    assert set(manifest.files) == set(before.files) | set(companions.FILES)
    assert manifest.metrics["frechet"] == 1.0
    assert manifest._replace(files=before.files, metrics=before.metrics) == before
    assert companions.load(made.folder, manifest) is not None
    assert make.make(folder, small_data, budget=SMALL, download=False).files == manifest.files


def test_a_new_generator_gets_new_companions_except_the_image_classifier(
    made: Made, small_data: Path, tmp_path: Path
) -> None:
    folder, old = Path(shutil.copytree(made.folder, tmp_path / "copy")), made.manifest
    write_networks(folder, 1)
    new = make.make(folder, small_data, budget=SMALL, download=False)
    kept = [name for name in companions.FILES if old.files[name] == new.files[name]]
    assert kept == [companions.CLASSIFIER_FILE]
    assert companions.load(folder, new) is not None


def test_distorted_images_stay_in_range_and_differ_from_one_another() -> None:
    images = torch.full((8, 1, 32, 32), -1.0)
    images[:, :, 10:22, 12:20] = 1.0
    moved = classifier.distort(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert moved.min() >= -1
    assert moved.max() <= 1 + 1e-6
    assert len({image.numpy().tobytes() for image in moved}) == 8
    # Width and height change by at most 12 %, and shifts keep the bright area within the image.
    assert ((moved + 1).sum((1, 2, 3)) / (images + 1).sum((1, 2, 3)) - 1).abs().max() < 0.4


def test_the_logistic_regression_finds_the_log_ratio_of_two_gaussians() -> None:
    rng = np.random.default_rng(0)
    real, fake = (torch.from_numpy(rng.standard_normal(100_000) * 0.5 + mean) for mean in (1.0, -1.0))
    slope, intercept = rejection.platt(real, fake)
    # log N(x; 1, s²) - log N(x; -1, s²) = 2x/s².
    assert slope == pytest.approx(8, rel=0.05)
    assert intercept == pytest.approx(0, abs=0.1)


def features(count: int, mean: float, seed: int) -> Classified:
    rng = torch.Generator().manual_seed(seed)
    shift = torch.zeros(FEATURES)
    shift[3] = mean
    return Classified(torch.randn(count, FEATURES, generator=rng) + shift, torch.randint(10, (count,), generator=rng))


def test_the_critic_finds_the_log_ratio_of_two_gaussians_of_features() -> None:
    real, fake, held_real, held_fake = (features(8000, mean, seed) for seed, mean in enumerate((1.0, -1.0, 1.0, -1.0)))
    critic = rejection.train(real, fake, held_real, held_fake, epochs=2, seed=0)
    tested = features(2000, 0.0, 9)
    with torch.no_grad():
        found = critic(*tested)
    # log N(x; 1, 1) - log N(x; -1, 1) = 2x.
    expected = 2 * tested.features[:, 3]
    slope = float((found * expected).mean() / expected.square().mean())
    assert slope == pytest.approx(1, abs=0.1)
    assert float(torch.corrcoef(torch.stack([found, expected]))[0, 1]) > 0.95


def test_kept_samples_have_the_requested_shares_of_digits() -> None:
    rng = torch.Generator().manual_seed(0)
    digits = torch.multinomial(torch.arange(1.0, 11.0), 20_000, replacement=True, generator=rng)
    # Some digits have higher probabilities than others.
    logs = torch.randn(20_000, generator=rng, dtype=torch.float64) + digits / 10 - 1
    shares = torch.tensor([0.05, 0.05, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.15, 0.15], dtype=torch.float64)
    kept = (logs + rejection.balance_digits(logs, digits, shares)[digits]).clamp(max=0).exp()
    found = torch.zeros(10, dtype=torch.float64).index_add_(0, digits, kept)
    torch.testing.assert_close(found / found.sum(), shares, rtol=1e-6, atol=0)


def test_a_very_rare_digit_is_always_kept_and_halves_the_rate_of_the_others_at_most() -> None:
    digits = (torch.arange(10_000) % 9).where(torch.arange(10_000) > 0, torch.tensor(9))
    logs = torch.full((10_000,), -0.5, dtype=torch.float64)
    kept = (logs + rejection.balance_digits(logs, digits, torch.full((10,), 0.1))[digits]).clamp(max=0).exp()
    assert float(kept[0]) == 1
    assert float(kept[1:].min()) > 0.5 * math.exp(-0.5) * 0.9


def test_the_measurements_of_a_calibrated_critic_hold_for_new_samples() -> None:
    parts = [features(count, mean, seed) for seed, (count, mean) in enumerate(GAUSSIANS)]
    real, fake, held, known, candidates, fresh = parts
    critic = rejection.train(real, fake, held, known, epochs=2, seed=0)
    shares = torch.arange(1.0, 11.0, dtype=torch.float64) / 55
    measured, reference = candidates.features[:, :8].double(), held.features[:, :8].double()
    found = rejection.calibrate(critic, known, candidates, shares, measured, reference, seed=1)
    assert found.attempts <= rejection.MAX_ATTEMPTS
    # Before rejection one feature is off by a standard deviation. Rejection removes more than half of the distance.
    assert found.plain == pytest.approx(1, abs=0.1)
    assert found.frechet < 0.5
    with torch.no_grad():
        probabilities = found.critic(*fresh).double().clamp(max=0).exp()
    share = float(probabilities.mean())
    assert share == pytest.approx(1 / found.attempts, abs=4 * math.sqrt(share / len(probabilities)))
    by_digit = torch.zeros(10, dtype=torch.float64).index_add_(0, fresh.digits, probabilities)
    torch.testing.assert_close(by_digit / by_digit.sum(), shares, atol=0.02, rtol=0)
    with torch.no_grad():  # M is the same for all samples
        moved = found.critic.layers(fresh.features) - critic.layers(fresh.features)
    assert float(moved.std()) < 1e-5


def test_no_weights_learn_from_images_that_are_held_out(
    made: Made, folder: Path, digits_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = record_training(monkeypatch)
    path = digits_folder / "MNIST" / "raw" / "train-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    held = min(SMALL.held_out, TRAIN // 6)
    content[-held * 28 * 28 :] = bytes(255 - value for value in content[-held * 28 * 28 :])
    path.write_bytes(content)
    make.make(folder, digits_folder, budget=SMALL, download=False)
    for name in (companions.CLASSIFIER_FILE, companions.LATENT_CLASSIFIER_FILE):
        (one, _), (another, _) = checkpoint.read(made.folder / name), checkpoint.read(folder / name)
        assert all(torch.equal(another[key], value) for key, value in one.items())
    first_run, (second_run,) = made.learned, learned
    assert len(first_run.features) == TRAIN - held
    assert torch.equal(first_run.features, second_run.features)


def test_a_generator_that_learned_from_held_out_images_is_refused(folder: Path, small_data: Path) -> None:
    manifest = checkpoint.read_manifest(folder)
    checkpoint.write_manifest(folder, manifest._replace(recipe={"held_out": 25}))
    with pytest.raises(
        CheckpointError, match=r"held out 25 images .* on the last 26; train a generator with --held-out 26"
    ):
        make.make(folder, small_data, budget=SMALL, download=False)


def test_an_image_classifier_that_learned_from_other_data_is_refused(
    made: Made, digits_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made.folder, tmp_path / "copy"))
    path = digits_folder / "MNIST" / "raw" / "train-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="--retrain-classifier"):
        make.make(folder, digits_folder, budget=SMALL, download=False)
    make.make(folder, digits_folder, budget=SMALL, retrain=True, download=False)


def test_above_a_threshold_the_fraction_of_correct_images_is_at_least_the_precision() -> None:
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


def test_the_fraction_holds_for_latents_of_equal_probability() -> None:
    torch.manual_seed(0)
    network, samples = LatentClassifier(), torch.randn(400, 128)
    network.state_dict()["layers.4.weight"].mul_(80)
    with torch.no_grad():
        probabilities = network(samples).softmax(1)
    # Each latent occurs five times. Two of five images show another digit, except for the most probable latent of each
    # digit. In the order of the rows, the right images of equal probabilities come first.
    own, other = probabilities.argmax(1), (probabilities.argmax(1) + 1) % 10
    other[probabilities.argmax(0)] = own[probabilities.argmax(0)]
    actual = torch.cat([own, own, own, other, other])
    labelled = Labelled(samples.repeat(5, 1), torch.eye(10)[actual])
    with torch.no_grad():
        predicted = network(labelled.latents).softmax(1)
    found = latents.thresholds(network, labelled, precision=0.79)
    shares = [float((actual[predicted[:, k] >= found[k]] == k).double().mean()) for k in range(10)]
    assert min(shares) >= 0.79


@pytest.mark.real_data
def test_a_classifier_learns_digits_from_2500_images(real_data: Path) -> None:
    digits = data.load(real_data, download=False)
    images = data.resize(digits.images[:3000])
    trained = classifier.train(images[:2500], digits.labels[:2500], epochs=4, seed=0)
    assert classifier.accuracy(trained, images[2500:], digits.labels[2500:3000]) > 0.8
