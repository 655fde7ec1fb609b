"""Where coherent point drift starts from, and with what prior: the motion of the most evidence, found on few points.

The penalised likelihood has many local maxima, and which prior is right differs from problem to problem. So several
widths, with and without outliers, are tried first; then several widths β of the kernel on the best of the motions, each
with its stiffness λ re-estimated by MacKay's rule (1992), λ = γ / tr(uᵀu), where γ is the number of coefficients that
the data determine. What is given is not chosen. A motion that few points tell is continued to more, level by level, and
the prior is chosen when all of them are there, unless they are very many.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..model import LEAST_OUTLIERS, TRUNCATED
from .coherence import features
from .coherence import motion as displaced
from .drift import Accept, Drift, Prior, Scene, State, climb

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Widths to start from, in extents: beside the one that takes in all pairs, which needs no pose but may lose a good one.
WIDTHS = (0.3, 0.15)
# Outlier weights to start from where w is not given: as good as none, which stays, and one that is estimated.
NO_OUTLIERS = LEAST_OUTLIERS / 10
OUTLIERS = (NO_OUTLIERS, 0.1)
# Kernel widths that the search starts with, and those that are then tried on the best of its motions.
FIRST_BETAS = (1.0, 1.5)
BETAS = (0.35, 0.5, 0.7, 1.0, 1.5, 2.0)
# λ to start from at β = 1. A motion of a given slope has a variance that goes with β².
STIFFNESS = 10.0
STIFFEST, SOFTEST = 1e4, 0.05
# Re-estimates of λ, at most, and the change of its logarithm that ends them.
ROUNDS, SETTLED = 4, 0.1
# From the σ of one prior, or of few points, to that from which another starts, and the least of it, in extents: while
# it is narrow, pairs hold fast that a better prior would part.
WIDEN, WARM = 2.0, 0.05
# Points of either cloud that the search starts with and ends with, at most, and the growth from level to level.
SEARCHED, LARGEST, GROWTH = 400, 6400, 4
# The tolerance of every iteration but the last, and the most steps it takes.
ROUGH, ROUGH_STEPS = 1e-2, 300


class Motion(NamedTuple):
    """A climb and the prior that it was made with."""

    drift: Drift
    beta: float
    stiffness: float  # λ in units of the extent


class Search:
    """The motions of one problem.

    Args:
        scene: all points.
        outliers, beta, stiffness: as given, or None; see `nonrigid.deform`.
        accept: is told every E-step, and ends the search by returning False.
    """

    def __init__(
        self, scene: Scene, outliers: float | None, beta: float | None, stiffness: float | None, accept: Accept
    ) -> None:
        self.extent = span(scene)
        # A fixed seed: the same clouds give the same answer. The first points of each are then as good as any.
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
        """The best motion, its `drift` made on some of the points but its `state` of all, in the order they came in."""
        most = max(self._scene.source.shape[1], self._scene.target.shape[1])
        size = min(SEARCHED, most)
        motion = self._started(self._first(size))
        # Of two clouds thinned by chance few points have a partner: that tells a motion, but too little of its prior.
        while size < min(most, LARGEST) and not motion.drift.stopped:
            grown = GROWTH * size if 1.5 * GROWTH * size < most else most
            some, motion = self._first(grown), self._continued(motion, size, grown)
            prior = self._prior(some, motion.beta, motion.stiffness)
            motion = motion._replace(drift=self._climb(some, prior, motion.drift.state))
            size = grown
        # Beyond that a choice would cost more than the rest; so many points outweigh the prior that the start has.
        if size >= most and not motion.drift.stopped:
            motion = self._chosen(self._first(size), motion)
        state = self._continued(motion, size, most).drift.state if most > size else motion.drift.state
        moved = np.empty_like(state.moved)
        moved[:, self._order] = state.moved
        return motion._replace(drift=motion.drift._replace(state=state._replace(moved=moved)))

    def estimates_outliers(self, state: State) -> bool:
        """Whether w is estimated: unless it is given, or no outliers at all explain the target better."""
        return self._outliers is None and state.outliers != NO_OUTLIERS

    def _first(self, size: int) -> Scene:
        source, target = self._scene.source, self._scene.target
        return self._scene._replace(
            source=np.ascontiguousarray(source[:, :size]), target=np.ascontiguousarray(target[:, :size])
        )

    def _started(self, few: Scene) -> Motion:
        """The best of the motions that start at rest."""
        widths = [_wide(few), *(width * self.extent for width in WIDTHS)]
        weights = OUTLIERS if self._outliers is None else (self._outliers,)
        if self._outliers is None and few.target.shape[1] <= few.dimension + 1:
            weights = (NO_OUTLIERS,)  # so few points would all be explained away
        best: Motion | None = None
        for beta in FIRST_BETAS if self._beta is None else (self._beta,):
            stiffness = STIFFNESS / beta**2 if self._stiffness is None else self._stiffness
            prior = self._prior(few, beta, stiffness)
            for weight in weights:
                for width in widths:
                    rest = State(few.source, max(width, few.floor), weight)
                    drift = self._climb(few, prior, rest)
                    motion = Motion(drift, beta, stiffness)
                    if best is None or drift.evidence > best.drift.evidence:
                        best = motion
                    if drift.stopped:
                        return best
        if best is None:
            raise AssertionError("there are widths")
        return best

    def _chosen(self, some: Scene, found: Motion) -> Motion:
        """What was `found` on these points, with the prior of the most evidence."""
        if self._beta is not None and self._stiffness is not None:
            return found
        best = found
        for beta in BETAS if self._beta is None else (self._beta,):
            motion = self._tuned(some, found, beta)
            if motion.drift.evidence > best.drift.evidence:
                best = motion
            if motion.drift.stopped:
                break
        return best

    def _tuned(self, some: Scene, found: Motion, beta: float) -> Motion:
        """What was `found`, with a kernel of width `beta` and, if none is given, the stiffness of the most evidence."""
        stiffness = self._stiffness or found.stiffness * (found.beta / beta) ** 2
        # E-step and M-step start from where the points are, whatever prior took them there.
        before = found.drift.state
        state = before._replace(sigma=max(WIDEN * before.sigma, WARM * self.extent, some.floor))
        prior = self._prior(some, beta, stiffness)
        drift = self._climb(some, prior, state)
        for _ in range(ROUNDS if self._stiffness is None else 0):
            energy = 2 * drift.penalty / prior.stiffness / self.extent**2
            renewed = min(max(drift.free / max(energy, 1e-300), SOFTEST), STIFFEST)
            if drift.stopped or abs(math.log(renewed / stiffness)) < SETTLED:
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
        # Among few points the nearest are far, which σ measures too: it falls with the D-th root of the number.
        before = motion.drift.state
        most = max(self._scene.source.shape[1], self._scene.target.shape[1])
        sigma = before.sigma * (size / min(grown, most)) ** (1 / self._scene.dimension)
        state = before._replace(
            sigma=max(sigma, self._scene.floor), moved=displaced(phi, motion.drift.coefficients, source)
        )
        return motion._replace(drift=motion.drift._replace(state=state))

    def _prior(self, scene: Scene, beta: float, stiffness: float) -> Prior:
        return Prior(features(scene.source, beta * self.extent), stiffness / self.extent**2)

    def _climb(self, scene: Scene, prior: Prior, state: State) -> Drift:
        return climb(
            scene,
            prior,
            state,
            tolerance=ROUGH,
            max_iterations=ROUGH_STEPS,
            estimate_outliers=self.estimates_outliers(state),
            accept=self._accept,
        )


def span(scene: Scene) -> float:
    """The unit of β and λ: the source's extent or, where it has none, the target's, or the distance between the two."""
    return extent(scene.source) or extent(scene.target) or _wide(scene) or 1.0


def extent(points: Float64) -> float:
    """The root mean square distance from the median, in the unit of the points (P, N); 0 where all coincide.

    Distances of more than three times the median one count as that: a few points far away are not the cloud.
    """
    distance = np.sqrt(((points - np.median(points, 1)[:, None]) ** 2).sum(0))
    most = 3 * float(np.median(distance)) or math.inf
    return math.sqrt(float((np.minimum(distance, most) ** 2).mean()))


def _order(count: int, seed: int) -> Int64:
    """A random order of more points than the search takes; the one they have if it takes all."""
    return np.random.default_rng(seed).permutation(count) if count > SEARCHED else np.arange(count)


def _wide(scene: Scene) -> float:
    """The root mean square distance, in each coordinate, of all pairs: where coherent point drift starts."""
    source, target = scene.source, scene.target
    apart = source.mean(1) - target.mean(1)
    square = float(source.var(1).sum() + target.var(1).sum() + (apart**2).sum())
    return math.sqrt(square / scene.dimension)
