"""The tuning constants of the starts, one record for each stage.

A spacing is the median distance between neighbouring targets; a width is the standard deviation σ of the kernel.
Log-ratios are in nats. Each record names the scenario of `python -m benchmarks.registration` (or the part of it) that
measures its effect: the share of poses found, and the time. Compiled loops read these records when they are compiled.
"""

from __future__ import annotations

from typing import NamedTuple


class AnnealingTuning(NamedTuple):
    """Robust EM while the width falls. Measured by: success."""

    source_points: int = 1000  # at each level
    coarsest_targets: int = 500
    most_targets: int = 32_000  # at the finest level; the climb that follows uses all
    thinned_spacing: float = 0.8  # spacing, in widths, down to which a level thins the targets
    width_ratio: float = 0.7  # of one level's width to that before it
    # Width, in spacings, above which the kernel blurs neighbouring targets: residuals there measure the kernel, and
    # below it the noise.
    blurred_spacings: float = 0.5
    past_best: float = 0.25  # the width falls on to this share of the width of the best score
    most_levels: int = 48
    most_steps: int = 8  # at one level
    settled_step: float = 0.03  # root mean square step, in widths, that ends a level
    cutoff: float = 9.0  # exponent at which the kernel is cut off
    outlier_shares: tuple[float, ...] = (0.02, 0.1, 0.25, 0.4, 0.55)  # that the score of a level tries
    # Widths, in spacings of the thinned source, at which a level is scored; wider kernels match outlines alone.
    scored_spacings: float = 0.7


class SmoothTuning(NamedTuple):
    """The smooth density that matches are compared with. Measured by: success, with partial overlap."""

    spacings: float = 2.0  # its width, which resolves the outline and nothing finer
    cutoff: float = 4.0  # exponent at which its kernel is cut off


class NearTuning(NamedTuple):
    """Starts from a pose that the caller names or gives. Measured by: speed."""

    first_spacings: float = 2.5  # first width, in spacings of `spacing_points` targets
    spacing_points: int = 500
    narrow_spacings: tuple[float, float] = (0.7, 0.3)  # first widths for a pose that is right already
    enough_inliers: float = 0.8  # with a smaller share of inliers, annealing is repeated from afar
    distinct_spacings: float = 0.4  # noise, in spacings, below which targets are distinguishable
    # The compiled descent suffices at one of these: share of inliers, and at most this width in spacings.
    descent_suffices: tuple[tuple[float, float], ...] = ((0.8, 0.4), (0.96, 0.6))
    descent_points: int = 25_000  # largest cloud for which the compiled descent comes first
    coarse_targets: int = 1000  # that the descent uses at wide widths
    explained_targets: int = 6000  # that the moved source explains, for transforms with a scale


class DescentTuning(NamedTuple):
    """The compiled annealing of small problems. Measured by: speed, up to 20,000 points."""

    width_ratio: float = 0.6  # of one level's width to that before it
    most_visits: int = 4  # steps at one width
    # Root mean square step, in widths, that ends a level: while targets are blurred, and once they are distinguishable.
    blurred_step: float = 0.04
    distinct_step: float = 0.2
    # A step continues a series if it is at least this share of the last one. It is extrapolated by at most this factor.
    least_ratio: float = 0.3
    most_gain: float = 6.0
    most_steps: int = 64  # in all
    # At wide widths this many source points for every thousand targets suffice, down to this width in spacings.
    sample_per_thousand: int = 64
    sample_spacings: float = 0.5
    coarse_spacings: float = 0.8  # least width, in spacings of the coarse targets, at which the coarse targets suffice
    cutoff: float = 9.0  # exponent at which the kernel is cut off
    blurred_spacings: float = 0.5  # width, in spacings, below which residuals measure the noise
    settled_share: float = 0.92  # least ratio of the residuals to such a width that ends the descent


class TranslationTuning(NamedTuple):
    """The search for a translation. Measured by: success, any translation."""

    vote_points: int = 2048  # of each cloud; the search holds all their differences
    # Another translation this many widths away, and less than this much worse, is the runner-up.
    rival_widths: float = 3.0
    rival_nats: float = 0.2  # for each source point


class SearchTuning(NamedTuple):
    """The search for a pose from anywhere. Measured by: success, any rotation; figures."""

    rotations_in_plane: int = 90  # tried about the centroids
    rotations_in_space: int = 700
    rotation_source: int = 120  # points that judge a rotation
    rotation_targets: int = 300
    rotations_kept: int = 10
    rotations_together: int = 32  # judged between two opportunities for other jobs, in milliseconds
    upright: float = 1e-3  # score, times the trace of the rotation, that decides between equal rotations
    triangles_kept: int = 10  # poses from triangles that are annealed
    clear_kept: int = 2  # if the best of them stands out
    first_points: int = 300  # source points of the first annealing
    annealed_again: int = 6  # poses that are annealed again, on more points
    again_width: float = 1.4  # first width of that, in widths reached
    tie: float = 1e-4  # score for each point below which poses are equal
    same_pose: float = 0.05  # distance, in deviations of the target, below which two poses are the same
    compared_points: int = 200  # sample that distances between poses are computed on


class LandscapeTuning(NamedTuple):
    """The map that tests of hypotheses look up. Measured by: success, two thirds and half overlap."""

    widths: tuple[float, ...] = (0.04, 0.08, 0.16, 0.32, 0.64, 1.28)  # the ladder of kernel widths, in spacings
    miss_share: float = 0.35  # w, which suits clouds with a few outliers and cropped clouds alike
    voxel_spacings: float = 0.35  # side of a voxel
    most_voxels: int = 400_000
    reach_spacings: float = 2.5  # distance up to which a voxel has a nearest target
    cutoff: float = 8.0  # exponent at which the kernels of the narrow density are cut off


class CongruenceTuning(NamedTuple):
    """The search for congruent triangles. Measured by: success, outliers in both; half overlap."""

    tests: int = 48  # the most source points near a triangle that test a hypothesis
    reject: float = -3.0  # summed log-ratio below which a hypothesis is rejected
    looks: int = 40  # third corners that can be visited in the time of one test of a hypothesis
    part: int = 10_000  # hypotheses that are tested between two opportunities for other jobs, in milliseconds
    kept: int = 24  # hypotheses of a triangle that are refined
    upright: float = 1e-3  # log-ratio, times the trace of the rotation, that decides between equal hypotheses
    drawn: int = 200  # random triangles for each one used
    rivals: int = 8  # triangles of one size from which the rarest is chosen


class GrowingTuning(NamedTuple):
    """The refinement of hypotheses. Measured by: success, two thirds and half overlap."""

    reaches: tuple[int, ...] = (40, 120)  # points around the triangle that the first rounds use
    rounds: int = 2  # at each reach
    last_rounds: int = 4  # on all test points
    worth: float = -0.25  # least log-ratio for each point of the neighbourhood for a pose to be refined further
    least_odds: float = -6.0  # log-odds below which a pair has no weight


class Try(NamedTuple):
    """One round of triangles at one tolerance."""

    tolerance: float  # largest error of a side, in spacings
    rung: int  # of the landscape's ladder
    bases: int  # triangles
    budget: int  # the most hypotheses to test


class HypothesesTuning(NamedTuple):
    """The rounds of triangles, and the choice among their poses. Measured by: success; figures, bunny."""

    corners: int = 1500  # points of either cloud whose triangles are compared
    targets: int = 4000  # that a pose may hit
    smooth_targets: int = 600  # of the smooth density
    smooth_spacing_targets: int = 256  # whose spacing scales the smooth density
    verdict_points: int = 400  # of the source that score a pose
    # The noise is unknown. The number of hypotheses grows as the cube of the tolerance, so fine rounds are cheap. While
    # the tolerance is below the noise, the chance of finding the pose grows as the cube as well. No tolerance is 1,
    # because two distances in a square grid may differ by exactly one spacing.
    tries: tuple[Try, ...] = (
        Try(0.15, 2, 60, 600_000),
        Try(0.3, 3, 100, 2_000_000),
        Try(0.6, 4, 80, 2_000_000),
        Try(0.99, 5, 30, 1_000_000),
    )
    # A pose stands out if this many triangles lead to it, and its log-ratio for each point exceeds all others by this.
    agreeing: int = 3
    margin: float = 0.3
    chance: float = -0.5  # log-ratio that chance may reach, if there is no other pose to compare with
    # A pose with this many triangles and this log-ratio cannot be improved on, although others may equal it.
    saturated: int = 8
    certain: float = 0.8
    # Factors by which the scale may differ from the ratio of the spreads, which outliers and cropping change.
    scales: tuple[float, ...] = (1.05, 1.5)
    most: int = 32  # poses that are kept
    tie: float = 0.01  # log-ratio for each point below which poses are equal; the voxels' error is of that size
    upright: float = 1e-4  # log-ratio for each point, times the trace of the rotation, that decides which ones are kept
    apart_deviations: float = 0.1  # least root mean square distance of two of them, in deviations of the target
    compared_points: int = 100  # sample that these distances are computed on


class AffineTuning(NamedTuple):
    """The search for an affine map. Measured by: trust, its affine problems."""

    # Scores of a start, in the plane and in space, from which on no reflection is tried. Wrong maps score higher in
    # space, where they have more numbers to fit.
    clear: tuple[float, float] = (0.35, 0.9)


class ExhaustiveTuning(NamedTuple):
    """The search through all triangles of a few points. Measured by: `tests.service.em.test_few_pairs`."""

    most_points: int = 50  # of either cloud
    enough: float = 0.8  # share of the smaller cloud with a partner for which there is no search
    reach: float = 0.005  # largest distance between partners, in units of the target's extent
    slack: float = 0.6  # largest error of a corner of a triangle, in units of the reach
    scale: float = 4.0  # factor by which the scale may differ from the ratio of the spreads
    most_triangles: int = 10_000  # of the source, if the pose has a scale
    kept: int = 6  # poses that are fitted to their partners
    fits: int = 5  # of each
    margin: float = 7.0  # nats by which a pose must be less of a coincidence than the one that it replaces


ANNEALING = AnnealingTuning()
SMOOTH = SmoothTuning()
NEAR = NearTuning()
DESCENT = DescentTuning()
TRANSLATIONS = TranslationTuning()
SEARCH = SearchTuning()
AFFINE_START = AffineTuning()
EXHAUSTIVE = ExhaustiveTuning()
LANDSCAPE = LandscapeTuning()
CONGRUENCE = CongruenceTuning()
GROWING = GrowingTuning()
HYPOTHESES = HypothesesTuning()
