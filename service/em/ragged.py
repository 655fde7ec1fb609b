"""Batches as arrays: from their fields to a plan, or a refusal, for each problem.

The options are common, and most problems have equally many points as another one. So the first problem of each kind is
read as if it had been sent alone, and the others take what was found for it: the checks of its options and its plan.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput, LatentserveError
from ..web.npz_body import ArrayBody, fields_of, not_finite, validate
from ..web.threads import off_loop
from . import wire
from .batches import Reader, Refusal, refusal
from .plan import Plan, plan
from .problem import Problem
from .schemas.ragged import RaggedRequest
from .schemas.registration import MAX_PROBLEMS
from .values import in_range

# Options that may have a value for each problem, and the number of axes that they have then.
OWN = {
    "sigma": 1,
    "outlier_weight": 1,
    "max_iterations": 1,
    "tolerance": 1,
    "beta": 1,
    "stiffness": 1,
    "sampling": 1,
    "init": 2,
}
CLOUDS = ("source", "target")
# Arrays with a part for each problem, and the offsets that divide them.
PARTS = {
    "source": "source",
    "target": "target",
    "source_weights": "source",
    "target_weights": "target",
    "pairs": "pairs",
}
LAYOUT = (*PARTS, "source_offsets", "target_offsets", "pairs_offsets")
# Elements whose operations take as long as the reading of one problem, by itself and with what others have found.
_ALONE, _ALIKE = 1 << 12, 1 << 7


class Batch(NamedTuple):
    """The problems of a ragged batch: the plan or the refusal of each, and where the points of each begin."""

    plans: list[Plan | Refusal]
    source_offsets: NDArray[np.int64]  # (B + 1,)


class _Ragged(NamedTuple):
    """The arrays of a batch: those with a part for each problem, and the fields that all problems have."""

    parts: dict[str, NDArray[np.float64]]  # source (ΣN, D), target (ΣM, D), and their weights and pairs if given
    bounds: dict[str, list[int]]  # B + 1 offsets of the source, the target and the pairs
    own: dict[str, NDArray[Any]]  # (B, ...)
    common: dict[str, Any]
    source_offsets: NDArray[np.int64]  # (B + 1,)
    alike: bool
    """Whether problems with equal options and sizes need one check and one plan."""

    @property
    def work(self) -> int:
        """The reading of all problems takes as long as an operation on this number of elements."""
        return (len(self.source_offsets) - 1) * (_ALIKE if self.alike and not self.own else _ALONE)

    def fields(self, index: int) -> dict[str, Any]:
        """The fields of one problem, as they would be sent alone."""
        parts = {name: part[self._rows(name, index)] for name, part in self.parts.items()}
        own = {name: values[index] if values.ndim > 1 else values[index].item() for name, values in self.own.items()}
        return {**parts, **self.common, **own}

    def faults(self, index: int) -> list[dict[str, Any]]:
        """The first number of each array of one problem that is not finite, as errors in pydantic's form."""
        parts = {name: part[self._rows(name, index)] for name, part in self.parts.items() if name != "pairs"}
        parts |= {name: values[index] for name, values in self.own.items() if values.ndim > 1}
        found = []
        for name, part in parts.items():
            wrong = np.argwhere(~np.isfinite(part))
            if len(wrong):
                found.append(not_finite(name, part, tuple(wrong[0].tolist())))
        return found

    def _rows(self, name: str, index: int) -> slice:
        begin, end = self.bounds[PARTS[name]][index : index + 2]
        return slice(begin, end)


async def read(body: ArrayBody, reader: Reader) -> Batch:
    """The problems of a body with `source`, `source_offsets`, `target`, `target_offsets` and options.

    Weights have the offsets of their cloud, and `pairs` has `pairs_offsets`.

    What takes more than a few milliseconds runs on a thread beside the event loop.

    Raises:
        RequestValidationError: the fields do not fit the schema.
        InvalidInput: the offsets do not divide the points, or an array has no value for each problem.
    """
    ragged = await off_loop(0 if body.is_small else body.size, _divide, body)
    return Batch(await off_loop(ragged.work, _plans, ragged, reader), ragged.source_offsets)


def _divide(body: ArrayBody) -> _Ragged:
    own = {name: array for name, axes in OWN.items() if (array := _own(body, name, axes)) is not None}
    options = {name: array for name, array in body.arrays.items() if name not in own}
    # Numbers that are not finite are errors of single problems, or of an option that all of them have.
    faulty = {name: at for name, at in body.not_finite.items() if name not in own and name not in PARTS}
    found = validate(body._replace(arrays=options, not_finite=faulty), RaggedRequest, wire.errors_beside)
    if found.source.shape[1] != found.target.shape[1]:
        raise InvalidInput(
            f"source points have {found.source.shape[1]} coordinates and target points {found.target.shape[1]}; they "
            "must agree",
            pointer="/target",
            allowed=f"points of {found.source.shape[1]} coordinates",
        )
    given = {name: getattr(found, name) for name in PARTS}
    parts: dict[str, NDArray[np.float64]] = {name: part for name, part in given.items() if part is not None}
    divided = [name for name in parts if PARTS[name] == name]
    if (found.pairs is None) != (found.pairs_offsets is None):
        raise InvalidInput(
            "pairs and pairs_offsets go together", pointer="/pairs_offsets", allowed="both arrays, or neither"
        )
    offsets = {name: _offsets(name, body.arrays[f"{name}_offsets"], len(parts[name])) for name in divided}
    for name, part in parts.items():
        if len(part) != len(parts[PARTS[name]]):
            raise InvalidInput(
                f"{name} has {len(part)} numbers, and {PARTS[name]} {len(parts[PARTS[name]])} points",
                pointer=f"/{name}",
                allowed=f"{len(parts[PARTS[name]])} numbers",
            )
    count = len(offsets["source"]) - 1
    others = {f"{name}_offsets": offsets[name][1:] for name in divided if name != "source"}
    for name, values in {**others, **own}.items():
        if len(values) != count:
            raise InvalidInput(
                f"{name} is for {len(values)} problems, and source_offsets for {count}",
                pointer=f"/{name}",
                allowed=f"{count + 1} offsets" if name in others else f"one value, or {count}",
            )
    common = fields_of({name: array for name, array in options.items() if name not in LAYOUT})
    # Each answer with such a part has a limit of its own, and a prior matrix has to fit each problem.
    alike = not {"responsibilities", "trace"} & {*common.get("include", ())}
    alike = alike and not isinstance(common.get("prior"), np.ndarray)
    alike = alike and parts.keys() == {*CLOUDS} and all(in_range(part) for part in parts.values())
    bounds = {name: rows.tolist() for name, rows in offsets.items()}
    return _Ragged(parts, bounds, own, common, offsets["source"], alike)


def _own(body: ArrayBody, name: str, axes: int) -> NDArray[Any] | None:
    """The values that an option has for each problem; None if it is not given, or is common to all."""
    array = body.arrays.get(name)
    if array is None or array.ndim != axes or array.dtype.kind not in "iuf":
        return None
    return array if axes == 1 else array.astype(np.float64, copy=False)


def _offsets(name: str, values: NDArray[Any], total: int) -> NDArray[np.int64]:
    """The offsets (B + 1,) of a cloud with `total` points. Raises InvalidInput if they do not divide it."""
    pointer = f"/{name}_offsets"
    if values.dtype.kind not in "iu":
        raise InvalidInput(f"the offsets have the type {values.dtype}", pointer=pointer, allowed="integers, as int64")
    if not 2 <= len(values) <= MAX_PROBLEMS + 1:
        raise InvalidInput(
            f"{len(values)} offsets are for {len(values) - 1} problems",
            pointer=pointer,
            allowed=f"2 to {MAX_PROBLEMS + 1} offsets, one more than there are problems",
        )
    falls = (values[1:] < values[:-1]) | (values[1:] > total)
    wrong = 0 if values[0] != 0 else int(falls.argmax()) + 1 if falls.any() else None
    if wrong is None and values[-1] != total:
        wrong = len(values) - 1
    if wrong is not None:
        raise InvalidInput(
            f"{name}_offsets[{wrong}] = {values[wrong]}; the offsets do not divide the {total} points of {name}",
            pointer=f"{pointer}/{wrong}",
            allowed=f"offsets that begin at 0, never fall, and end at {total}",
        )
    return values.astype(np.int64)


def _plans(ragged: _Ragged, reader: Reader) -> list[Plan | Refusal]:
    source, target = ragged.parts["source"], ragged.parts["target"]
    columns = [[value.tobytes() for value in values] for values in ragged.own.values()]
    owns: list[tuple[bytes, ...]] = list(zip(*columns, strict=True)) or [()] * (len(ragged.source_offsets) - 1)
    checked: dict[tuple[bytes, ...], tuple[Any, ...]] = {}
    planned: dict[tuple[Any, ...], tuple[tuple[Any, ...], tuple[Any, ...]]] = {}
    plans: list[Plan | Refusal] = []
    sources, targets = itertools.pairwise(ragged.bounds["source"]), itertools.pairwise(ragged.bounds["target"])
    for index, (own, (begin, end), (start, stop)) in enumerate(zip(owns, sources, targets, strict=True)):
        size = own, end - begin, stop - start
        known = planned.get(size)
        if known is not None:
            # As tuples, because `_replace` takes three times as long.
            problem = Problem._make((source[begin:end], target[start:stop], *known[0]))
            plans.append(Plan._make((problem, *known[1])))
            continue
        options = checked.get(own) if ragged.alike and end > begin and stop > start else None
        if options is None:
            found = reader.read(index, ragged.fields(index), ragged.faults(index))
            if isinstance(found, Plan):
                checked[own] = found.problem[len(CLOUDS) :]
            plans.append(found)
            continue
        problem = Problem._make((source[begin:end], target[start:stop], *options))
        fresh = plan(problem)
        try:
            reader.accept(fresh)
        except LatentserveError as error:
            plans.append(refusal(index, error))
            continue
        if fresh.engine == "batched" or problem.sigma is None:  # else the cost depends on the points
            planned[size] = options, fresh[1:]
        plans.append(fresh)
    return plans
