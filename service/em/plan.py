"""How a registration is computed: the engine, its cost, and which other registrations it shares a batch with.

A problem is checked and planned once, when it arrives. Later stages only read the plan.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, NamedTuple

import numpy as np

from .batched.padding import group_key
from .kinds import ROTATION_DIMENSIONS
from .matching import DENSE_PAIRS
from .problem import Pose, Problem

# "batched" computes many translations side by side with torch; "climbing" computes one problem at a time with numba.
# An engine on a CUDA device adds its name here and its condition to `choose_engine`; `register.ENGINES` runs it.
Engine = Literal["batched", "climbing"]

# Fixed cost of one iteration, in pairs.
ITERATION_OVERHEAD = 50_000
# The climbing engine visits at most this many targets for each source point while sigma is estimated.
NEIGHBOURS = 512
# A start that is named or given, and annealed, costs about as much as this many iterations.
START_ITERATIONS = 50
# The search for a pose, in units of effort. It was measured with unrelated clouds, for which no pose stands out. The
# number of poses to compare grows with the points until SEARCH_POINTS; each is compared on a sample of the points.
SEARCH_POINTS = 30
SEARCH_EFFORT = {2: 1e7, 3: 3.5e7}  # for each of these points, by D
SAMPLE_POINTS, SAMPLE_EFFORT = 1000, 1e6  # for each point of the sample
# A displacement of each point adds about this many times the effort of the iterations without one. Beyond MOST_ADDED it
# is not counted: it would change no lane, and what is refused depends on the iterations.
DISPLACEMENT, MOST_ADDED = 5, 1e11
# Edge of the box that the truncated kernel covers, in sigma.
REACH = 10.0


class Plan(NamedTuple):
    """A checked problem and how to compute it."""

    problem: Problem  # as `check` returns it
    engine: Engine
    cost: float  # pairs that one iteration visits
    effort: float  # upper bound of the registration, in pairs x D x iterations, 2 to 3 ns each; it selects the lane
    key: Hashable  # plans with equal keys form a batch


def plan(problem: Problem) -> Plan:
    """The plan of a problem that `check` has returned."""
    engine = choose_engine(problem)
    (n, dimension), m = problem.source.shape, len(problem.target)
    if engine == "batched":
        group = group_key(problem)
        rows, columns = group[:2]
        cost: float = rows * columns
        iterations = problem.max_iterations
        # Problems that may need equally many iterations finish together.
        key: Hashable = group, iterations, problem.tolerance
    else:
        cost = (n + m) * _neighbours(problem)
        iterations = problem.max_iterations + START_ITERATIONS
        # A unique key: this engine computes problems one by one, so that a batch would only delay the first.
        key = object()
    effort = (cost * dimension + ITERATION_OVERHEAD) * iterations
    added = min(DISPLACEMENT * effort, MOST_ADDED) if problem.kind.deforms else 0.0
    return Plan(problem, engine, cost, effort + added + search_effort(problem), key)


def search_effort(problem: Problem) -> float:
    """Upper bound of the search for a pose from anywhere, in the unit of `Plan.effort`; 0 without a search."""
    kind, dimension = problem.kind, problem.source.shape[1]
    searched = kind.rotates or kind.shears
    if not searched or problem.init_name != "auto" or dimension not in ROTATION_DIMENSIONS:
        return 0.0
    sizes = len(problem.source), len(problem.target)
    poses, sample = min(*sizes, SEARCH_POINTS), min(max(sizes), SAMPLE_POINTS)
    # An affine transform searches for a similarity and for a rotation of the whitened clouds, each also mirrored.
    return (4 if kind.shears else 1) * (poses * SEARCH_EFFORT[dimension] + sample * SAMPLE_EFFORT)


def choose_engine(problem: Problem) -> Engine:
    """The engine for a checked problem.

    The batched engine takes translations of up to DENSE_PAIRS pairs with the prior free or uniform, rows that sum to
    one, no outliers, no refinement, no voxels, no surfaces, no weights and no known pairs. It visits all N x M pairs at
    each iteration, but holds no such array.
    """
    batched = (
        problem.kind.batched
        and problem.alike
        and problem.resolved_normalize == "rows"
        and problem.resolved_outliers == 0.0
        and problem.prior_name in {"free", "uniform"}
        and not isinstance(problem.init, Pose)
        and not problem.refine
        and isinstance(problem.sampling, str)
        and problem.noise != "surface"
        and len(problem.source) * len(problem.target) <= DENSE_PAIRS
    )
    return "batched" if batched else "climbing"


def _neighbours(problem: Problem) -> float:
    """Targets within reach of one source point: few if sigma is estimated, up to all of them if it is given."""
    count = len(problem.target)
    if problem.prior_name == "given":
        return count
    if problem.sigma is None:
        return min(count, NEIGHBOURS)
    extent = np.maximum(problem.target.max(0) - problem.target.min(0), 1e-300)
    share = np.minimum(REACH * problem.sigma, extent) / extent
    return min(count, max(count * float(share.prod()), NEIGHBOURS))
