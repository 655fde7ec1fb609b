"""The constants of the verdict. `python -m benchmarks.registration.trust` measures their effect.

A spacing is the median distance between neighbouring points; evidence is in nats.
"""

from __future__ import annotations

from typing import NamedTuple


class PointsTuning(NamedTuple):
    """The comparison point by point. Compiled loops read this record when they are compiled."""

    first: int = 48  # source points that are compared at first
    sample: int = 256  # source points that are compared if those do not decide
    overlap: int = 128  # points of either cloud whose partners are searched for the overlap
    most: int = 50_000  # points of either cloud; larger clouds are compared as surfaces only
    dense: int = 2048  # points up to which all pairs are visited
    side: float = 4.0  # of a grid's cells, in extents of the cloud / √N
    narrow: float = 0.5  # widest of the narrow kernels that are tried besides σ, in spacings of the target
    own: float = 3.0  # widest of the smooth kernels of the source, in its spacings; they are cross-validated
    smooth: float = 2.0  # the smooth kernel of the target, in the larger of both spacings


class SurfaceTuning(NamedTuple):
    """The comparison with surface patches."""

    points: int = 4000  # of either cloud, at most
    strided: int = 30_000  # points that are thinned
    tested: int = 200  # points whose neighbours must not lie on a line
    least: int = 80  # points of either cloud that a surface needs
    sample: int = 1500
    coarse: int = 1000  # points of the smooth density
    smooth: float = 2.0  # its kernel, in spacings of that many points
    along: float = 0.7  # width of a patch along the surface, in spacings
    across: tuple[float, ...] = (1.0, 0.5, 0.25, 0.12, 0.06)  # and across it, in widths along it
    near: float = 3.0  # spacings within which a point is near the other cloud
    patch: int = 10  # points that a patch is fitted to, at least, and the radius around it in spacings
    radius: float = 1.8
    flat: float = 0.05  # ratio of a patch's two least variances below which it is flat
    wide: float = 0.1  # ratio of the second largest to the largest from which on it is wide
    one_sided: float = 0.3  # distance to the mean of the points around, in radii, from which on a point is at an edge
    upright: float = 0.95  # cosine to the patch's normal of a point that lies in front of the patch or behind it


class PeakTuning(NamedTuple):
    """The comparison with poses nearby."""

    least: int = 140  # points of either cloud
    most: int = 5000
    sample: int = 128  # source points that are compared
    motions: int = 24
    lengths: tuple[float, float] = (4.0, 8.0)  # of the motions, in σ
    dense: float = 0.3  # least σ, in spacings of the target
    small: float = 0.03  # largest σ, in extents of the target
    near: float = 3.0  # distance in σ of a partner


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
    agreement: float = 0.6  # least share of nearby points that agree with a surface
    evidence: float = 0.5  # least evidence of each nearby point
    errors: float = 8.0  # least evidence in standard errors
    agreement_of_few: float = 0.85  # the same for clouds of up to `scan` points, whose shapes are coarse
    errors_of_few: float = 10.0
    peak: float = 9.0  # least height of a peak; among 150 hopeless pairs of key points it reaches 7.8
    hovering: float = 0.0105  # most points off a surface, of all
    pull: float = 0.016  # extents of the target by which unmatched points may pull the answer
    pull_errors: float = 2.2  # and in standard errors
    unmatched: float = 0.5  # largest share for which the comparison by points alone suffices
    pairs: int = 2  # least matched points beyond those that determine the transform
    distinct: float = 0.5  # least share of distinct targets among the matches
    weak_evidence: float = 1.5  # nats of a source point below which a mirror image is registered, too
    weak_total: float = 200.0  # and nats of all source points below which it is
    weak_score: float = 1.0  # nats of a source point of a scan below which its mirror image is compared
    score_gain: float = 0.3  # and how many it must gain
    far_more: float = 1.5  # times the evidence of the answer that it must have to be the better explanation
    weak: float = 0.024  # information of each point below which a direction is tried
    step: float = 2.0  # the displacement with which it is tried, in spacings
    kept: float = 0.8  # least share of points that are still on the surface after an undetermined displacement
    kept_by_turn: float = 0.94  # the same for a turn, which moves the points near its axis little
    freedom_points: int = 30  # least points on a surface


POINTS, SURFACE, PEAK, VERDICT = PointsTuning(), SurfaceTuning(), PeakTuning(), VerdictTuning()
