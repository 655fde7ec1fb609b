"""Registration of one problem by any transform, prior and normalisation, in memory that grows with N + M.

First, `frame` brings both clouds into coordinates of magnitude about 1. Second, `pose_start` names or searches a start
and anneals it on a sample of the points. Third, `climb` runs EM until it settles, on growing samples and finally on all
points. Fourth, `outcome` combines the hard matching, the covariances and the warnings. The literal model (prior free)
has no acceleration, and no annealing unless a start is searched.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...errors import InvalidInput
from ..ambiguity import difference
from ..cancellation import Cancelled, unfinished
from ..climbing.climb import Anderson, Climb, climb
from ..climbing.confidence import confidence
from ..climbing.correspondence import correspondence, refined
from ..climbing.mixture import Mixture, Step
from ..climbing.record import Record
from ..coordinates import Frame, check_rank, frame
from ..kernel.coincidence import needed_pairs
from ..kernel.fitting import rms_distance
from ..kernel.spacing import spacing_between
from ..kinds import ROTATION_DIMENSIONS
from ..model import EXACT, LEAST_OUTLIERS, MOST_POSE_OUTLIERS, NONE, Model, Parameters, cutoff_for, outlier_volume
from ..outcome import Outcome, RunnerUp
from ..problem import Problem
from ..ranges import check_ranges
from ..sampling.options import may_choose
from ..sampling.thinning import Thinned, thinned
from ..slices import blocks, pause, sliced
from ..starting.named import given
from ..starting.pose_starts import pose_start
from ..starting.starts import PoseStart
from ..starting.tuning import NEAR
from ..weights import effective_count
from .deformed import register_nonrigid
from .known import known, sample, shares, weights_of_pairs
from .literal_poses import register_literal
from .paired_starts import paired_start
from .pose_answers import ClimbEnd, outcome, pose_of
from .scan_pairs import isotropic_pairs, side_of
from .scans import chooses, register_scans, surfaces_of

Float64 = NDArray[np.float64]

# The climb first runs on samples of the points. Each level has LEVEL_GROWTH times the points of the one before, from
# at least LEAST_LEVEL points, and stops at the accuracy that its points allow.
LEVEL_GROWTH = 4
LEAST_LEVEL = 1000
LEVEL_ITERATIONS = 40
LEVEL_ACCURACY = 0.05
# Points on which the best pose and its runner-up are compared.
RIVAL_POINTS = 4096
# The share of outliers at which the climb begins is that of the annealing less OUTLIER_MARGIN, and at least
# FIRST_OUTLIERS: the bin of the annealing includes some inliers, and a low estimate rises faster than a high one falls.
OUTLIER_MARGIN = 0.05
FIRST_OUTLIERS = 0.005
# If a level estimates fewer outlying points than this, the next one begins at LEAST_OUTLIERS.
FEW_OUTLIERS = 2.0
# Below this share of unmatched points the likelihood ranks poses.
FEW_UNMATCHED = 0.1
# If a refinement lowers the log-likelihood by more nats than this, some of its pairs are wrong.
BAD_PAIRS = 20.0
# At least MATCHED times as many points as determine a transform must be inliers: fewer could match exactly by
# coincidence, with an unbounded likelihood.
MATCHED = 4


def register_pose(problem: Problem) -> Outcome:
    """Register one problem that `checks.check` has returned.

    Raises InvalidInput where the points do not determine a transform of this kind, and where `check_ranges` does.
    """
    record = Record(problem)
    try:
        with sliced(record.poll):
            points = frame(
                problem.source,
                problem.target,
                one_unit=problem.kind.one_unit,
                keep_order=problem.prior_name == "given",
            )
            pause()
            check_ranges(problem, points)
            check_rank(points, problem.kind.rank(points.dimension), problem.transform)
            pause()
            return _solved(problem, points, record)
    except Cancelled:
        return unfinished(problem)


def _solved(problem: Problem, points: Frame, record: Record) -> Outcome:
    if problem.prior_name == "free":
        return register_literal(problem, points, record)
    solid = False
    if may_choose(problem):
        thin = thinned(points, problem.sampling)
        _check_left(problem, points, thin)
        surfaces = surfaces_of(problem, points, thin)
        if surfaces is not None:
            return register_scans(problem, points, thin, surfaces, record)
        if thin.side is not None:
            return _register_thinned(problem, points, thin, record)
        solid = chooses(problem, thin)
    if problem.kind.deforms and not isinstance(problem.init, str):
        return register_nonrigid(problem, points, given(problem, points), "given", record)
    if problem.pairs is None:
        start = pose_start(problem, points, record.poll)
    else:
        start = paired_start(problem, points, _model(problem, points), partial(_parameters, problem, points), record)
    record.record_path(start.path)
    if problem.kind.deforms:
        return register_nonrigid(problem, points, start.transform, start.name, record)
    return _register(problem, points, start, record, solid=solid)


def _check_left(problem: Problem, points: Frame, thin: Thinned) -> None:
    """Raise InvalidInput if the voxels leave too few points to determine the transform."""
    if thin.side is None:
        return
    try:
        check_rank(thin.frame, problem.kind.rank(points.dimension), problem.transform)
    except InvalidInput as error:
        left, right = len(thin.source.counts), len(thin.target.counts)
        raise InvalidInput(
            f"voxels of {thin.side * points.target_unit:g} leave {left} source and {right} target points: {error}",
            pointer="/sampling",
            allowed='a smaller length, or "all"',
        ) from None


def _register_thinned(problem: Problem, points: Frame, thin: Thinned, record: Record) -> Outcome:
    """The answer for all points, from an estimation on the means of voxels."""
    start = pose_start(problem, thin.frame, record.poll)
    record.record_path(start.path)
    model, parameters, volume, runner_up = _begun(problem, thin.frame, start, record)
    climbed, mixture = _climb(problem, thin.frame, model, volume, parameters, record)
    end = ClimbEnd(climbed.iterations, climbed.converged, start.name)
    sure = confidence(problem, thin.frame, mixture, climbed.parameters, climbed.last.matched)
    pairs = isotropic_pairs(problem, points, thin, model, volume, climbed.parameters, record.poll)
    warnings = _start_warnings(problem, thin.frame, start)
    most = model.most_outliers if model.estimate_outliers else None
    found = outcome(
        problem,
        points,
        climbed.parameters,
        pairs,
        sure,
        record,
        end,
        runner_up,
        warnings,
        most_outliers=most,
        estimated=thin.frame,
    )
    return found._replace(sampling=side_of(points, thin))


def _begun(
    problem: Problem, points: Frame, start: PoseStart, record: Record
) -> tuple[Model, Parameters, float, RunnerUp | None]:
    """The model, the parameters at which the climb begins, the volume of the outliers, and the runner-up."""
    model, parameters = _model(problem, points), _parameters(problem, points, start)
    D = points.dimension
    with np.errstate(over="ignore"):  # in hundreds of dimensions; `log_of_volume` bounds it
        grown = 1.0 if problem.kind.one_unit else abs(float(np.linalg.det(start.transform[:, :D])))
    volume = max(outlier_volume(points.target, D), outlier_volume(points.source, D) * grown)
    model, parameters = _with_few_pairs(problem, points, start, volume, model, parameters)
    runner_up = None
    if start.runner_up is not None and not len(model.log_prior):
        parameters, runner_up = _ranked(points, model, volume, parameters, start.runner_up, record)
    return model, parameters, volume, runner_up


def _with_few_pairs(
    problem: Problem, points: Frame, start: PoseStart, volume: float, model: Model, parameters: Parameters
) -> tuple[Model, Parameters]:
    """A model that leaves more points unmatched, if the pairs of the start are exact enough to be no coincidence."""
    n, m = points.source.shape[1], points.target.shape[1]
    if problem.resolved_outliers != "auto" or not problem.kind.rotates or effective_count(problem, n) != n:
        return model, parameters
    needed = needed_pairs(n, m, points.dimension, max(start.sigma, points.floor), volume, scales=problem.kind.scales)
    most = min(MOST_POSE_OUTLIERS, 1 - needed / n)
    if most <= model.most_outliers or round(start.inliers * n) < needed:
        return model, parameters
    weight = min(max(1 - start.inliers - OUTLIER_MARGIN, FIRST_OUTLIERS), most)
    return model._replace(most_outliers=most, estimate_outliers=True), parameters._replace(outliers=weight)


def _register(problem: Problem, points: Frame, start: PoseStart, record: Record, *, solid: bool) -> Outcome:
    """The climb from `start`, and the answer. `solid` is that of its `ClimbEnd`."""
    model, parameters, volume, runner_up = _begun(problem, points, start, record)
    climbed, mixture = _climb(problem, points, model, volume, parameters, record)
    pairs = correspondence(problem, mixture.view(climbed.last), record.poll)
    parameters, last = climbed.parameters, climbed.last
    warnings = _start_warnings(problem, points, start)
    if problem.refine:
        before = mixture.step(parameters).log_likelihood
        if problem.trace:
            # The trace is that of the climb and ends with it.
            record.keep(parameters, before)
        weights = weights_of_pairs(model, pairs.match)
        at = refined(points, model.kind, parameters.transform, pairs.match, weights)
        parameters = parameters._replace(transform=at)
        last = mixture.step(parameters)
        lost = before - last.log_likelihood
        if lost > BAD_PAIRS:
            warnings += (
                f"the refined transform is {lost:.3g} nats less likely: some matched pairs are wrong; an "
                "outlier_weight lets points stay unmatched",
            )
    sure = confidence(problem, points, mixture, parameters, last.matched)
    end = ClimbEnd(climbed.iterations, climbed.converged, start.name, solid)
    most = model.most_outliers if model.estimate_outliers else None
    return outcome(problem, points, parameters, pairs, sure, record, end, runner_up, warnings, most_outliers=most)


def _start_warnings(problem: Problem, points: Frame, start: PoseStart) -> tuple[str, ...]:
    """Warnings about the start."""
    D = points.dimension
    searched = problem.init_name == "auto" and problem.kind.shears and D not in ROTATION_DIMENSIONS
    distance = start.sigma * math.sqrt(D)  # from a point to its partner
    if not searched or (
        start.inliers >= NEAR.enough_inliers and distance < NEAR.distinct_spacings * spacing_between(points.target, D)
    ):
        return ()
    return (
        f"in {D} dimensions an affine start is computed from the clouds' moments only, and no such start matches most "
        "of the points; give init if you know the pose",
    )


def _model(problem: Problem, points: Frame) -> Model:
    n, m = points.source.shape[1], points.target.shape[1]
    prior = problem.resolved_prior
    log_prior = NONE
    if isinstance(prior, np.ndarray):
        log_prior = np.empty_like(prior)
        for some in blocks(len(prior), prior.shape[1]):
            with np.errstate(divide="ignore"):
                np.log(prior[some], out=log_prior[some])
    most = _most_outliers(problem, points)
    return Model(
        kind=problem.kind.code,
        normalize=problem.resolved_normalize,
        mixing=problem.prior_name == "mixing",
        estimate_sigma=problem.sigma is None,
        estimate_outliers=problem.resolved_outliers == "auto" and most > 0,
        most_outliers=most,
        cutoff=EXACT if len(log_prior) else cutoff_for(n, m),
        log_prior=log_prior,
        known=known(problem, points),
    )


def _most_outliers(problem: Problem, points: Frame) -> float:
    """The largest share of outliers that leaves enough points to distinguish a pose from a coincidence."""
    count = (points.target if problem.resolved_normalize == "columns" else points.source).shape[1]
    effective = effective_count(problem, int(count))
    return max(0.0, min(MOST_POSE_OUTLIERS, 1.0 - MATCHED * (points.dimension + 1) / effective))


def _parameters(problem: Problem, points: Frame, start: PoseStart) -> Parameters:
    """The parameters at which the climb begins."""
    sigma = max(start.sigma, points.floor) if problem.sigma is None else problem.sigma / points.target_unit
    weight = problem.resolved_outliers
    if weight == "auto":
        weight = min(max(1 - start.inliers - OUTLIER_MARGIN, FIRST_OUTLIERS), _most_outliers(problem, points))
    return Parameters(start.transform, sigma, float(weight), shares(problem, points))


def _climb(
    problem: Problem, points: Frame, model: Model, volume: float, parameters: Parameters, record: Record
) -> tuple[Climb[Step], Mixture]:
    n = (points.target if model.normalize == "columns" else points.source).shape[1]
    anderson = Anderson(model)
    # The row sums and the column sums of sinkhorn need all points.
    for count in _levels(n) if model.normalize != "sinkhorn" else ():
        parameters = climb(
            Mixture(points, model, volume, sample(n, count, model.known)),
            parameters,
            tolerance=max(problem.tolerance, LEVEL_ACCURACY / math.sqrt(count)),
            max_iterations=LEVEL_ITERATIONS,
            floor=points.floor,
            accept=lambda _at, _step: record.poll(),
            anderson=anderson,
        ).parameters
        if model.estimate_outliers and count * parameters.outliers < FEW_OUTLIERS:
            # The estimate would decrease slowly; if the outliers are real, the climb on all points finds them.
            parameters = parameters._replace(outliers=LEAST_OUTLIERS)
        record.record_path([parameters.transform])
    mixture = Mixture(points, model, volume)

    climbed = climb(
        mixture,
        parameters,
        tolerance=problem.tolerance,
        max_iterations=problem.max_iterations,
        floor=points.floor,
        accept=record.keep,
        anderson=anderson,
        at_once=n <= LEAST_LEVEL,
    )
    return climbed, mixture


def _levels(n: int) -> list[int]:
    """The number of points of each level, in rising order."""
    out = []
    while n >= LEVEL_GROWTH * LEAST_LEVEL:
        n //= LEVEL_GROWTH
        out.append(n)
    return out[::-1]


def _ranked(
    points: Frame, model: Model, volume: float, start: Parameters, other: Float64, record: Record
) -> tuple[Parameters, RunnerUp | None]:
    """The better of two poses, with the other as its runner-up, after a climb of both on the same points.

    If there are few outliers, the likelier pose is better, and `start` is better than one that is equally likely.
    Otherwise the likelihood, which spreads outliers evenly, may prefer clouds that agree only in outline. In that case
    `start` is kept, whose score does not have this weakness.
    """
    n = (points.target if model.normalize == "columns" else points.source).shape[1]
    count = min(n, RIVAL_POINTS)
    whole = count == n or model.normalize == "sinkhorn"
    starts = start, start._replace(transform=other)
    ends = [
        climb(
            Mixture(points, model, volume, None if whole else sample(n, count, model.known)),
            begin,
            tolerance=1e-2,
            max_iterations=LEVEL_ITERATIONS,
            floor=points.floor,
            accept=lambda _at, _step: record.poll(),
            at_once=True,
        )
        for begin in starts
    ]
    between = rms_distance(points.source, *(end.parameters.transform for end in ends))
    if between < min(end.parameters.sigma for end in ends) + points.floor:
        return start, None  # both climbs end at the same pose
    gap = difference(*(end.last.log_likelihood for end in ends))
    # The likelihood of known pairs tells poses apart that agree in outline.
    whole_clouds = len(model.known.paired) > 0 or max(end.parameters.outliers for end in ends) < FEW_UNMATCHED
    best = int(gap < 0 and whole_clouds)
    gap *= (-1 if best else 1) * (1 if whole else n / count)
    return starts[best], RunnerUp(pose_of(points, ends[1 - best].parameters.transform), gap)
