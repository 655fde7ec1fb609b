"""Known pairs in the matching: what they change of the responsibilities and of the costs of an assignment."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# The nats by which an exact pair is likelier than any other choice.
PINNED = 1e6


class KnownPairs(NamedTuple):
    """The pairs at an E-step, as seen from the source. No source point is in two of them."""

    source: Int64  # (K,) i
    target: Int64  # (K,) j
    strength: Float64  # (K,) infinite for exact pairs
    own: Float64  # (K,) r_ij
    log_norm: Float64  # (K,) the nats by which the log prior of the data point's other components falls
    by_source: bool  # whether the data are the source

    @property
    def exact(self) -> NDArray[np.bool_]:
        """(K,) whether the pair is certain."""
        return np.isinf(self.strength)

    def settle(self, responsibilities: Float64) -> None:
        """Write r_ij of the pairs into R (N, M), and zeros beside those that are certain."""
        sure = self.exact
        if self.by_source:
            responsibilities[self.source[sure]] = 0.0
        else:
            responsibilities[:, self.target[sure]] = 0.0
        responsibilities[self.source, self.target] = self.own

    def pin(self, logs: Float64) -> None:
        """Change log(Π_ij N_ij) (N, M) so that the best assignment has the exact pairs and prefers the others."""
        i, j, sure = self.source, self.target, self.exact
        if self.by_source:
            logs[i] -= self.log_norm[:, None]
        else:
            logs[:, j] -= self.log_norm
        logs[i[~sure], j[~sure]] += self.strength[~sure]
        logs[i[sure]] -= PINNED
        logs[:, j[sure]] -= PINNED
        logs[i[sure], j[sure]] = PINNED

    def pin_sparse(
        self, starts: Int64, columns: Int64, costs: Float64, own: Float64, m: int
    ) -> tuple[Int64, Int64, Float64]:
        """The pairs of a sparse assignment, as `pin` changes those of a dense one.

        `starts` (N + 1,), `columns` (L,), `costs` (L,) and `m` are those of `matching.one_to_one_sparse`. `own` (K,) is
        the cost of each pair without what is known of it.
        """
        n, i, j, sure = len(starts) - 1, self.source, self.target, self.exact
        rows = np.repeat(np.arange(n), np.diff(starts))
        pair_of_row = np.full(n, -1)
        pair_of_row[i] = np.arange(len(i))
        k = pair_of_row[rows]
        if self.by_source:
            costs = costs + np.where(k >= 0, self.log_norm[k], 0.0)
        else:
            norms = np.zeros(m)
            norms[j] = self.log_norm
            costs = costs + norms[columns]
        taken = np.isin(columns, j[sure])
        kept = ~taken & ~((k >= 0) & (sure[k] | (columns == j[k])))
        cost = np.where(sure, -PINNED, own - np.where(sure, 0.0, self.strength) + self.log_norm)
        rows = np.concatenate([rows[kept], i])
        order = np.argsort(rows, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int64)
        return starts, np.concatenate([columns[kept], j])[order], np.concatenate([costs[kept], cost])[order]
