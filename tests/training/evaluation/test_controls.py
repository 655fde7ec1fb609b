"""Each control has its fault, and a metric that does not detect the fault raises an error."""

from __future__ import annotations

import pytest
import torch

from training.evaluation import controls
from training.evaluation.controls import CONTROLS, DROPPED, ControlError
from training.evaluation.memorisation import Memorisation
from training.evaluation.metrics import METRICS
from training.evaluation.protocol import Images

INTACT = dict.fromkeys(METRICS, 0.5)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_has_the_requested_number_of_images(name: str, small_images: Images) -> None:
    faulty = CONTROLS[name].corrupt(small_images.train, small_images.train_labels, 96)
    assert faulty.shape == (96, 1, 32, 32)
    assert faulty.dtype == torch.uint8


def test_blurring_keeps_the_sum_of_the_levels_and_spreads_a_pixel_by_its_weights() -> None:
    images = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    images[0, 0, 16, 16] = 256 - 1
    blurred = controls.blur(images, torch.zeros(1), 1)[0, 0].double()
    assert blurred.sum() == pytest.approx(255, abs=8)
    assert blurred[16, 16] == pytest.approx(255 * 36 / 256, abs=0.5)


def test_the_dropped_class_is_absent_and_a_hundredth_of_the_images_is_repeated(small_images: Images) -> None:
    assert DROPPED in small_images.train_labels
    numbered = torch.arange(160, dtype=torch.uint8).reshape(160, 1, 1, 1)
    kept = controls.drop_class(numbered, small_images.train_labels, 160).flatten()
    assert DROPPED not in small_images.train_labels[kept.long()]
    assert len(kept) == 160
    repeated = controls.repeat_few(torch.arange(1000).reshape(-1, 1, 1, 1), torch.zeros(1000), 1000)
    assert set(repeated.flatten().tolist()) == set(range(10))


@pytest.mark.parametrize("name", CONTROLS)
def test_a_metric_that_does_not_detect_a_control_is_named(name: str) -> None:
    for metric in CONTROLS[name].sensitive:
        worse = {other: 0.6 if METRICS[other].lower_is_better else 0.4 for other in METRICS}
        controls.check(name, "stacked", worse, INTACT)
        with pytest.raises(ControlError, match=f"{metric} by the evaluator stacked does not detect the control {name}"):
            controls.check(name, "stacked", worse | {metric: 0.5}, INTACT)


def test_undetected_copies_raise_an_error() -> None:
    controls.check_copies(Memorisation(0.9, 0.11, 0.45, 0.01))
    with pytest.raises(ControlError, match="memorisation does not detect"):
        controls.check_copies(Memorisation(1.0, 0.01, 0.5, 0.01))
