"""The distances agree with those of torchmetrics, for random features and for features of MNIST."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from training import data
from training.evaluation import controls, evaluators
from training.evaluation.classifier import predict
from training.evaluation.frechet import frechet_distance
from training.evaluation.kernel_distance import kernel_distance
from training.evaluation.protocol import to_images

COUNT, WIDTH = 300, 12
EVALUATORS = Path(__file__).parents[3] / "checkpoints" / "evaluators"
SEEN = 400

Pair = tuple[Tensor, Tensor]


class Given(nn.Module):
    """Returns features (B, F, 1, 1) unchanged, as (B, F)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width

    def forward(self, features: Tensor) -> Tensor:
        return features.flatten(1)


def peer_frechet(pair: Pair) -> float:
    """The Fréchet distance of torchmetrics, of two sets of features (N, F) float64."""
    peer = FrechetInceptionDistance(feature=Given(pair[0].shape[1]), normalize=True).set_dtype(torch.float64)
    for features, real in zip(pair, (True, False), strict=True):
        peer.update(features[..., None, None], real=real)
    return float(peer.compute())


def peer_kernel(pair: Pair) -> float:
    """The kernel distance of torchmetrics, of two equally large sets of features (N, F) float64, in one subset."""
    peer = KernelInceptionDistance(
        feature=Given(pair[0].shape[1]), normalize=True, subsets=1, subset_size=len(pair[0])
    ).set_dtype(torch.float64)
    for features, real in zip(pair, (True, False), strict=True):
        peer.update(features[..., None, None], real=real)
    mean, _ = peer.compute()
    return float(mean)


@pytest.fixture(scope="module")
def pair() -> Pair:
    a, b = torch.rand(2, COUNT, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return a, b.square()


@pytest.fixture(scope="module")
def features_by_evaluator(real_data: Path) -> dict[str, Pair]:
    """By evaluator: its features of SEEN test images, and of as many blurred training images."""
    train, test = (data.load(real_data, split, download=False) for split in ("train", "test"))
    images = to_images(*(part._replace(images=part.images[:SEEN], labels=part.labels[:SEEN]) for part in (train, test)))
    blurred = controls.blur(images.train, images.train_labels, SEEN)
    return {
        name: (predict(judge.classifier, images.test).features, predict(judge.classifier, blurred).features)
        for name, judge in evaluators.load(EVALUATORS).items()
    }


def test_the_frechet_distance_agrees(pair: Pair) -> None:
    assert frechet_distance(*pair) == pytest.approx(peer_frechet(pair), rel=1e-9)


@pytest.mark.filterwarnings("ignore:Metric .Kernel Inception Distance. will save all extracted features:UserWarning")
def test_the_kernel_distance_agrees(pair: Pair) -> None:
    assert kernel_distance(*pair) == pytest.approx(peer_kernel(pair), rel=1e-9)


@pytest.mark.real_data
def test_the_frechet_distance_of_evaluators_features_agrees(features_by_evaluator: dict[str, Pair]) -> None:
    assert len(features_by_evaluator) == 3
    for a, b in features_by_evaluator.values():
        assert frechet_distance(a, b) == pytest.approx(peer_frechet((a.double(), b.double())), rel=1e-6)


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore:Metric .Kernel Inception Distance. will save all extracted features:UserWarning")
def test_the_kernel_distance_of_evaluators_features_agrees(features_by_evaluator: dict[str, Pair]) -> None:
    assert len(features_by_evaluator) == 3
    for a, b in features_by_evaluator.values():
        # This project computes products in float32, as the features are; torchmetrics in float64 here.
        assert kernel_distance(a, b) == pytest.approx(peer_kernel((a.double(), b.double())), rel=1e-4)
