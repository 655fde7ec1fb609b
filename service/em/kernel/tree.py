"""A cloud sorted into a tree of boxes, which finds what is near a few neighbouring points, however uneven the cloud.

Each box is cut at the median of its longest side, so that all leaves have about as many points (Friedman, Bentley and
Finkel 1977). The cells of a grid would have one size, whereas a leaf is as large as the spacing around it is wide.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import always_inline, compiled
from ..slices import ROW_PAIRS, in_slices
from .cells import AXES

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# The least number of points in a leaf of a tree of several; the most is twice as many.
LEAST_IN_LEAF = 12
# Nodes that wait while the tree is searched: two of each level at most.
WAITING = 128
# The work to cut a box, in pairs for each of its points, and that to visit one in a search.
CUT, VISIT = 4, 2


class Tree(NamedTuple):
    """K points in the order of the leaves of a binary tree. Leaf l has those from K l // leaves on."""

    points: Float64  # (AXES, K) sorted
    order: Int64  # (K,) the index of each before sorting
    boxes: Float64  # (2 leaves, 2 AXES) the lower and the upper corner of node i, with the children 2 i and 2 i + 1


def tree(points: Float64) -> Tree:
    """The tree of a cloud (AXES, K), K > 0."""
    found = points.copy()
    count = found.shape[1]
    leaves, order = 1, np.arange(count)
    while count >= 2 * leaves * LEAST_IN_LEAF:
        leaves *= 2
    out = Tree(found, order, np.empty((2 * leaves, 2 * AXES)))
    in_slices(2 * leaves, lambda first, pairs: _cut(out, first, pairs))
    return out


@compiled
def _cut(tree: Tree, first: int, pairs: int) -> int:
    """Measure the boxes of the nodes from `first` on, and cut all but the leaves. Returns the next node."""
    points, order, boxes = tree
    count, level = points.shape[1], 1  # the number of nodes that are as deep
    for node in range(max(first, 1), len(boxes)):
        while 2 * level <= node:
            level *= 2
        start, stop = count * (node - level) // level, count * (node - level + 1) // level
        axis, longest = 0, -1.0
        for d in range(AXES):
            low, high = points[d, start], points[d, start]
            for j in range(start, stop):
                low, high = min(low, points[d, j]), max(high, points[d, j])
            boxes[node, d], boxes[node, AXES + d] = low, high
            if high - low > longest:
                axis, longest = d, high - low
        if 2 * level < len(boxes):
            _select(points, order, axis, start, stop - 1, count * (2 * (node - level) + 1) // (2 * level))
        pairs -= (stop - start) * CUT + ROW_PAIRS
        if pairs <= 0:
            return node + 1
    return len(boxes)


@always_inline
def _select(points: Float64, order: Int64, axis: int, low: int, high: int, place: int) -> None:
    """Sort the points from `low` to `high` so far that none before `place` is beyond it along the axis, and none after.

    Hoare's algorithm (1961). Its pivots are pseudorandom, because sorted clouds are common.
    """
    key, seed = points[axis], 1
    while low < high:
        seed = (seed * 1103515245 + 12345) % 2147483648
        pivot = key[low + seed % (high - low + 1)]
        i, j = low, high
        while i <= j:
            while key[i] < pivot:
                i += 1
            while key[j] > pivot:
                j -= 1
            if i <= j:
                for d in range(AXES):
                    points[d, i], points[d, j] = points[d, j], points[d, i]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if j < place:
            low = i
        if place < i:
            high = j


@always_inline
def around(tree: Tree, box: Float64, reach: float, limit: int, near: Float64, waiting: Int64) -> tuple[int, int]:
    """Write the points within the squared distance `reach` of a box (2 AXES,) into `near` (AXES, K).

    They keep the tree's order. The search ends after more than `limit` points. `waiting` (WAITING,) is for its use.
    Returns the number of points, and the work of the search, in pairs.
    """
    points, boxes = tree.points, tree.boxes
    count, leaves = points.shape[1], len(boxes) // 2
    a, b, c, d, e, f = box[0], box[1], box[2], box[3], box[4], box[5]
    found, work, last = 0, 0, 0
    waiting[0] = 1
    while last >= 0 and found <= limit:
        node = waiting[last]
        last -= 1
        work += VISIT
        u = max(boxes[node, 0] - d, a - boxes[node, 3], 0.0)
        v = max(boxes[node, 1] - e, b - boxes[node, 4], 0.0)
        w = max(boxes[node, 2] - f, c - boxes[node, 5], 0.0)
        if u * u + v * v + w * w > reach:
            continue
        if node < leaves:
            waiting[last + 1], waiting[last + 2] = 2 * node + 1, 2 * node
            last += 2
            continue
        start, stop = count * (node - leaves) // leaves, count * (node - leaves + 1) // leaves
        work += stop - start
        for j in range(start, stop):
            x, y, z = points[0, j], points[1, j], points[2, j]
            u, v, w = max(x - d, a - x, 0.0), max(y - e, b - y, 0.0), max(z - f, c - z, 0.0)
            # Every point is written, and advancing the count keeps it: there is no branch to mispredict.
            near[0, found], near[1, found], near[2, found] = x, y, z
            found += u * u + v * v + w * w <= reach
    return found, work
