"""The contract of a normalisation: which sums of the responsibilities are one.

Four classes implement it: `Rows`, `Columns`, `Sinkhorn`, and `GivenPrior` for a prior with an entry for each pair.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..kernel.fitting import Sums
from ..kernel.truncated import EStep
from ..model import NONE, Parameters
from .clouds import Arrays
from .correspondence import View
from .paired import Paired

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# A strided sample of this many points determines the information, which is a sum over points, to 1 %.
INFORMATION_POINTS = 20_000


class NormalizedEStep(NamedTuple):
    """The result of an E-step. It owns its arrays until it is handed over as `spare`."""

    at: Parameters  # where the E-step was taken
    arrays: Arrays
    sums: Sums
    largest: float  # max π
    mass: Float64 = NONE  # Σ α r of each weight π, if weights are estimated
    offset: Float64 = NONE  # (M,) -log of sinkhorn's column factors, the least 0
    importance: Float64 = NONE  # α of the data; empty for ones
    paired: Paired | None = None  # what the known pairs have changed

    @property
    def moved(self) -> Float64:
        """The source (P, N) at `at`."""
        return self.arrays.moved

    @property
    def found(self) -> EStep:
        """The E-step of the data."""
        return self.arrays.found


class Normalization(Protocol):
    """The E-step of one normalisation, and what follows from its responsibilities."""

    def expect(self, at: Parameters, spare: Arrays | None = None) -> NormalizedEStep:
        """The E-step at `at`. It overwrites and owns the arrays `spare`, if given, of an earlier E-step."""

    def view(self, last: NormalizedEStep) -> View:
        """The responsibilities of an E-step over the whole problem, as seen from the source."""

    def measure(self, at: Parameters) -> tuple[Float64, float]:
        """The observed information of the transform and log σ at `at`, and the log-likelihood of all data points.

        The information is (K + D + 1, K + D + 1), in the frame's coordinates; see `information`.
        """


def groups(count: int, paired: Int64) -> list[Int64]:
    """The data points that are sampled for the information: those of known pairs, and the `count` others."""
    rest = np.ones(count, bool)
    rest[paired] = False
    return [some for some in (paired, np.flatnonzero(rest)) if len(some)]


def stride(count: int) -> int:
    """The stride of the sample that determines the information of `count` points."""
    return -(-count // INFORMATION_POINTS)
