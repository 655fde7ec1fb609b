"""The constants of the verdict. `python -m benchmarks.registration.trust` measures their effect.

A spacing is the median distance between neighbouring points; evidence is in nats.
"""

from __future__ import annotations

from typing import NamedTuple


class PointsTuning(NamedTuple):
    """The comparison point by point. Compiled loops read this record when they are compiled."""

    sample: int = 256  # source points that are compared
    small: int = 48  # the same for translations of the batched engine
    work: int = 4_000_000  # pairs: larger clouds have a smaller sample, of at least
    least: int = 32
    most: int = 50_000  # points of either cloud; larger clouds are compared as surfaces only
    widths: tuple[float, ...] = (0.25, 0.1, 0.5)  # kernels in spacings of the target that are tried besides σ
    own: tuple[float, ...] = (0.7, 1.0, 1.5, 2.0, 3.0)  # smooth kernels in spacings of the source, cross-validated
    smooth: float = 2.0  # the smooth kernel of the target, in the larger of both spacings
    rounds: int = 16  # of the estimate of the unmatched share
    unmatched: tuple[float, float] = (0.01, 0.99)  # bounds of that share


class SurfaceTuning(NamedTuple):
    """The comparison with surface patches."""

    points: int = 4000  # of a thinned cloud
    strided: int = 40_000  # points that are thinned
    least: int = 150  # points of either cloud that a surface needs
    sample: int = 500
    coarse: int = 1000  # points of the smooth density
    smooth: float = 2.0  # its kernel, in spacings of that many points
    patch: int = 10  # neighbours that a patch is fitted to
    partners: int = 40  # patches that a point is compared with
    along: float = 0.7  # width of a patch along the surface, in spacings
    across: tuple[float, ...] = (1.0, 0.5, 0.25, 0.12, 0.06)  # and across it, in widths along it
    near: float = 3.0  # spacings within which a point is near the other cloud
    shares: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
    flat: float = 0.05  # ratio of a patch's two least variances below which it is flat
    wide: float = 0.1  # ratio of the second largest to the largest from which on it is wide
    upright: float = 0.95  # cosine to the patch's normal of a point that lies in front of the patch or behind it


class VerdictTuning(NamedTuple):
    """Where the verdict changes."""

    clear: float = 12.0  # log-odds against chance of a good answer
    clear_of_few: float = 40.0  # the same if fewer points match than this share of the source leaves
    unmatched_of_few: float = 0.6
    point_errors: float = 3.5  # evidence in standard errors, of at least
    large: int = 100  # source points; points of larger clouds are correlated
    scan: int = 1000  # points of either cloud above which surfaces are compared, too
    few: int = 8  # source points below which few points are the reason for doubt
    chance: float = 3.0  # log-odds below which an answer is no better than chance
    agreement: float = 0.75  # least share of nearby points that agree with a surface
    evidence: float = 0.5  # least evidence of each nearby point
    errors: float = 2.0  # least evidence in standard errors
    hovering: float = 0.07  # most points off a surface, for each matched one
    hovering_least: float = 0.015  # and of all points, at least
    pull: float = 0.4  # root mean square residuals by which unmatched points may pull the answer
    pull_errors: float = 2.2  # and in standard errors
    unmatched: float = 0.5  # largest share for which the comparison by points alone suffices
    pairs: int = 2  # least matched points beyond those that determine the transform
    distinct: float = 0.5  # least share of distinct targets among the matches
    weak: float = 0.006  # information of each point below which a direction is tried
    weak_if_flat: float = 0.02  # the same if nearly all patches are flat, as those of walls by a lidar are
    step: float = 2.0  # the displacement with which it is tried, in spacings
    kept: float = 0.84  # least share of points that are still on the surface after an undetermined displacement
    freedom_points: int = 30  # least points on a surface


POINTS, SURFACE, VERDICT = PointsTuning(), SurfaceTuning(), VerdictTuning()
