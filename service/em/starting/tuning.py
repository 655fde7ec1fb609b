"""The tuning constants of the starts, one record for each stage.

`benchmarks/registration` measures what they decide: the share of poses found, and the time. A spacing is the median
distance between neighbouring targets; a width is the standard deviation σ of the kernel. Compiled stages (`descent`,
`growing`, `congruence`, `landscape`) keep their constants beside the loops that they are compiled into.
"""

from __future__ import annotations

from typing import NamedTuple


class AnnealingTuning(NamedTuple):
    """Robust EM while the width falls."""

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
    least_volume: float = 1e-100  # lower bound of |det A| in a score


class SmoothTuning(NamedTuple):
    """The smooth density that matches are compared with."""

    spacings: float = 2.0  # its width, which resolves the outline and nothing finer
    cutoff: float = 4.0  # exponent at which its kernel is cut off


class NearTuning(NamedTuple):
    """Starts from a pose that the caller names or gives."""

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


class TranslationTuning(NamedTuple):
    """The search for a translation."""

    vote_points: int = 2048  # of each cloud; the search holds all their differences
    # Another translation this many widths away, and less than this much worse, is the runner-up.
    rival_widths: float = 3.0
    rival_nats: float = 0.2  # for each source point


class SearchTuning(NamedTuple):
    """The search for a pose from anywhere."""

    rotations_in_plane: int = 90  # tried about the centroids
    rotations_in_space: int = 700
    rotation_source: int = 120  # points that judge a rotation
    rotation_targets: int = 300
    rotations_kept: int = 10
    triangles_kept: int = 10  # poses from triangles that are annealed
    clear_kept: int = 2  # if the best of them stands out
    first_points: int = 300  # source points of the first annealing
    annealed_again: int = 6  # poses that are annealed again, on more points
    again_width: float = 1.4  # first width of that, in widths reached
    same_pose: float = 0.05  # distance, in spreads of the target, below which two poses are the same
    compared_points: int = 200  # sample that distances between poses are computed on


ANNEALING = AnnealingTuning()
SMOOTH = SmoothTuning()
NEAR = NearTuning()
TRANSLATIONS = TranslationTuning()
SEARCH = SearchTuning()
