"""Ragged batches: jobs of unequal size in one tensor computation, where no job can change a bit of another's result.

- Each job's elements are flattened into one buffer and padded to whole tiles. A SIMD vector therefore contains elements
  of one job only, in the same lanes for every batch.
- Apart from IEEE arithmetic, only exp, expm1, log and log1p may be used. torch's sigmoid, softplus and logaddexp use
  different code for the last elements of a buffer, and differ there in the last bit.
- Sums over the last axis add in an order that depends only on the row, not on the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InvalidInput
from ..runtime import turns
from . import parts
from .inputs import Array

Device = torch.device | str

# Elements in a tile: four times the 16 doubles that the widest unrolled loop (AVX-512) processes at once.
TILE = 64
# Pads are ones, which are valid in every column (mean, σ, log σ², noise, x, w, y) and cannot look like errors.
_PADS = [np.ones(gap) for gap in range(TILE + 1)]

# Elements of a short row.
_NARROW = 16

Job = TypeVar("Job")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)


class Layout(NamedTuple):
    """Where flattened jobs lie in one buffer of `total` elements: job k at starts[k]:stops[k], then 1 to TILE pads."""

    starts: list[int]
    stops: list[int]
    total: int

    @property
    def lengths(self) -> list[int]:
        """Elements and pads of each job."""
        return [stop - start for start, stop in pairwise([*self.starts, self.total])]


def lay_out(sizes: Sequence[int]) -> Layout:
    """The layout of jobs with `sizes` elements each; every job starts at a multiple of TILE."""
    starts, stops, at = [], [], 0
    for size in sizes:
        starts.append(at)
        stops.append(at + size)
        at += (size // TILE + 1) * TILE
    return Layout(starts, stops, at)


def pack(columns: Sequence[Sequence[Array]], layout: Layout) -> torch.Tensor:
    """The arrays `columns[c][k]` of all jobs k, of any shape, as one float64 tensor (C, total), padded with ones."""
    # torch aligns its allocations to 64 bytes and numpy does not. An aligned tile is a whole number of vectors.
    buffer = torch.empty((len(columns), layout.total), dtype=torch.float64)
    pads = [_PADS[start - stop] for start, stop in zip([*layout.starts[1:], layout.total], layout.stops, strict=True)]
    pieces: list[Array] = pads * 2
    pieces[1::2] = pads
    for number, (row, column) in enumerate(zip(buffer.numpy(), columns, strict=True)):
        if number and layout.total > parts.PART_ELEMENTS:
            turns.give_way()
        pieces[::2] = column
        np.concatenate(pieces, axis=None, out=row)
    return buffer


def unpack(values: Array, layout: Layout, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Each job's part of the flat buffer `values` (total,), as views with the jobs' own shapes."""
    places = zip(layout.starts, layout.stops, shapes, strict=True)
    return [
        values[start:stop] if len(shape) == 1 else values[start:stop].reshape(shape) for start, stop, shape in places
    ]


def elementwise(
    function: Callable[..., Sequence[torch.Tensor]], columns: Sequence[torch.Tensor], device: Device = "cpu"
) -> list[Array]:
    """`function(*columns)` of packed columns (total,), computed on `device` and in parts of whole tiles."""
    total = len(columns[0])
    if total <= parts.PART_ELEMENTS:
        return [values.cpu().numpy() for values in function(*(column.to(device) for column in columns))]
    whole: list[torch.Tensor] = []
    for tiles in parts.spans(total // TILE, TILE):
        part = slice(tiles.start * TILE, tiles.stop * TILE)
        found = function(*(column[part].to(device) for column in columns))
        whole = whole or [torch.empty(total, dtype=torch.float64) for _ in found]
        for result, values in zip(whole, found, strict=True):
            result[part] = values
    return [result.numpy() for result in whole]


def spread(values: Sequence[float], lengths: Sequence[int]) -> torch.Tensor:
    """Each of `values` repeated `lengths[k]` times, (sum of lengths,)."""
    if len(values) == 1:  # `repeat` holds the interpreter's lock
        return torch.full((lengths[0],), values[0], dtype=torch.float64)
    return torch.from_numpy(np.repeat(np.array(values, dtype=np.float64), lengths))


def row_starts(layout: Layout, widths: Sequence[int]) -> NDArray[np.int64]:
    """The start of each row (`widths[k]` elements) of each job and, after its last row, the start of its pads; (R,)."""
    if len(widths) == 1:  # `repeat` holds the interpreter's lock
        return np.arange(0, layout.stops[0] + 1, widths[0])
    starts, stops, steps = np.array(layout.starts), np.array(layout.stops), np.array(widths)
    counts = (stops - starts) // steps + 1
    firsts = np.cumsum(counts) - counts
    # Row i of all rows is row i - first of its job.
    begins: NDArray[np.int64] = np.arange(counts.sum()) * np.repeat(steps, counts)
    begins += np.repeat(starts - firsts * steps, counts)
    return begins


def sum_rows(terms: Array, layout: Layout, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Sums of the buffer `terms` (total,) over the last axis of each job: an array of shape `shapes[k][:-1]` per job.

    `reduceat` sums each segment in an order that depends on its length only. The order of torch's own sum depends on
    the shape of the whole tensor and on the number of threads.
    """
    begins = row_starts(layout, [shape[-1] for shape in shapes])
    with np.errstate(all="ignore"):  # overflows are diagnosed later
        if layout.total <= parts.PART_ELEMENTS:
            sums = np.add.reduceat(terms, begins)
        else:
            sums = np.empty(len(begins))
            for part in parts.spans(len(begins), layout.total // len(begins)):
                rows = begins[part]
                stop = layout.total if part.stop == len(begins) else begins[part.stop]
                np.add.reduceat(terms[rows[0] : stop], rows - rows[0], out=sums[part])
    results, at = [], 0
    for start, stop, shape in zip(layout.starts, layout.stops, shapes, strict=True):
        count = (stop - start) // shape[-1]
        results.append(sums[at : at + count].reshape(shape[:-1]))
        at += count + 1
    return results


def spread_rows(values: Sequence[Array], layout: Layout, shapes: Sequence[tuple[int, ...]]) -> Array:
    """The transpose of `sum_rows`: a buffer (total,) of `values[k]`, of shape `shapes[k][:-1]`, repeated along rows."""
    if len(values) == 1:  # `repeat` holds the interpreter's lock
        buffer = np.ones(layout.total)
        rows, singles = buffer[: layout.stops[0]].reshape(-1, shapes[0][-1]), values[0].reshape(-1)
        for part in parts.spans(*rows.shape):
            if rows.shape[1] < _NARROW:  # NumPy fills many short rows slowly
                for column in rows[part].T:
                    column[:] = singles[part]
            else:
                rows[part] = singles[part, None]
        return buffer
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
    """One outcome per job, in order: its result or its error.

    Args:
        jobs: the jobs; see the caller for the shapes of their arrays.
        prepare: normalises a job and returns it with the key of its group, or raises InvalidInput.
        compute: computes a group, and returns its results and whether all of them are sound.
        diagnose: raises InvalidInput if a job is faulty. It is called for the jobs of an unsound group only. The other
            jobs keep their results, which do not depend on the faulty ones.
        device: where `compute` runs.
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
    """The outcome of a batch of one job.

    Raises:
        InvalidInput: the outcome is this error.
    """
    (outcome,) = outcomes
    if isinstance(outcome, InvalidInput):
        raise outcome
    return outcome
