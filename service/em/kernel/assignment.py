"""The assignment of least cost among few pairs, by shortest augmenting paths.

R. Jonker and A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems",
1987.
SciPy's solver for sparse problems holds the interpreter's lock until it has ended, which may take many seconds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

NONE = -1


class Search(NamedTuple):
    """The state of the solver for N rows and M columns with K pairs in all."""

    column_of: Int64
    """(N,) the column of each row that has one."""
    row_of: Int64
    """(M,) the row of each column that has one."""
    row_price: Float64
    """(N,) dual variables u."""
    column_price: Float64
    """(M,) dual variables v. Of each pair c_ij - u_i - v_j >= 0, and 0 if it is matched."""
    distance: Float64
    """(M,) of a column in the search that runs, infinite before it is reached."""
    before: Int64
    """(M,) the row from which it was reached."""
    is_final: NDArray[np.bool_]
    """(M,) whether its distance is final."""
    reached: Int64
    """(M,) the columns that were reached, in that order."""
    keys: Float64
    """(K,) the heap: distances,"""
    heap: Int64
    """(K,) and their columns. A column stays in it when a shorter path is found, and is skipped later."""


def new_search(rows: int, columns: int, pairs: int) -> Search:
    """The state before the first row."""
    return Search(
        np.full(rows, NONE, np.int64),
        np.full(columns, NONE, np.int64),
        np.zeros(rows),
        np.zeros(columns),
        np.full(columns, np.inf),
        np.full(columns, NONE, np.int64),
        np.zeros(columns, np.bool_),
        np.empty(columns, np.int64),
        np.empty(pairs),
        np.empty(pairs, np.int64),
    )


@compiled
def assign(first: int, pairs: int, starts: Int64, columns: Int64, costs: Float64, out: Float64, search: Search) -> int:
    """Give columns to rows from `first` on, until about `pairs` pairs have been visited. Returns the next row.

    Args:
        first: the rows before it are done.
        pairs: of rows and columns.
        starts: (N + 1,) the pairs of row i are starts[i] to starts[i + 1] - 1.
        columns: (K,) the column of each pair.
        costs: (K,) the finite cost of each pair.
        out: (N,) the finite cost of a row that has no column.
        search: is changed.
    """
    column_of, row_of, u, v, distance, before, is_final, reached, keys, heap = search
    row, visited = first, 0
    while row < len(out) and (visited < pairs or row == first):
        u[row] = out[row]
        for k in range(starts[row], starts[row + 1]):
            u[row] = min(u[row], costs[k] - v[columns[k]])
        size = count = 0
        # The path may end at a row that then has no column, or at a column that has no row.
        least, last, end = np.inf, row, NONE
        i, at = row, 0.0
        while True:
            if at + (out[i] - u[i]) < least:
                least, last = at + (out[i] - u[i]), i
            for k in range(starts[i], starts[i + 1]):
                j = columns[k]
                if is_final[j]:
                    continue
                there = at + max(costs[k] - u[i] - v[j], 0.0)
                if there < distance[j]:
                    if distance[j] == np.inf:
                        reached[count] = j
                        count += 1
                    distance[j], before[j] = there, i
                    place = size
                    size += 1
                    while place > 0 and keys[(place - 1) >> 1] > there:
                        keys[place], heap[place] = keys[(place - 1) >> 1], heap[(place - 1) >> 1]
                        place = (place - 1) >> 1
                    keys[place], heap[place] = there, j
            visited += starts[i + 1] - starts[i] + 1
            j = NONE
            while size > 0 and j == NONE:
                nearest, key = heap[0], keys[0]
                size -= 1
                moved, moved_key = heap[size], keys[size]
                place = 0
                while True:
                    child = 2 * place + 1
                    if child >= size:
                        break
                    if child + 1 < size and keys[child + 1] < keys[child]:
                        child += 1
                    if keys[child] >= moved_key:
                        break
                    keys[place], heap[place] = keys[child], heap[child]
                    place = child
                keys[place], heap[place] = moved_key, moved
                if not is_final[nearest] and key == distance[nearest]:
                    j = nearest
            if j == NONE or distance[j] >= least:
                break
            is_final[j] = True
            if row_of[j] == NONE:
                least, end = distance[j], j
                break
            i, at = row_of[j], distance[j]
        u[row] += least
        for place in range(count):
            j = reached[place]
            if is_final[j]:
                if row_of[j] != NONE:
                    u[row_of[j]] += least - distance[j]
                v[j] -= least - distance[j]
            is_final[j] = False
            distance[j] = np.inf
        # Along the path each row gets the column through which it was left.
        if end == NONE:
            i = last
            end = column_of[i]
            column_of[i] = NONE
            if i == row:
                end = NONE
        while end != NONE:
            i = before[end]
            following = column_of[i]
            column_of[i], row_of[end] = end, i
            end = NONE if i == row else following
        row += 1
    return row
