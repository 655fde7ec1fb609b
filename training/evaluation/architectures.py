"""Three different architectures of digit classifiers, so that no metric depends on a single one.

- `stacked` has small kernels with pooling, and a linear layer over all positions (Simonyan and Zisserman, 2015).
- `residual` has residual blocks and the mean over all positions (He et al., 2016).
- `broad` has large kernels (Ding et al., "Scaling up your kernels to 31×31", 2022), a smooth activation, and the
  maximum over all positions.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from training.evaluation.classifier import Classifier


class Residual(nn.Module):
    """ReLU(x + layers(x)). If the shape changes, a 1×1 convolution of x takes the place of x."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolution(inputs, outputs, 3, stride), nn.ReLU(), *_convolution(outputs, outputs, 3)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(inputs, outputs, 1, stride))
        self.activation = nn.ReLU()

    def forward(self, signal: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        outputs: Tensor = self.activation(self.shortcut(signal) + self.layers(signal))
        return outputs


def stacked() -> Classifier:
    """Four 3×3 convolutions with pooling, and a hidden linear layer; 128 features."""
    return Classifier(
        nn.Sequential(
            *_convolution(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
            *_convolution(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
            *_convolution(32, 64, 3), nn.ReLU(),
            *_convolution(64, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64 * 4 * 4, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(),
        ),
        128,
    )  # fmt: skip


def residual() -> Classifier:
    """A convolution, three residual blocks, and the mean over all positions; 96 features."""
    return Classifier(
        nn.Sequential(
            *_convolution(1, 24, 5, 2), nn.ReLU(),
            Residual(24, 24, 1), Residual(24, 48, 2), Residual(48, 96, 2),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ),
        96,
    )  # fmt: skip


def broad() -> Classifier:
    """7×7 and 5×5 convolutions of stride 2, and the maximum over all positions; 96 features."""
    return Classifier(
        nn.Sequential(
            *_convolution(1, 32, 7, 2), nn.SiLU(),
            *_convolution(32, 64, 7, 2), nn.SiLU(),
            *_convolution(64, 96, 5, 2), nn.SiLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        ),
        96,
    )  # fmt: skip


ARCHITECTURES: dict[str, Callable[[], Classifier]] = {"stacked": stacked, "residual": residual, "broad": broad}


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    # The normalisation has a bias, so the convolution needs none.
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return layer, nn.BatchNorm2d(outputs)
