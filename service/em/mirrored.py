"""A mirror image of the source, where the answer fits little better than chance would allow.

A mirror image has the shape of the source, but no rotation makes it the source. Parts of a cloud may fit it
nevertheless: points in a plane, and the outline of a ball. A source that was mirrored by mistake, such as one of a
camera, is then registered by such a part. Its mirror image shows what a true fit of this cloud would be. That of a scan
is compared in `solving.scans`, by its features alone.
"""

from __future__ import annotations

from ..errors import InvalidInput
from .kinds import ROTATION_DIMENSIONS
from .outcome import Outcome, doubted
from .problem import Problem
from .quality.alternatives import MIRRORED
from .quality.tuning import VERDICT
from .solving.weighted import register_weighted
from .weights import positive


def against_mirror_image(problem: Problem, outcome: Outcome) -> Outcome:
    """The outcome of `problem`, doubtful if the mirror image of the source agrees with the target far better."""
    quality = outcome.quality
    if quality is None or quality.verdict != "good" or quality.evidence >= VERDICT.weak_evidence:
        return outcome
    if (kept := positive(problem)) is not None:  # a point of weight 0 takes no part
        problem = kept.problem
    count = len(problem.source)
    if count * quality.evidence >= VERDICT.weak_total or not may_be_mirrored(problem):
        return outcome
    try:
        other = register_weighted(_mirrored(problem)).quality
    except InvalidInput:  # voxels may leave too few points of the mirror image
        return outcome
    if other is None:  # it was cancelled
        return outcome
    gain = count * (other.evidence - quality.evidence)
    if gain < VERDICT.clear or other.evidence < VERDICT.far_more * quality.evidence:
        return outcome
    return doubted(outcome, MIRRORED)


def may_be_mirrored(problem: Problem) -> bool:
    """Whether a mirror image may be registered, too: for few points that are searched for a pose from anywhere."""
    kind, sizes = problem.kind, (len(problem.source), len(problem.target))
    return (
        kind.rotates
        and not kind.shears
        and not kind.deforms
        and problem.source.shape[1] in ROTATION_DIMENSIONS
        and problem.init_name == "auto"
        and problem.pairs is None
        and max(sizes) <= VERDICT.scan
    )


def _mirrored(problem: Problem) -> Problem:
    """The problem of the mirror image, without what its verdict does not need."""
    source = problem.source.copy()
    source[:, 0] = 2 * source[:, 0].mean() - source[:, 0]
    return problem._replace(
        source=source,
        source_normals=None,
        target_normals=None,
        matching="nearest",
        responsibilities=False,
        registered=False,
        trace=False,
        path=False,
    )
