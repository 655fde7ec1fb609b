"""The start and the prior of coherent point drift: the motion with the most evidence, found on few points.

The penalised likelihood has many local maxima, and the right prior depends on the problem. Several first widths, with
and without outliers, are tried. Then several widths β of the kernel are tried on the best motion. Their stiffness λ is
re-estimated by MacKay's rule (1992), λ = γ / tr(uᵀu), where γ is the number of coefficients that the data determine.
Values that the caller gives are kept. A motion of few points is continued to more points, level by level. The prior is
chosen on all points, unless there are more than `MOTION.most_points`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..model import TRUNCATED
from .coherence import features
from .coherence import motion as displaced
from .drift import Accept, Drift, DriftClouds, DriftState, Prior, climb
from .tuning import MOTION

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Motion(NamedTuple):
    """The end of a climb, and its prior."""

    drift: Drift
    beta: float  # β, in extents
    stiffness: float  # λ for an extent of 1


class Search:
    """The motions of one problem.

    Args:
        scene: all points.
        outliers, beta, stiffness: as given, or None; see `nonrigid.deform`.
        accept: receives every E-step, and ends the search by returning False.
    """

    def __init__(
        self, scene: DriftClouds, outliers: float | None, beta: float | None, stiffness: float | None, accept: Accept
    ) -> None:
        self.extent = length_unit(scene)
        # A fixed seed makes the answer repeatable. After the shuffle, the first points are a random sample.
        source, target = _order(scene.source.shape[1], 1), _order(scene.target.shape[1], 2)
        self._order = source
        self._scene = scene._replace(
            source=np.ascontiguousarray(scene.source[:, source]),
            target=np.ascontiguousarray(scene.target[:, target]),
            cutoff=TRUNCATED,
        )
        self._outliers, self._beta, self._stiffness = outliers, beta, stiffness
        self._accept = accept

    def best(self) -> Motion:
        """The best motion. Its `drift` may come from a sample; its `state` has all points, in their original order."""
        most = max(self._scene.source.shape[1], self._scene.target.shape[1])
        size = min(MOTION.first_points, most)
        motion = self._started(self._first(size))
        # Few points of two random samples have a partner. They determine a motion, but not its prior.
        while size < min(most, MOTION.most_points) and not motion.drift.stopped:
            grown = MOTION.growth * size if 1.5 * MOTION.growth * size < most else most
            some, motion = self._first(grown), self._continued(motion, size, grown)
            prior = self._prior(some, motion.beta, motion.stiffness)
            motion = motion._replace(drift=self._climb(some, prior, motion.drift.state))
            size = grown
        # On more points the choice would take longer than the rest, and the prior matters little.
        if size >= most and not motion.drift.stopped:
            motion = self._chosen(self._first(size), motion)
        state = self._continued(motion, size, most).drift.state if most > size else motion.drift.state
        moved = np.empty_like(state.moved)
        moved[:, self._order] = state.moved
        return motion._replace(drift=motion.drift._replace(state=state._replace(moved=moved)))

    def estimates_outliers(self, state: DriftState) -> bool:
        """Whether w is estimated: unless it is given, or a start without outliers had more evidence."""
        return self._outliers is None and state.outliers != MOTION.no_outliers

    def _first(self, size: int) -> DriftClouds:
        source, target = self._scene.source, self._scene.target
        return self._scene._replace(
            source=np.ascontiguousarray(source[:, :size]), target=np.ascontiguousarray(target[:, :size])
        )

    def _started(self, few: DriftClouds) -> Motion:
        """The motion with the most evidence among those that start at rest."""
        widths = [_wide(few), *(width * self.extent for width in MOTION.first_widths)]
        weights = (MOTION.no_outliers, MOTION.some_outliers) if self._outliers is None else (self._outliers,)
        if self._outliers is None and few.target.shape[1] <= few.dimension + 1:
            weights = (MOTION.no_outliers,)  # with w estimated, a motion could fit these few points exactly
        best: Motion | None = None
        for beta in MOTION.first_betas if self._beta is None else (self._beta,):
            stiffness = MOTION.first_stiffness / beta**2 if self._stiffness is None else self._stiffness
            prior = self._prior(few, beta, stiffness)
            for weight in weights:
                for width in widths:
                    rest = DriftState(few.source, max(width, few.floor), weight)
                    drift = self._climb(few, prior, rest)
                    motion = Motion(drift, beta, stiffness)
                    if best is None or drift.evidence > best.drift.evidence:
                        best = motion
                    if drift.stopped:
                        return best
        if best is None:
            raise AssertionError("at least one width is tried")
        return best

    def _chosen(self, some: DriftClouds, found: Motion) -> Motion:
        """The motion `found`, continued with the prior of the most evidence."""
        if self._beta is not None and self._stiffness is not None:
            return found
        best = found
        for beta in MOTION.betas if self._beta is None else (self._beta,):
            motion = self._tuned(some, found, beta)
            if motion.drift.evidence > best.drift.evidence:
                best = motion
            if motion.drift.stopped:
                break
        return best

    def _tuned(self, some: DriftClouds, found: Motion, beta: float) -> Motion:
        """The motion `found`, continued with a kernel of width `beta` and, unless λ is given, λ re-estimated."""
        stiffness = self._stiffness or found.stiffness * (found.beta / beta) ** 2
        # The steps depend on the positions of the points alone, not on the prior that led to them.
        before = found.drift.state
        state = before._replace(sigma=max(MOTION.widened * before.sigma, MOTION.least_width * self.extent, some.floor))
        prior = self._prior(some, beta, stiffness)
        drift = self._climb(some, prior, state)
        for _ in range(MOTION.most_estimates if self._stiffness is None else 0):
            energy = 2 * drift.penalty / prior.stiffness / self.extent**2
            renewed = min(max(drift.free / max(energy, 1e-300), MOTION.softest), MOTION.stiffest)
            if drift.stopped or abs(math.log(renewed / stiffness)) < MOTION.settled_log_stiffness:
                break
            stiffness = renewed
            prior = prior._replace(stiffness=stiffness / self.extent**2)
            drift = self._climb(some, prior, drift.state)
        return Motion(drift, beta, stiffness)

    def _continued(self, motion: Motion, size: int, grown: int) -> Motion:
        """The motion of the first `size` points as one of the first `grown`."""
        if grown <= size:
            return motion
        source = self._first(grown).source
        phi = features(source, motion.beta * self.extent, min(size, source.shape[1]))
        # σ includes the distance between neighbours, which falls as the D-th root of the number of points.
        before = motion.drift.state
        most = max(self._scene.source.shape[1], self._scene.target.shape[1])
        sigma = before.sigma * (size / min(grown, most)) ** (1 / self._scene.dimension)
        state = before._replace(
            sigma=max(sigma, self._scene.floor), moved=displaced(phi, motion.drift.coefficients, source)
        )
        return motion._replace(drift=motion.drift._replace(state=state))

    def _prior(self, scene: DriftClouds, beta: float, stiffness: float) -> Prior:
        return Prior(features(scene.source, beta * self.extent), stiffness / self.extent**2)

    def _climb(self, scene: DriftClouds, prior: Prior, state: DriftState) -> Drift:
        return climb(
            scene,
            prior,
            state,
            tolerance=MOTION.tolerance,
            max_iterations=MOTION.most_steps,
            estimate_outliers=self.estimates_outliers(state),
            accept=self._accept,
        )


def length_unit(scene: DriftClouds) -> float:
    """The unit of β and λ: the source's extent; if that is 0 the target's, or else the distance between the clouds."""
    return rms_radius(scene.source) or rms_radius(scene.target) or _wide(scene) or 1.0


def rms_radius(points: Float64) -> float:
    """The root mean square distance from the median, in the unit of the points (P, N); 0 if all coincide.

    Distances are limited to three times the median, for robustness to a few distant points.
    """
    distance = np.sqrt(((points - np.median(points, 1)[:, None]) ** 2).sum(0))
    most = 3 * float(np.median(distance)) or math.inf
    return math.sqrt(float((np.minimum(distance, most) ** 2).mean()))


def _order(count: int, seed: int) -> Int64:
    """A random order; for no more points than the search starts with, their own order."""
    return np.random.default_rng(seed).permutation(count) if count > MOTION.first_points else np.arange(count)


def _wide(scene: DriftClouds) -> float:
    """The root mean square distance, in each coordinate, of all pairs: the first width of coherent point drift."""
    source, target = scene.source, scene.target
    apart = source.mean(1) - target.mean(1)
    square = float(source.var(1).sum() + target.var(1).sum() + (apart**2).sum())
    return math.sqrt(square / scene.dimension)
