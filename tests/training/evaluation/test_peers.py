"""The distances agree with torchmetrics' own on the same features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from training.evaluation.frechet import frechet_distance
from training.evaluation.kernel_distance import kernel_distance

COUNT, WIDTH = 300, 12


class Flat(nn.Module):
    """Images (B, 3, 2, 2) as their own features (B, 12)."""

    num_features = WIDTH

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    a, b = torch.rand(2, COUNT, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return a, b.square()


def test_the_frechet_distance(pair: tuple[Tensor, Tensor]) -> None:
    peer = FrechetInceptionDistance(feature=Flat(), normalize=True, input_img_size=(3, 2, 2)).set_dtype(torch.float64)
    for images, real in zip(pair, (True, False), strict=True):
        peer.update(images, real=real)
    assert frechet_distance(*(images.flatten(1) for images in pair)) == pytest.approx(float(peer.compute()), rel=1e-9)


@pytest.mark.filterwarnings("ignore:Metric .Kernel Inception Distance. will save all extracted features:UserWarning")
def test_the_kernel_distance(pair: tuple[Tensor, Tensor]) -> None:
    peer = KernelInceptionDistance(feature=Flat(), normalize=True, subsets=1, subset_size=COUNT).set_dtype(
        torch.float64
    )
    for images, real in zip(pair, (True, False), strict=True):
        peer.update(images, real=real)
    mean, _ = peer.compute()
    assert kernel_distance(*(images.flatten(1) for images in pair)) == pytest.approx(float(mean), rel=1e-9)
