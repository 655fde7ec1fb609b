"""One registration problem: its point sets, its options, their defaults and their ranges.

Source p_i (N, D), target q_j (M, D), translation T (D,), noise scale σ. All lengths are in the unit of the caller's
coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .choices import Init, Matching, Noise, Normalize, Prior, Sampling, Transform
from .kinds import KINDS, TransformKind

Float64 = NDArray[np.float64]

# Squares of coordinates, divided by squares of σ and summed over pairs and iterations, must stay below 1e300, where
# the padding of a batch begins: (2e75)² · D / (1e-50)² = 4e250 · D leaves room for any N, D and max_iterations.
MAX_COORDINATE = 1e75
MIN_SIGMA = 1e-50
MAX_SIGMA = 1e75
# A prior given as a matrix makes every E-step an N x M matrix.
MAX_PRIOR_PAIRS = 4_000_000
MAX_OUTLIER_WEIGHT = 0.99
MAX_ITERATIONS = 100_000
# The kernel width β of a nonrigid transform, in extents of the source, and the stiffness λ. Within these bounds β² and
# λσ² are computable, and beyond them no point, or every point, moves with its neighbours.
MIN_BETA, MAX_BETA = 1e-6, 1e6
MIN_STIFFNESS, MAX_STIFFNESS = 1e-20, 1e20
DEFAULT_ITERATIONS = 200
DEFAULT_TOLERANCE = 1e-4
# Deviation from orthogonality that a given rotation may have, after its digits were rounded for transport.
POSE_TOLERANCE = 1e-6


def never() -> bool:
    """The default of `Problem.cancelled`: the problem is never cancelled."""
    return False


class Pose(NamedTuple):
    """A transform in the caller's coordinates: y = A p + T."""

    linear: Float64  # (D, D) A
    translation: Float64  # (D,) T


class Problem(NamedTuple):
    """Two point sets and how to register them.

    `checks.check` converts the arrays to contiguous float64. No stage writes into them.

    `sigma` None estimates σ. `prior` is a name or the matrix Π (N, M), whose rows sum to one; None means "free" for a
    translation with a given σ and no outliers, else "uniform". `outlier_weight` is the share w of points without a
    partner, and "auto" estimates it; None means 0 for a translation and "auto" for all other transforms. `normalize`
    None means "rows" for a translation and a rigid transform. For the others it means "columns", because with rows they
    could shrink the source to a point. `init` is a name, a translation (D,) or a pose. `tolerance` is the change of the
    moved points relative to σ below which the iteration stops; 0 never stops it early. `refine` fits the transform once
    more, to the matched pairs. `beta` and `stiffness` shape a nonrigid transform (see `motion.nonrigid`). `sampling` is
    the edge length of the voxels whose means are used, "all" for all points, or "auto" (see `sampling.density`).
    `noise` is "isotropic", "surface" (see `surfaces`), or "auto". The weights of the points are relative:
    `checks.check` divides them by the largest, and replaces equal ones by None. The normals of the points are used with
    the noise of surfaces. `pairs` are known correspondences (see
    `pairs`). The flags select fields of the outcome that cost memory. `cancelled` is called at least once per
    iteration, and between the parts of the search for a start and of the answer. Once it returns True, the computation
    ends.
    """

    source: Float64  # (N, D)
    target: Float64  # (M, D)
    sigma: float | None = None
    transform: Transform = "translation"
    prior: Prior | Float64 | None = None
    outlier_weight: float | Literal["auto"] | None = None
    normalize: Normalize | None = None
    init: Init | Float64 | Pose = "auto"
    max_iterations: int = DEFAULT_ITERATIONS
    tolerance: float = DEFAULT_TOLERANCE
    matching: Matching = "nearest"
    refine: bool = False
    beta: float | None = None
    stiffness: float | None = None
    sampling: Sampling | float = "auto"
    noise: Noise = "auto"
    source_weights: Float64 | None = None  # (N,)
    target_weights: Float64 | None = None  # (M,)
    pairs: Float64 | None = None  # (K, 2) i, j; or (K, 3) i, j and a strength, infinite for an exact pair
    responsibilities: bool = False
    registered: bool = False
    trace: bool = False
    path: bool = False
    source_normals: Float64 | None = None  # (N, D) of any length; NaN or zero for a point without one
    target_normals: Float64 | None = None  # (M, D)
    cancelled: Callable[[], bool] = never

    def until(self, cancelled: Callable[[], bool]) -> Problem:
        """The same problem with another hook `cancelled`."""
        return Problem._make((*self[:-1], cancelled))  # `_replace` takes three times as long

    @property
    def kind(self) -> TransformKind:
        """The record of the transform."""
        return KINDS[self.transform]

    @property
    def resolved_outliers(self) -> float | Literal["auto"]:
        """The outlier weight given, or the default for the transform."""
        if self.outlier_weight is not None:
            return self.outlier_weight
        return "auto" if self.normalize == "sinkhorn" else self.kind.outlier_weight

    @property
    def resolved_normalize(self) -> Normalize:
        """The normalisation given, or the default for the transform."""
        return self.normalize or self.kind.normalize

    @property
    def alike(self) -> bool:
        """Whether all points count alike, and no pairs are known, as the literal model and the batched engine need."""
        return self.source_weights is None and self.target_weights is None and self.pairs is None

    @property
    def resolved_prior(self) -> Prior | Float64:
        """The prior given, or the default for the other options."""
        if self.prior is not None:
            return self.prior
        possible = self.kind.literal and self.alike
        if self.sigma is None or not possible or self.outlier_weight not in {None, 0.0}:
            return "uniform"
        return "free" if self.resolved_normalize == "rows" else "uniform"

    @property
    def prior_name(self) -> Prior | Literal["given"]:
        """The name of `resolved_prior`, or "given" for a matrix."""
        prior = self.resolved_prior
        return prior if isinstance(prior, str) else "given"

    @property
    def init_name(self) -> Init | Literal["given"]:
        """The name of the start, or "given" for a translation or a pose."""
        return self.init if isinstance(self.init, str) else "given"


def is_given_linear(linear: Float64, kind: TransformKind) -> bool:
    """Whether A (D, D) may be given as the start of a transform. True for a D that the transform does not allow.

    For the many D of a translation or an affine transform, the time is in proportion to D².
    """
    dimension = len(linear)
    if kind.given_linear == "identity":
        return np.array_equal(linear, np.eye(dimension))
    if kind.given_linear == "nonzero":
        return float(np.vdot(linear, linear)) > 0
    if not kind.allows(dimension):
        return True
    gram = linear.T @ linear
    scale = float(gram.trace()) / dimension
    off = float(np.abs(gram - scale * np.eye(dimension)).max())
    with np.errstate(over="ignore", under="ignore"):
        proper = float(np.linalg.det(linear)) > 0
    turned = off <= POSE_TOLERANCE * scale and proper
    if kind.given_linear == "rotation":
        return turned and abs(scale - 1) <= POSE_TOLERANCE
    return turned if kind.given_linear == "scaled rotation" else proper
