"""The published checkpoint matches its manifest, and draws digits."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from service.formats.images import to_uint8
from service.gan import checkpoint, companions, sampling
from service.gan.choosing import ChoiceRequest, choose
from service.gan.classifier import probabilities
from tests.e2e.conftest import ROOT
from training.evaluation import evaluators
from training.evaluation.evaluation import Evaluation
from training.evaluation.tables import tables

FOLDER = ROOT / "checkpoints"


def samples(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    generator, _, _ = checkpoint.load(FOLDER)
    return sampling.Sampler(generator)(sampling.latents(0, count))


def test_every_file_of_the_checkpoint_matches_the_manifest() -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    assert set(manifest["files"]) == {path.name for path in FOLDER.glob("*.safetensors")}
    for name, digest in manifest["files"].items():
        assert checkpoint.sha256(FOLDER / name) == digest


def test_the_model_card_prints_the_manifests_numbers() -> None:
    manifest = checkpoint.read_manifest(FOLDER)
    evaluation = Evaluation.from_json(manifest.metrics["evaluation"])
    card = (FOLDER / "MODEL_CARD.md").read_text()
    for table in tables(evaluation).values():
        assert table.to_markdown() in card
    for digest in manifest.files.values():
        assert digest in card
    for picture in ("grid.png", "failures.png"):
        assert (FOLDER / "samples" / picture).is_file()


def test_three_accurate_evaluators_measured_the_checkpoint() -> None:
    judges = evaluators.load(FOLDER / "evaluators")
    assert len(judges) == len({judge.seed for judge in judges.values()}) == 3
    evaluation = Evaluation.from_json(checkpoint.read_manifest(FOLDER).metrics["evaluation"])
    for name, judge in judges.items():
        assert judge.test_accuracy >= 0.993
        assert evaluation.judges[name].sha256 == judge.sha256


@pytest.mark.real_data
def test_the_evaluators_accuracy_is_what_their_index_says(real_data: Path) -> None:
    from training import data
    from training.evaluation.classifier import predict
    from training.evaluation.protocol import to_images

    test = data.load(real_data, "test", download=False)
    images = to_images(test, test).test[:1000]
    for judge in evaluators.load(FOLDER / "evaluators").values():
        accuracy = float((predict(judge.classifier, images).classes == test.labels[:1000]).double().mean())
        # Four standard errors of 1,000 images.
        assert abs(accuracy - judge.test_accuracy) < 4 * (judge.test_accuracy * (1 - judge.test_accuracy) / 1000) ** 0.5


def test_samples_are_white_strokes_on_black_and_all_different() -> None:
    images = samples(256)
    assert len({image.tobytes() for image in images}) == 256
    # MNIST at 32 x 32 has a mean level of 33 and black borders, unlike noise or a collapsed model.
    assert 25 < images.mean() < 42
    assert np.median(images[:, 0], axis=None) < 5
    assert (images.reshape(256, -1).max(1) > 200).mean() > 0.98


def test_the_service_draws_the_images_of_the_module() -> None:
    """Sums in another order may round a level that lies near the middle of two to the other one."""
    generator, _, _ = checkpoint.load(FOLDER)
    latents = sampling.latents(1, 256)
    with torch.inference_mode():
        expected = to_uint8(generator(torch.from_numpy(latents))[:, 0].numpy())
    images = sampling.Sampler(generator)(latents)
    assert np.abs(images.astype(int) - expected).max() <= 1
    assert (images != expected).mean() < 1e-4


def test_the_companions_find_every_digit_and_reject_some_images() -> None:
    generator, _, manifest = checkpoint.load(FOLDER)
    found = companions.load(FOLDER, manifest)
    assert found is not None
    sampler = sampling.Sampler(generator)
    judge = partial(sampling.logits, found.judge)
    requests = [ChoiceRequest(seed, digit, 1.0, digit) for seed in range(40) for digit in range(10)]
    choices = choose(requests, found, sampler, judge)
    images = sampler(np.stack([choice.latent for choice in choices]))
    logits = sampling.logits(found.classifier, sampling.to_input(images))
    assert (logits.argmax(1) == [request.digit for request in requests]).mean() >= 0.99
    assert all(choice.accepted for choice in choices)
    assert len({image.tobytes() for image in images}) == len(requests)
    kept = choose([ChoiceRequest(seed, 0, rejection=True) for seed in range(40)], found, sampler, judge)
    assert 1.2 < np.mean([choice.attempts for choice in kept]) < 8
    assert all(choice.accepted for choice in kept)


def test_a_small_truncation_gives_blends_and_a_large_one_digits() -> None:
    generator, _, manifest = checkpoint.load(FOLDER)
    found = companions.load(FOLDER, manifest)
    assert found is not None
    sampler = sampling.Sampler(generator)

    def mean_probability(truncation: float) -> float:
        images = sampler(sampling.latents(12345, 1000, truncation))
        logits = sampling.logits(found.classifier, sampling.to_input(images))
        return float(probabilities(logits).max(1).mean())

    whole = mean_probability(1.0)
    assert abs(mean_probability(0.7) - whole) < 0.03
    assert mean_probability(0.3) < whole - 0.08
    assert mean_probability(0.1) < mean_probability(0.3) - 0.1


@pytest.mark.real_data
def test_samples_have_the_mean_image_and_the_variety_of_mnist(real_data: Path) -> None:
    from training import data

    digits = data.load(real_data, download=False)
    real = data.resize(digits.images[:2000])[:, 0].numpy()
    drawn = samples(2000).astype(np.float32) / 127.5 - 1
    assert np.corrcoef(real.mean(0).ravel(), drawn.mean(0).ravel())[0, 1] > 0.97
    assert 0.85 < drawn.std(0).sum() / real.std(0).sum() < 1.15
