"""The keys of a JSON body whose values are arrays, by the body's schema."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, RootModel

from ..formats.arrays import Rank
from ..formats.json_numbers.grids import Range
from ..formats.json_numbers.keys import Names, names

_SCALARS = (float, int, bool, str, NoneType)


@cache
def array_fields(model: type[BaseModel]) -> Names:
    """The keys with arrays of numbers, and those with other lists, in a body of `model`.

    A schema may name others in its attribute `validated_later`, for objects that the endpoint validates by them.
    """
    later: tuple[type[BaseModel], ...] = getattr(model, "validated_later", ())
    ranks: dict[str, tuple[int, int]] = {}
    ranges: dict[str, Range] = {}
    kept: set[str] = set()
    for name, kind in (found for schema in (model, *later) for found in _values(schema)):
        if not isinstance(kind, Rank) or kind.limits != ranges.setdefault(name, kind.limits):
            kept.add(name)
        else:
            low, high = ranks.get(name, kind.ranks[:1] * 2)
            ranks[name] = min(low, *kind.ranks), max(high, *kind.ranks)
    return names({name: found for name, found in ranks.items() if name not in kept}, kept, ranges)


def _values(model: type[BaseModel]) -> Iterator[tuple[str, Rank | None]]:
    """The keys of a body's objects whose values may be arrays: the annotation of an array, None for other lists."""
    for name, field in model.model_fields.items():
        for kind in _kinds(field.annotation, field.metadata):
            if isinstance(kind, type):
                yield from _values(kind)
            elif not issubclass(model, RootModel):
                yield name, kind


def _kinds(annotation: Any, metadata: Any = ()) -> Iterator[Rank | type[BaseModel] | None]:
    """What a value may be besides a scalar: an annotated array, an object, or (None) anything else."""
    ranks = [entry for entry in metadata if isinstance(entry, Rank)]
    origin = get_origin(annotation)
    if ranks:
        yield from ranks
    elif origin is Annotated:
        yield from _kinds(get_args(annotation)[0], get_args(annotation)[1:])
    elif origin in (Union, UnionType):
        for choice in get_args(annotation):
            yield from _kinds(choice)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif origin is not Literal and annotation not in _SCALARS:
        yield None
