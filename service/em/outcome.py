"""The answer to one registration problem.

All arrays but the matching are float64, and all lengths are in the unit of the caller's coordinates.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .problem import Pose

Float64 = NDArray[np.float64]
StopReason = Literal["tolerance", "max_iterations", "cancelled"]
Verdict = Literal["good", "doubtful", "failed"]


class Trace(NamedTuple):
    """The state after the M-step of each of the k iterations, one row each."""

    log_likelihood: Float64  # (k,) observed-data log-likelihood at (Π, T, σ)
    sigma: Float64  # (k,)
    translation: Float64  # (k, D)
    linear: Float64 | None = None  # (k, D, D) A; None for a translation


class RunnerUp(NamedTuple):
    """The best pose that differs from the answer."""

    pose: Pose
    gap: float  # nats by which its observed-data log-likelihood is lower


class Overlap(NamedTuple):
    """The share of each cloud that has a partner in the other."""

    source: float
    target: float


class Freedom(NamedTuple):
    """A motion of the source that changes the fit little: along an axis, or about it."""

    kind: Literal["translation", "rotation"]
    axis: Float64  # (D,) unit vector, in the target's coordinates


class Quality(NamedTuple):
    """How far the answer can be trusted; `service.em.quality` has the measures."""

    verdict: Verdict
    reasons: tuple[str, ...]  # why it is not better; empty for good
    overlap: Overlap
    rmse: float | None  # root mean square distance of matched points, as noise makes it; None without a match
    evidence: float  # nats per source point by which the clouds agree in more than their outlines; 0 for unrelated ones
    centroid_standard_error: float | None  # √tr of the covariance of the source's moved centroid
    degenerate: tuple[Freedom, ...] = ()


class Outcome(NamedTuple):
    """The answer to one problem, in the caller's coordinates. Its arrays share no memory with those of the problem.

    A cancelled problem has its last T and σ if they are known, a NaN `log_likelihood`, and no matching, no covariance
    and no optional field.
    """

    translation: Float64  # (D,)
    sigma: float
    log_likelihood: float  # observed-data, at the returned parameters
    matching: NDArray[np.int64]  # (N,) the matched j, or -1 for none
    matching_probability: Float64  # (N,) r_i,match(i) of the last E-step; 0 where there is no match
    translation_covariance: Float64 | None  # (D, D); None without positive definite information, or for D > 256
    iterations: int
    converged: bool
    stop_reason: StopReason
    start: str  # the start: identity, centroid, given, pairs, anneal, vote, rotation, triangles or whitened
    responsibilities: Float64 | None  # (N, M) R of the last E-step, from which T was computed
    registered: Float64 | None  # (N, D) the moved source
    trace: Trace | None
    linear: Float64 | None = None  # (D, D) A; None for the identity
    rotation_covariance: Float64 | None = None  # (1, 1) or (3, 3), rad², of R's left axis-angle perturbation
    outlier_weight: float = 0.0  # w, given or estimated
    outlier_probability: Float64 | None = None  # (N,) probability that the point has no partner; None if w = 0
    displacement: Float64 | None = None  # (N, D) v of a nonrigid transform: registered = A p + T + v
    runner_up: RunnerUp | None = None
    warnings: tuple[str, ...] = ()
    quality: Quality | None = None  # None for a cancelled problem
    path: tuple[Pose, ...] = ()  # all poses from the start on, with those of the annealing
    noise: Literal["isotropic", "surface"] = "isotropic"
    sampling: float | None = None  # edge length of the voxels, in the caller's unit; None if all points were used


def doubted(outcome: Outcome, reason: str) -> Outcome:
    """The outcome with the verdict doubtful, for this reason, which is also a warning. It has a quality."""
    if outcome.quality is None:
        raise ValueError("a cancelled problem has no verdict")
    quality = outcome.quality._replace(verdict="doubtful", reasons=(*outcome.quality.reasons, reason))
    return outcome._replace(quality=quality, warnings=(*outcome.warnings, reason))
