"""Laws of the evaluators: architectures, training, and files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from service.errors import CheckpointError
from training import data
from training.evaluation import evaluators
from training.evaluation.architectures import ARCHITECTURES
from training.evaluation.classification import classification_accuracy
from training.evaluation.classifier import fold, predict
from training.evaluation.evaluators import Evaluator, EvaluatorSettings
from training.evaluation.fitting import FitSettings, distort
from training.evaluation.protocol import Images

from .conftest import SMALL_FIT


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_small_and_folding_changes_only_rounding(name: str) -> None:
    torch.manual_seed(0)
    classifier = ARCHITECTURES[name]()
    assert 64 <= classifier.linear.in_features <= 128
    assert 100_000 <= sum(parameter.numel() for parameter in classifier.parameters()) <= 600_000
    images = torch.randn(20, 1, 32, 32)
    for _ in range(3):
        classifier(images)
    before = classifier.eval()(images)
    torch.testing.assert_close(fold(classifier)(images), before)
    assert {tensor.dtype for tensor in classifier.state_dict().values()} == {torch.float32}


def test_predictions_depend_on_the_other_images_only_by_rounding(
    judges: dict[str, Evaluator], small_images: Images
) -> None:
    for judge in judges.values():
        features, probabilities = predict(judge.classifier, small_images.test)
        torch.testing.assert_close(probabilities.sum(1), torch.ones(96, dtype=torch.float64))
        alone = predict(judge.classifier, small_images.test[:3])
        # Another batch size may select another float32 kernel.
        torch.testing.assert_close(alone.features, features[:3], rtol=1e-4, atol=1e-5)


def test_an_evaluator_depends_on_the_data_and_the_settings_alone(
    small_data: Path, judges: dict[str, Evaluator]
) -> None:
    train, test = (data.load(small_data, split, download=False) for split in ("train", "test"))
    torch.manual_seed(99)
    again = evaluators.train("broad", train, test, EvaluatorSettings(SMALL_FIT))
    for name, tensor in judges["broad"].classifier.state_dict().items():
        assert torch.equal(again.classifier.state_dict()[name], tensor)
    assert again.test_accuracy == judges["broad"].test_accuracy


def test_a_sixth_of_the_training_images_is_held_out_from_all_evaluators() -> None:
    learned, held_out = evaluators.split(60_000)
    assert len(held_out) == 10_000
    assert torch.equal(torch.cat([learned, held_out]).sort().values, torch.arange(60_000))


def test_distortions_stay_within_their_bounds_and_bounds_of_0_change_nothing() -> None:
    images = torch.full((50, 1, 32, 32), -1.0)
    images[:, :, 12:20, 12:20] = 1
    still = distort(images, FitSettings(epochs=1), torch.Generator())
    assert torch.equal(still, images)
    moved = distort(images, FitSettings(epochs=1, shift=2), torch.Generator().manual_seed(0))
    lit = moved > 0
    assert not torch.equal(moved, images)
    assert lit[:, :, 14:18, 14:18].all()
    assert not lit[:, :, :9].any()
    assert not lit[:, :, :, 23:].any()


def test_wrong_labels_give_a_low_classification_accuracy(
    small_images: Images,
) -> None:
    settings = FitSettings(epochs=6, batch_size=16)
    right, wrong = (
        classification_accuracy(small_images.train, labels, small_images.test, small_images.test_labels, settings, 0)
        for labels in (small_images.train_labels, (small_images.train_labels + 1) % 10)
    )
    assert right > 0.9
    assert wrong < 0.1


def test_missing_evaluators_are_named_with_the_command_that_trains_them(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"evaluators\.json: cannot be read.*python -m training evaluators --to"):
        evaluators.load(tmp_path)


def test_damaged_evaluators_are_refused_by_name(judges_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(judges_folder, tmp_path / "evaluators"))
    file, index = folder / "stacked.safetensors", folder / "evaluators.json"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match=r"stacked\.safetensors: sha256 is .* expected"):
        evaluators.load(folder)
    fields = json.loads(index.read_text())
    del fields["evaluators"]["stacked"]["seed"]
    index.write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="stacked lacks 'seed'"):
        evaluators.load(folder)
    index.write_text(json.dumps({"evaluators": {"oracle": {}}}))
    with pytest.raises(CheckpointError, match="no architecture 'oracle'; known are stacked, residual, broad"):
        evaluators.load(folder)
    index.write_text('{"evaluators": ')
    with pytest.raises(CheckpointError, match="not an index of evaluators"):
        evaluators.load(folder)
