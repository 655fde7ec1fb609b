"""Conversion between nested JSON lists and float64 arrays, with errors that name the element at fault.

A schema's field is annotated `Vector`, `Matrix`, or one of the unions; its value is then an ndarray of that rank.
Elements are JSON numbers: finite, and neither booleans nor strings.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, ValidationError, core_schema

Float64 = NDArray[np.float64]
_FLOAT64 = np.dtype(np.float64)

# Prefix of the tags that pydantic puts into an error's location for the branches of a union; pointers omit it.
UNION_TAG = "union:"


def _nested(rank: int, element: CoreSchema) -> CoreSchema:
    schema = element
    for _ in range(rank):
        # fail_fast: a million wrong elements are one error, not a million.
        schema = core_schema.list_schema(schema, min_length=1, strict=True, fail_fast=True)
    return schema


def ragged_rows(row: int, found: int, expected: int) -> PydanticCustomError:
    """The error of a row that has another length than row 0."""
    return PydanticCustomError(
        "ragged_array",
        "row {row} has {found} elements where row 0 has {expected}; all rows need the same length",
        {"row": row, "found": found, "expected": expected},
    )


def ragged_matrices(index: int, found: Sequence[int], expected: Sequence[int]) -> PydanticCustomError:
    """The error of a matrix that has other numbers of rows and columns than matrix 0."""
    return PydanticCustomError(
        "ragged_array",
        "matrix {index} is {rows} x {columns}, but matrix 0 is {first_rows} x {first_columns}",
        {
            "index": index,
            "rows": found[0],
            "columns": found[1],
            "first_rows": expected[0],
            "first_columns": expected[1],
            "allowed": "matrices of equal size",
        },
    )


class RaggedArray(NamedTuple):
    """An array that was found to be ragged when it was read, in the place of its value."""

    error: PydanticCustomError


class WrongArray(list[Any]):
    """A short list in the place of an array that was found to be wrong at one part when it was read.

    Args:
        part: the value at fault: no finite number, or no array, or an empty one.
        at: the indices of the part in the array.
        rank: the rank that the array should have.
    """

    def __init__(self, part: Any, at: tuple[int, ...], rank: int) -> None:
        value = part
        for level in reversed(range(len(at))):
            before: Any = 0  # in range of all schemas
            for _ in range(rank - level - 1):
                before = [before]
            value = [before, value] if at[level] > 0 else [value]
        super().__init__(value)
        self._at = at

    def located(self, error: ValidationError) -> ValidationError:
        """The schema's error of the list, with the indices of the array."""
        found = []
        for one in error.errors(include_url=False):
            details = InitErrorDetails(type=one["type"], loc=self._location(one["loc"]), input=one["input"])
            if "ctx" in one:
                details["ctx"] = one["ctx"]
            found.append(details)
        return ValidationError.from_exception_data("array", found)

    def _location(self, location: tuple[str | int, ...]) -> tuple[str | int, ...]:
        corrected = list(location)
        steps = [index for index, step in enumerate(location) if not str(step).startswith(UNION_TAG)]
        for step, index in zip(steps, self._at, strict=False):
            corrected[step] = index
        return tuple(corrected)


def _check_even(value: list[Any], rank: int) -> None:
    """Raise PydanticCustomError for the first row, or the first matrix of a stack, that is not as long as the first."""
    if rank < 2:
        return
    if rank > 2:
        for matrix in value:
            _check_even(matrix, rank - 1)
        sizes = [(len(matrix), len(matrix[0])) for matrix in value]
        for index, size in enumerate(sizes):
            if size != sizes[0]:
                raise ragged_matrices(index, size, sizes[0])
        return
    if len(set(map(len, value))) > 1:
        row = next(index for index, row in enumerate(value) if len(row) != len(value[0]))
        raise ragged_rows(row, len(value[row]), len(value[0]))


def _rank(value: object) -> int:
    rank = 0
    while isinstance(value, list) and value:
        value = value[0]
        rank += 1
    return rank


@dataclass(frozen=True)
class Rank:
    """Annotation of an ndarray field: the ranks that it may have, and the type of its elements."""

    ranks: tuple[int, ...]
    integer: bool = False
    ge: float | None = None
    le: float | None = None

    @property
    def limits(self) -> tuple[float, float, bool]:
        """The least and the greatest element, and whether all are integers."""
        low, high = -math.inf if self.ge is None else self.ge, math.inf if self.le is None else self.le
        return low, high, self.integer

    @property
    def _dtype(self) -> type[np.uint8 | np.float64]:
        return np.uint8 if self.integer else np.float64

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """A list schema of the right depth, then the conversion to an ndarray."""
        if self.integer:
            low, high = (None if bound is None else int(bound) for bound in (self.ge, self.le))
            element: CoreSchema = core_schema.int_schema(strict=True, ge=low, le=high)
        else:
            element = core_schema.float_schema(strict=True, allow_inf_nan=False, ge=self.ge, le=self.le)
        branches = {rank: self._array(rank, element) for rank in self.ranks}
        if len(branches) == 1:
            return self._or_ready(next(iter(branches.values())))
        shallow, deep = min(self.ranks), max(self.ranks)
        return self._or_ready(
            core_schema.tagged_union_schema(
                {f"{UNION_TAG}{rank}": schema for rank, schema in branches.items()},
                # A value of any other rank goes to the nearest branch, whose error names the fault.
                lambda value: f"{UNION_TAG}{min(max(_rank(value), shallow), deep)}",
            )
        )

    def _or_ready(self, schema: CoreSchema) -> CoreSchema:
        """The schema, which outside JSON also accepts an array that was read before.

        The array is float64 and has one of the ranks. Its elements are finite, in range, and integers if they must be.
        """

        def ready(value: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Any:
            if isinstance(value, RaggedArray):
                raise value.error
            if isinstance(value, WrongArray):
                try:
                    handler(value)
                except ValidationError as error:
                    raise value.located(error) from None
                raise PydanticCustomError("array", "the array is not valid")
            if not isinstance(value, np.ndarray):
                return handler(value)
            if value.dtype != _FLOAT64 or value.ndim not in self.ranks or not value.size:
                raise self._unfit(value)
            return value.astype(np.uint8) if self.integer else value

        return core_schema.json_or_python_schema(schema, core_schema.no_info_wrap_validator_function(ready, schema))

    def _unfit(self, value: NDArray[Any]) -> PydanticCustomError:
        """The error of an array of another type or shape, which names the one that is wrong, or both."""
        shape_fits = value.ndim in self.ranks and value.size
        faults = [] if value.dtype == _FLOAT64 else [f"the dtype {value.dtype.name}"]
        faults += [] if shape_fits else [f"the shape {value.shape}"]
        axes = f"{' or '.join(map(str, self.ranks))} {'axis' if self.ranks == (1,) else 'axes'}"
        return PydanticCustomError(
            "array",
            "the array has {faults}",
            {
                "faults": " and ".join(faults),
                "allowed": f"integers or floating numbers of 1 to 8 bytes, with {axes}, none of them empty",
            },
        )

    def _array(self, rank: int, element: CoreSchema) -> CoreSchema:
        def convert(value: list[Any]) -> NDArray[Any]:
            _check_even(value, rank)
            return np.array(value, self._dtype)

        return core_schema.no_info_after_validator_function(convert, _nested(rank, element))


Vector = Annotated[Float64, Rank((1,))]
Matrix = Annotated[Float64, Rank((2,))]
VectorOrMatrix = Annotated[Float64, Rank((1, 2))]
MatrixOrStack = Annotated[Float64, Rank((2, 3))]
ScalarOrVector = Annotated[Float64, Rank((0, 1))]


def to_json(value: object) -> bytes:
    """JSON text of dicts, lists, numbers and ndarrays; floats read back exactly.

    Raises TypeError for values of other types.
    """
    return orjson.dumps(value, default=_contiguous, option=orjson.OPT_SERIALIZE_NUMPY)


def _contiguous(value: object) -> object:
    # orjson calls this for arrays that it cannot serialise: strided views, and arrays of rank 0.
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value) if value.ndim else value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def to_npy(array: NDArray[Any]) -> bytes:
    """The array, of any shape and a plain type, as a NumPy .npy file without pickle."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()
