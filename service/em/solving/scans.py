"""Registration of scans as surfaces: from even clouds with patches to the pose, and from there to every point."""

from __future__ import annotations

from ..climbing.climb import Climb, climb
from ..climbing.record import Record
from ..coordinates import Frame
from ..kinds import RIGID
from ..model import MOST_OUTLIERS, Model, Parameters
from ..outcome import Outcome, RunnerUp, doubted
from ..problem import Problem
from ..quality.alternatives import MIRRORED
from ..quality.tuning import VERDICT
from ..sampling.density import LEAST_POINTS
from ..sampling.thinning import Thinned
from ..surfaces.confidence import cells_of, surface_confidence
from ..surfaces.equations import LIKELIHOOD, Settled, settled
from ..surfaces.mixture import SurfaceMixture, SurfaceStep
from ..surfaces.normals import normals_of_voxels
from ..surfaces.scene import Given, Scene, scene
from ..surfaces.search import find_poses, mirrored_score
from .pose_answers import ClimbEnd, outcome, pose_of
from .scan_pairs import side_of, surface_pairs

# The widest kernel, in τ. A wider kernel than the smooth density gains nothing.
WIDEST = 1.0
# The climb ends at this tolerance, in σ, or at the caller's if that is larger: `settled` goes on from there.
TOLERANCE = 0.02
# Source points of the climb.
CLIMBED_POINTS = 4096
# The share of either cloud that must surely have a patch for "auto" to take both for surfaces. If noise hides more of
# them, the isotropic mixture is faster, and more exact where the clouds have points in common. Means of voxels are not
# points of both, so that fewer patches suffice.
LEAST_FLAT, LEAST_FLAT_OF_MEANS = 0.28, 0.15


def surfaces_of(problem: Problem, points: Frame, thin: Thinned) -> Scene | None:
    """The surfaces of a problem whose noise is that of surfaces, given or chosen; else None."""
    if problem.noise == "surface":
        return scene(thin.frame, given=_given(problem, points, thin))
    if not chooses(problem, thin):
        return None
    least = LEAST_FLAT if thin.side is None else LEAST_FLAT_OF_MEANS
    return scene(thin.frame, least, _given(problem, points, thin))


def chooses(problem: Problem, thin: Thinned) -> bool:
    """Whether the patches decide if the noise is that of surfaces."""
    small = min(len(thin.source.of), len(thin.target.of)) < LEAST_POINTS
    fits = problem.kind.code == RIGID and problem.resolved_normalize == "rows" and problem.matching == "nearest"
    return problem.noise == "auto" and fits and not small


def _given(problem: Problem, points: Frame, thin: Thinned) -> Given:
    """The normals of the problem, for the points of `thin`."""
    return Given(
        normals_of_voxels(problem.source_normals, points.source_order, points.axes, thin.source),
        normals_of_voxels(problem.target_normals, points.target_order, points.axes, thin.target),
    )


def register_scans(problem: Problem, points: Frame, thin: Thinned, scene: Scene, record: Record) -> Outcome:
    """Register a rigid problem, or a translation, with the noise of surfaces.

    Args:
        problem: the problem.
        points: its frame, with all points.
        thin: the clouds to estimate from.
        scene: their surfaces.
        record: of the accepted steps.
    """
    model = Model(
        kind=problem.kind.code,
        estimate_sigma=problem.sigma is None,
        estimate_outliers=problem.resolved_outliers == "auto",
        most_outliers=MOST_OUTLIERS,
    )
    widest = WIDEST * scene.tangential if problem.sigma is None else problem.sigma / points.target_unit
    found = find_poses(problem, thin.frame, scene, model, widest, record.poll)
    mixture = SurfaceMixture(scene, model, widest)
    best = found[0]
    end, pose = _settled(problem, mixture, best.parameters, record)
    runner_up = None
    if len(found) > 1:
        gap = (best.score - found[1].score) * scene.source.shape[1]
        runner_up = RunnerUp(pose_of(points, found[1].parameters.transform), gap)
    sure, last = surface_confidence(problem, points, mixture, pose)
    pairs = surface_pairs(problem, points, thin, scene, mixture, last, record.poll)
    answer = outcome(
        problem,
        points,
        pose.at,
        pairs,
        sure,
        record,
        ClimbEnd(end.iterations, end.converged, best.name),
        runner_up,
        most_outliers=model.most_outliers if model.estimate_outliers else None,
        estimated=thin.frame,
    )._replace(noise="surface", sampling=side_of(points, thin))
    searched = problem.init_name == "auto" and scene.dimension == 3 and model.kind == RIGID
    is_good = answer.quality is not None and answer.quality.verdict == "good"
    if searched and is_good and best.score < VERDICT.weak_score:
        other = mirrored_score(problem, scene, model, widest, record.poll)
        if other > max(VERDICT.far_more * best.score, best.score + VERDICT.score_gain):
            return doubted(answer, MIRRORED)
    return answer


def _settled(
    problem: Problem, mixture: SurfaceMixture, start: Parameters, record: Record
) -> tuple[Climb[SurfaceStep], Settled]:
    """The end of the climb from `start`, and the pose near it where the equations of all points hold.

    The climb only has to reach the basin of the equations, so that a sample of the points suffices for it.
    """
    scene, cells = mixture.scene, cells_of(mixture.scene)
    some = scene.sample(CLIMBED_POINTS)
    growth = scene.source.shape[1] / len(some)
    sample = mixture if growth == 1 else SurfaceMixture(scene.some(some), mixture.model, mixture.widest)

    def on(points: SurfaceMixture, growth: float) -> Climb[SurfaceStep]:
        return climb(
            points,
            start,
            tolerance=max(problem.tolerance, TOLERANCE) if problem.tolerance else 0.0,
            max_iterations=problem.max_iterations,
            floor=scene.floor,
            accept=lambda at, value: record.keep(at, growth * value),
        )

    path = len(record.path)
    end = on(sample, growth)
    pose = settled(mixture, end.parameters, cells)
    if growth != 1 and pose.along == LIKELIHOOD:
        # The equations are tried again from the end of a climb on all points. If they fail, that is the answer.
        record.forget(path)
        end = on(mixture, 1.0)
        pose = settled(mixture, end.parameters, cells)
    return end, pose
