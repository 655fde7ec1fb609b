"""The search for the pose between two surfaces: named poses, similar features, and the search for any clouds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..cancellation import Poll
from ..coordinates import Frame
from ..kinds import RIGID
from ..model import LEAST_OUTLIERS, MOST_OUTLIERS, Model, Parameters
from ..problem import Problem
from ..starting.global_start import find_start
from ..starting.named import given, named, start_name
from ..starting.near import near_start
from ..starting.pose_starts import last_width
from ..starting.pyramid import Pyramid
from ..starting.starts import PoseStart
from .candidates import Candidate, Contest
from .consensus import proposals
from .features import Keys, even_side, keys, similar
from .scene import Scene, of_patches

Float64 = NDArray[np.float64]

# The first σ, in τ, and the share of outliers to begin with, if a start says nothing of them.
FIRST_WIDTH, FIRST_OUTLIERS = 0.5, 0.5
# With an estimate of the outliers by a start: it includes some inliers, and is at least LEAST_SHARE.
MARGIN, LEAST_SHARE = 0.05, 0.05
# The error of a distance between compatible pairs, and the least distance, in sides of the keys' voxels.
TOLERANCE, APART = 0.7, 3.0
# Between keys τ is this many times as large, so that a climb comes from farther away.
COARSE = 1.4
# Proposals that are climbed between the keys, and how many of the best ends are climbed further.
PROPOSED, CLIMBED = 14, 5
# A named or given pose is annealed too if a larger share of points than this has no partner.
ENOUGH_OUTLIERS = 0.5
# Nats for each point by which the best pose's score exceeds that of all others. From CLEAR on the search for any clouds
# is left out, and from SURE on the annealing too.
CLEAR, SURE = 0.06, 0.5


def find_poses(
    problem: Problem, points: Frame, scene: Scene, model: Model, widest: float, poll: Poll
) -> list[Candidate]:
    """Distinct poses, the likeliest first, from the start that `problem.init` selects.

    `points` is the frame of the scene, and `poll` may raise.
    """
    contest = Contest(scene, model, widest, poll)
    kind, last = problem.kind.code, last_width(problem, points)
    if problem.init_name != "auto":
        transform = named(problem, points) if isinstance(problem.init, str) else given(problem, points)
        name = start_name(problem)
        # From between the keys the climb is short, and that from the start soon meets its end.
        contest.add(_between_keys(problem, scene, model, {name: transform}, poll))
        # A pose that is right already must not be lost between the keys, nor by annealing.
        contest.add([_raw(problem, name, transform, scene, widest)])
        if contest.best_first()[0].parameters.outliers > ENOUGH_OUTLIERS:
            near = near_start(points, kind, transform, name, last, poll)
            contest.add([_annealed(problem, near, scene, widest)])
        return contest.best_first()
    starts = {name: named(problem._replace(init=name), points) for name in ("identity", "centroid")}
    contest.add(_between_keys(problem, scene, model, starts, poll))
    if _lead(contest.best_first()) > SURE:
        return contest.best_first()
    for name, transform in starts.items():
        contest.add([_annealed(problem, near_start(points, kind, transform, name, last, poll), scene, widest)])
    if kind == RIGID and _lead(contest.best_first()) < CLEAR:
        found = find_start(points, Pyramid(points), kind, poll)
        others = [found._replace(transform=transform) for transform in found.others]
        contest.add(_annealed(problem, one, scene, widest) for one in (found, *others))
    return contest.best_first()


def mirrored_score(problem: Problem, scene: Scene, model: Model, widest: float, poll: Poll) -> float:
    """The score of the source's mirror image at the best pose that similar features propose; 0 if they propose none.

    The arguments are those of `find_poses`, for a rigid transform in space.
    """
    mirror = np.array([[-1.0], [1.0], [1.0]])
    image = scene._replace(source=mirror * scene.source, source_normals=mirror * scene.source_normals)
    contest = Contest(image, model, widest, poll)
    contest.add(_between_keys(problem, image, model, {}, poll))
    return max([0.0, *(one.score for one in contest.ends)])


def _between_keys(
    problem: Problem, scene: Scene, model: Model, starts: dict[str, Float64], poll: Poll
) -> Iterator[Candidate]:
    """The best ends of climbs between points at wider distances: from `starts`, and from similar features."""
    side = even_side((scene.source, scene.target))
    source, target = keys(scene.source, scene.source_normals, side), keys(scene.target, scene.target_normals, side)
    poses = [*starts.items()]
    if problem.init_name == "auto" and model.kind == RIGID and scene.dimension == 3:
        poses += [("features", one) for one in _proposed(source, target, side)]
    coarse = of_patches(source.points, source.normals, target.points, target.normals, scene.dimension, scene.floor)
    coarse = coarse._replace(tangential=COARSE * coarse.tangential)
    contest = Contest(coarse, model, coarse.tangential, poll)
    contest.add(_raw(problem, name, transform, coarse, coarse.tangential) for name, transform in poses)
    if not contest.ends:
        return
    for one in contest.best_first()[:CLIMBED]:
        sigma = FIRST_WIDTH * scene.tangential if problem.sigma is None else one.parameters.sigma
        yield one._replace(parameters=one.parameters._replace(sigma=sigma))


def _proposed(source: Keys, target: Keys, side: float) -> list[Float64]:
    mine, others = similar(source, target, side)
    found = proposals(
        np.take(source.points, mine, 1), np.take(target.points, others, 1), TOLERANCE * side, APART * side
    )
    return [one.transform for one in found[:PROPOSED]]


def _lead(found: list[Candidate]) -> float:
    """The score of the best pose less that of all others, in nats for each point."""
    best, *others = found
    return best.score - max([0.0, *(one.score for one in others)])


def _annealed(problem: Problem, start: PoseStart, scene: Scene, widest: float) -> Candidate:
    """The candidate of a start that was annealed."""
    sigma = min(max(start.sigma, FIRST_WIDTH * scene.tangential), widest)
    outliers = min(max(1 - start.inliers - MARGIN, LEAST_SHARE), MOST_OUTLIERS)
    return _candidate(problem, start.name, start.transform, sigma, outliers, widest)


def _raw(problem: Problem, name: str, transform: Float64, scene: Scene, widest: float) -> Candidate:
    """The candidate of a pose of which nothing is known."""
    return _candidate(problem, name, transform, FIRST_WIDTH * scene.tangential, FIRST_OUTLIERS, widest)


def _candidate(
    problem: Problem, name: str, transform: Float64, sigma: float, outliers: float, widest: float
) -> Candidate:
    weight = problem.resolved_outliers
    share = outliers if weight == "auto" else max(float(weight), LEAST_OUTLIERS)
    return Candidate(name, Parameters(transform, sigma if problem.sigma is None else widest, share))
