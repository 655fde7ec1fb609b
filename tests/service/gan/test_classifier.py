"""Laws of the classifiers: a row's bits do not depend on its batch, and probabilities are a softmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

from service.gan.classifier import Classifier, LatentClassifier, probabilities
from service.gan.networks import IMAGE_SIZE


def test_the_number_of_parameters_is_as_documented() -> None:
    assert sum(parameter.numel() for parameter in Classifier().parameters()) == 98_442
    assert LatentClassifier()(torch.zeros(3, 128)).shape == (3, 10)


@torch.inference_mode()
def test_class_logits_are_the_same_bit_for_bit_in_a_batch_of_any_size() -> None:
    torch.manual_seed(0)
    classifier, images = Classifier().eval(), torch.rand(65, 1, IMAGE_SIZE, IMAGE_SIZE) * 2 - 1
    alone = torch.cat([classifier(row) for row in torch.split(images, 1)])
    for count in (1, 2, 3, 7, 16, 31, 32, 33, 63, 64, 65):
        assert torch.equal(classifier(images[:count]), alone[:count]), count


@torch.inference_mode()
def test_class_logits_are_the_linear_layer_of_the_features() -> None:
    torch.manual_seed(0)
    classifier, images = Classifier().double().eval(), torch.rand(5, 1, IMAGE_SIZE, IMAGE_SIZE).double()
    expected = classifier.linear(classifier.layers(images).flatten(1))
    torch.testing.assert_close(classifier(images), expected)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_probabilities_are_a_softmax_whose_rows_do_not_depend_on_one_another(scale: float) -> None:
    logits = (np.random.default_rng(0).standard_normal((67, 10)) * scale).astype(np.float32)
    together = probabilities(logits)
    assert together == pytest.approx(special.softmax(logits.astype(np.float64), axis=1), rel=1e-6, abs=1e-30)
    for count in range(1, 68):
        assert np.array_equal(probabilities(logits[:count].copy()), together[:count])
