"""A generator with batch normalisation for training. It folds into the published generator, which has none.

A normalisation after a convolution is an affine map of each channel, so the convolution's weights can include it:
γ (W * x + b - m) / √(v + ε) + β = (γ/√(v + ε)) W * x + γ (b - m)/√(v + ε) + β (Ioffe and Szegedy, "Batch Normalization:
Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015, algorithm 1).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from service.gan.networks import LATENT_DIM, Generator

EPSILON = 1e-5
# Number of latents for the statistics of a folded generator. With these, the error of the statistics of each channel is
# below a hundredth of a standard deviation.
STATISTICS_COUNT, STATISTICS_SEED, STATISTICS_BATCH = 4096, 4, 512


class Norm(nn.Module):
    """Batch normalisation of (B, C, H, W) with the batch's mean and variance, a scale (C,) and a shift (C,)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, signal: Tensor) -> Tensor:
        """The normalised signal, of the same shape."""
        return batch_norm(signal, None, None, self.weight, self.bias, training=True, eps=EPSILON)


class NormalisedGenerator(nn.Module):
    """The generator with a `Norm` after each convolution except the last: (B, 128) -> (B, 1, 32, 32).

    An image depends on its batch, so this module is for training only. `fold` returns the published generator.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator
        *hidden, _ = self._convolutions()
        self.norms = nn.ModuleList(Norm(convolution.out_channels) for convolution in hidden)

    def forward(self, latents: Tensor) -> Tensor:
        """Images (B, 1, 32, 32) of `latents` (B, 128), B at least 2."""
        signal = latents.reshape(-1, LATENT_DIM, 1, 1)
        norms = iter(self.norms)
        for layer in self.generator.layers:
            signal = layer(signal)
            if isinstance(layer, nn.ConvTranspose2d):
                norm = next(norms, None)
                signal = signal if norm is None else norm(signal)
        return signal

    def fold(self) -> Generator:
        """The published generator, float32, with the statistics of many latents in place of those of a batch.

        The statistics are computed layer by layer, from the output of the folded layers before. `self` is not changed.
        """
        folded = copy.deepcopy(self.generator).float()
        device = next(folded.parameters()).device
        generator = torch.Generator().manual_seed(STATISTICS_SEED)
        latents = torch.randn(STATISTICS_COUNT, LATENT_DIM, 1, 1, generator=generator)
        signals = [batch.to(device) for batch in torch.split(latents, STATISTICS_BATCH)]
        norms = iter(self.norms)
        with torch.no_grad():
            for layer in folded.layers:
                norm = next(norms, None) if isinstance(layer, nn.ConvTranspose2d) else None
                if isinstance(layer, nn.ConvTranspose2d) and isinstance(norm, Norm):
                    _absorb(layer, norm, *_moments([layer(signal) for signal in signals]))
                signals = [layer(signal) for signal in signals]
        return folded

    def _convolutions(self) -> list[nn.ConvTranspose2d]:
        return [layer for layer in self.generator.layers if isinstance(layer, nn.ConvTranspose2d)]


def _absorb(convolution: nn.ConvTranspose2d, norm: Norm, mean: Tensor, variance: Tensor) -> None:
    """Fold `norm` into `convolution`, in place; `mean` and `variance` are (C,) float64, of the convolution's output."""
    scale = norm.weight.double() / (variance + EPSILON).sqrt()
    bias = convolution.bias
    assert bias is not None  # noqa: S101  # the published generator has biases
    # Output channels are the second dimension of a transposed convolution's weight.
    convolution.weight.copy_(convolution.weight.double() * scale[None, :, None, None])
    bias.copy_((bias.double() - mean) * scale + norm.bias.double())


def _moments(signals: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance (C,), float64, of every channel of the batches (B, C, H, W)."""
    count = sum(signal.numel() // signal.shape[1] for signal in signals)
    mean = torch.stack([signal.double().sum(dim=(0, 2, 3)) for signal in signals]).sum(0) / count
    squares = [(signal.double() - mean[None, :, None, None]).square().sum(dim=(0, 2, 3)) for signal in signals]
    return mean, torch.stack(squares).sum(0) / count
