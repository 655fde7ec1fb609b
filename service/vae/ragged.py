"""Ragged batches: jobs of unequal size as one tensor computation, in which none can change a bit of another's result.

- Each job's elements are flattened into one buffer and padded to whole tiles, so that every SIMD vector holds the
  elements of one job alone, in the same lanes, whatever else is in the batch.
- Beyond IEEE arithmetic only exp, expm1, log and log1p may be used. Torch's own sigmoid, softplus and logaddexp take
  other code for the last elements of a buffer than for its body, and differ there in the last bit.
- Sums over the last axis add in an order that depends on the row alone, never on how many rows there are.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InvalidInput
from .inputs import Array

Device = torch.device | str

# Elements in a tile: four times the sixteen doubles that the widest unrolled loop (AVX-512) takes at once.
TILE = 64
# Padding of ones is a valid value of every column (mean, σ, log σ², noise, x, w, y), so pads never look like errors.
_PADS = [np.ones(gap) for gap in range(TILE + 1)]

Job = TypeVar("Job")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)


class Layout(NamedTuple):
    """Where flattened jobs lie in one buffer of `total` elements: job k at starts[k]:stops[k], then 1 to TILE pads."""

    starts: list[int]
    stops: list[int]
    total: int


def lay_out(sizes: Sequence[int]) -> Layout:
    """The layout of jobs with `sizes` elements each; every job starts at a multiple of TILE."""
    starts, stops, at = [], [], 0
    for size in sizes:
        starts.append(at)
        stops.append(at + size)
        at += (size // TILE + 1) * TILE
    return Layout(starts, stops, at)


def pack(columns: Sequence[Sequence[Array]], layout: Layout) -> torch.Tensor:
    """Several arrays of each job, `columns[c][k]`, as a (C, total) float64 tensor on the CPU, padded with ones."""
    # Torch aligns its own allocations to 64 bytes and numpy does not: aligned, a tile is a whole number of vectors.
    buffer = torch.empty((len(columns), layout.total), dtype=torch.float64)
    pads = [_PADS[start - stop] for start, stop in zip([*layout.starts[1:], layout.total], layout.stops, strict=True)]
    pieces: list[Array] = pads * 2
    pieces[1::2] = pads
    for row, column in zip(buffer.numpy(), columns, strict=True):
        pieces[::2] = column
        np.concatenate(pieces, axis=None, out=row)
    return buffer


def unpack(values: Array, layout: Layout, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Each job's part of a flat buffer (total,), as views in the jobs' own shapes."""
    parts = zip(layout.starts, layout.stops, shapes, strict=True)
    return [
        values[start:stop] if len(shape) == 1 else values[start:stop].reshape(shape) for start, stop, shape in parts
    ]


def row_starts(layout: Layout, widths: Sequence[int]) -> NDArray[np.int64]:
    """Where each row (`widths[k]` elements) of each job begins, and after a job's last row where its pads begin."""
    starts, stops, steps = np.array(layout.starts), np.array(layout.stops), np.array(widths)
    counts = (stops - starts) // steps + 1
    firsts = np.cumsum(counts) - counts
    # Row i of all rows is row i - first of its job.
    begins: NDArray[np.int64] = np.arange(counts.sum()) * np.repeat(steps, counts)
    begins += np.repeat(starts - firsts * steps, counts)
    return begins


def sum_rows(terms: Array, layout: Layout, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Σ over the last axis of each job: from (total,) to one array of shape `shapes[k][:-1]` a job.

    `reduceat` sums each segment pairwise, in an order given by its length; torch's own sum picks its order by the
    shape of the whole tensor and by the number of threads.
    """
    with np.errstate(all="ignore"):  # what overflows is found, and named, afterwards
        sums = np.add.reduceat(terms, row_starts(layout, [shape[-1] for shape in shapes]))
    results, at = [], 0
    for start, stop, shape in zip(layout.starts, layout.stops, shapes, strict=True):
        count = (stop - start) // shape[-1]
        results.append(sums[at : at + count].reshape(shape[:-1]))
        at += count + 1
    return results


def spread_rows(values: Sequence[Array], layout: Layout, shapes: Sequence[tuple[int, ...]]) -> Array:
    """The reverse way: one number a row, `values[k]` of shape `shapes[k][:-1]`, repeated along the row: (total,)."""
    starts = row_starts(layout, [shape[-1] for shape in shapes])
    pieces: list[Array] = [_PADS[1]] * (2 * len(values))
    pieces[::2] = values
    return np.repeat(np.concatenate(pieces, axis=None), np.diff(starts, append=layout.total))


def run_batch(
    jobs: Sequence[Job],
    prepare: Callable[[Job], tuple[Key, Job]],
    compute: Callable[[Key, list[Job], torch.device], tuple[list[Result], bool]],
    diagnose: Callable[[Job, Result], None],
    device: Device,
) -> list[Result | InvalidInput]:
    """One outcome a job, in order: its result, or the error that it alone has.

    `prepare` normalises a job and gives the key of the group that it is computed with, or raises. `compute` runs a
    group and says whether all of it is sound. Only if not, `diagnose` looks at each job of the group, and raises for
    the bad ones; the others keep their results, which elementwise arithmetic has kept apart.
    """
    outcomes: dict[int, Result | InvalidInput] = {}
    groups: dict[Key, tuple[list[int], list[Job]]] = {}
    for index, job in enumerate(jobs):
        try:
            key, prepared = prepare(job)
        except InvalidInput as error:
            outcomes[index] = error
            continue
        indices, members = groups.setdefault(key, ([], []))
        indices.append(index)
        members.append(prepared)
    for key, (indices, members) in groups.items():
        results, sound = compute(key, members, torch.device(device))
        outcomes.update(zip(indices, results, strict=True))
        if sound:
            continue
        for index, member, result in zip(indices, members, results, strict=True):
            try:
                diagnose(member, result)
            except InvalidInput as error:
                outcomes[index] = error
    return [outcomes[index] for index in range(len(jobs))]


def only(outcomes: list[Result | InvalidInput]) -> Result:
    """The one outcome of a batch of one, raised if it is an error."""
    (outcome,) = outcomes
    if isinstance(outcome, InvalidInput):
        raise outcome
    return outcome
