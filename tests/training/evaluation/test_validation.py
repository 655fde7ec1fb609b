"""Laws of the validator, which selects runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from service.gan.networks import Generator
from training import data
from training.evaluation.validation import Validator

HELD_OUT = 60


@pytest.fixture(scope="module")
def digits(small_data: Path) -> data.Digits:
    return data.load(small_data, download=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("validator")


@pytest.fixture(scope="module")
def validator(digits: data.Digits, folder: Path) -> Validator:
    return Validator(digits, folder / "classifier.safetensors", HELD_OUT)


def test_training_images_score_about_the_floor(validator: Validator, digits: data.Digits) -> None:
    learned = data.to_uint8(data.resize(digits.images))[:-HELD_OUT]
    assert validator.measure_images(learned).ratio < 2


def test_black_images_and_a_random_generator_score_much_worse(validator: Validator) -> None:
    torch.manual_seed(0)
    assert validator.measure(Generator()).ratio > 10
    assert validator.measure_images(torch.zeros(60, 1, 32, 32, dtype=torch.uint8)).ratio > 10


def test_a_single_class_has_a_large_class_divergence(validator: Validator, digits: data.Digits) -> None:
    images = data.to_uint8(data.resize(digits.images))
    assert validator.measure_images(images[digits.labels == 3]).class_kl > 1


def test_the_test_images_are_never_read(validator: Validator, small_data: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_data, tmp_path / "data"))
    for file in (folder / "MNIST" / "raw").glob("t10k-*"):
        # An empty file is not an image. A missing file would make the data set incomplete.
        file.write_bytes(b"")
    again = Validator(data.load(folder, download=False), tmp_path / "classifier.safetensors", HELD_OUT)
    torch.manual_seed(2)
    generator = Generator()
    assert again.measure(generator) == validator.measure(generator)
    assert (again.floor, again.accuracy) == (validator.floor, validator.accuracy)


def test_a_saved_classifier_gives_the_same_measurements(
    validator: Validator, digits: data.Digits, folder: Path
) -> None:
    torch.manual_seed(1)
    generator = Generator()
    again = Validator(digits, folder / "classifier.safetensors", HELD_OUT)
    assert again.measure(generator) == validator.measure(generator)
    assert again.floor == validator.floor
