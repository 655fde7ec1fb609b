"""Answers of registrations as arrays by their names, for .npz; see `schemas.answers` for the fields.

One answer leaves a null array out; a null number is NaN, and a point without a partner has the match -1. In a batch the
fields of each point are concatenated along `source_offsets`, and all others have an axis for the problems. There every
null is NaN, and a field that is null for all problems is left out. A problem with an error has NaN, -1 and empty texts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import NotAcceptable
from ..formats.arrays import Float64
from ..web.npz_body import flatten, texts
from .batches import Refusal
from .kinds import KINDS, TransformKind
from .outcome import Outcome, Quality, Trace
from .plan import Plan
from .schemas.answers import MAX_MATRIX_DIMENSION
from .wire import homogeneous, rotation_and_scale

Arrays = dict[str, NDArray[Any]]
Result = Outcome | Refusal

NONE = -1
# Elements whose operations take as long as the fields of one problem that are not of its points.
_PROBLEM = 1 << 8


def single(found: Mapping[str, Any], registered: Float64) -> Arrays:
    """One answer: `found` from `wire.registration`, and the registered source (N, D) as `points`."""
    # Read item by item: the conversion of a long list would hold the interpreter's lock.
    items = (NONE if j is None else j for j in found["matching"])
    matching = np.fromiter(items, np.int64, len(found["matching"]))
    numbers = {name: math.nan for name in ("scale", "log_likelihood") if found[name] is None}
    return flatten({"points": registered, **found, **numbers, "matching": matching, "quality": _one(found["quality"])})


def _one(quality: Mapping[str, Any]) -> dict[str, Any]:
    """The block `quality` of one answer, its k degenerate motions as k kinds and k axes (k, D)."""
    free = quality["degenerate"]
    numbers = {name: math.nan for name in ("rmse", "centroid_standard_error") if quality[name] is None}
    axes = {"axis": np.stack([one["axis"] for one in free])} if free else {}
    return {**quality, **numbers, "degenerate": {"kind": [one["kind"] for one in free], **axes}}


def elements(results: Sequence[Result], points: int) -> int:
    """The arrays of the results take as long as an operation on this number of elements.

    Args:
        results: of all problems.
        points: the number of their source points.
    """
    outcomes = [result for result in results if isinstance(result, Outcome)]
    optional = sum(
        part.size
        for one in outcomes
        for part in (one.responsibilities, one.registered, one.displacement, one.outlier_probability)
        if part is not None
    )
    # Each point has a match and its probability.
    return len(results) * _PROBLEM + 2 * points + optional


def check_dimensions(plans: Sequence[Plan | Refusal]) -> None:
    """Raise NotAcceptable if the problems have points of different dimensions, which one array cannot hold."""
    found = {plan.problem.source.shape[1] for plan in plans if isinstance(plan, Plan)}
    if len(found) > 1:
        raise NotAcceptable(
            f"the problems have points of {' and '.join(map(str, sorted(found)))} coordinates, which one array cannot "
            "hold",
            pointer="/Accept",
            allowed=["application/json"],
        )


def batch(plans: Sequence[Plan | Refusal], results: Sequence[Result], source_offsets: NDArray[np.int64]) -> Arrays:
    """The answers of B problems.

    Args:
        plans: of the problems.
        results: the outcome or the error of each, in the same order.
        source_offsets: (B + 1,) where the points of each problem begin.
    """
    answered, outcomes, kinds = [], [], []
    status, detail = np.full(len(results), 200), [""] * len(results)
    for b, (plan, result) in enumerate(zip(plans, results, strict=True)):
        if isinstance(result, Outcome) and isinstance(plan, Plan):
            answered.append(b)
            outcomes.append(result)
            kinds.append(KINDS[plan.problem.transform])
        elif isinstance(result, dict):
            status[b], detail[b] = result["status"], str(result["detail"])
    columns = _Columns(len(results), answered, source_offsets.tolist())
    return {
        "status": status,
        "detail": texts(detail),
        "source_offsets": source_offsets,
        **(_fields(columns, outcomes, kinds) if outcomes else {}),
    }


def _fields(columns: _Columns, outcomes: Sequence[Outcome], kinds: Sequence[TransformKind]) -> Arrays:
    """The fields of the outcomes, at least one, whose transforms have these kinds."""
    values: dict[str, tuple[Any, ...]] = dict(zip(Outcome._fields, zip(*outcomes, strict=True), strict=True))
    warnings = values["warnings"]
    return {
        **_poses(columns, values, kinds),
        **columns.points("matching", values["matching"]),
        **columns.points("matching_probability", values["matching_probability"]),
        "outlier_weight": columns.spread(values["outlier_weight"], math.nan),
        **columns.points("outlier_probability", values["outlier_probability"]),
        "sigma": columns.spread(values["sigma"], math.nan),
        "noise": columns.texts(values["noise"]),
        **columns.optional("sampling", values["sampling"]),
        "log_likelihood": columns.spread(values["log_likelihood"], math.nan),
        **columns.optional("translation_covariance", values["translation_covariance"]),
        **columns.optional("rotation_covariance", values["rotation_covariance"]),
        "iterations": columns.spread(values["iterations"], NONE, np.int64),
        "converged": columns.spread(values["converged"], False, np.bool_),
        "stop_reason": columns.texts(values["stop_reason"]),
        "start": columns.texts(values["start"]),
        "warnings": texts([*chain.from_iterable(warnings)]),
        "warnings_offsets": columns.offsets([len(listed) for listed in warnings]),
        **_qualities(columns, values["quality"]),
        **_responsibilities(columns, values["responsibilities"]),
        **columns.points("registered", values["registered"]),
        **columns.points("displacement", values["displacement"]),
        **_traces(columns, values["trace"]),
    }


def _poses(columns: _Columns, values: Mapping[str, Sequence[Any]], kinds: Sequence[TransformKind]) -> Arrays:
    translations = _stacked(values["translation"])
    dimension = translations.shape[1]
    identity = np.eye(dimension) if dimension <= MAX_MATRIX_DIMENSION else None
    linear = [identity if part is None else part for part in values["linear"]]
    parts = [
        (None, None) if kind.shears else rotation_and_scale(part, kind)
        for part, kind in zip(linear, kinds, strict=True)
    ]
    scales = [math.nan if scale is None else scale for _, scale in parts]
    rivals = values["runner_up"]
    arrays: Arrays = {
        "translation": columns.spread(translations, math.nan),
        **columns.optional("rotation", [rotation for rotation, _ in parts]),
        "scale": columns.spread(scales, math.nan),
    }
    if identity is not None:
        matrix = np.zeros((len(linear), dimension + 1, dimension + 1))
        matrix[:, :-1, :-1] = identity if all(part is identity for part in linear) else linear
        matrix[:, :-1, -1] = translations
        matrix[:, -1, -1] = 1
        arrays["matrix"] = columns.spread(matrix, math.nan)
    other = [None if rival is None else homogeneous(*rival.pose) for rival in rivals]
    gaps = [None if rival is None else rival.gap for rival in rivals]
    return {
        **arrays,
        **columns.optional("runner_up.matrix", other),
        **columns.optional("runner_up.log_likelihood_gap", gaps),
    }


def _qualities(columns: _Columns, values: Sequence[Quality]) -> Arrays:
    """The blocks `quality`: their numbers, and their reasons and degenerate motions one after the other."""
    verdicts, reasons, overlaps, rmse, evidence, errors, degenerate = zip(*values, strict=True)
    free = [*chain.from_iterable(degenerate)]
    axes = {"quality.degenerate.axis": np.stack([freedom.axis for freedom in free])} if free else {}
    of_source, of_target = zip(*overlaps, strict=True)
    return {
        "quality.verdict": columns.texts(verdicts),
        "quality.reasons": texts([*chain.from_iterable(reasons)]),
        "quality.reasons_offsets": columns.offsets([*map(len, reasons)]),
        "quality.overlap.source": columns.spread(of_source, math.nan),
        "quality.overlap.target": columns.spread(of_target, math.nan),
        "quality.rmse": columns.spread(rmse, math.nan),
        "quality.evidence": columns.spread(evidence, math.nan),
        "quality.centroid_standard_error": columns.spread(errors, math.nan),
        "quality.degenerate.kind": texts([freedom.kind for freedom in free]),
        **axes,
        "quality.degenerate_offsets": columns.offsets([*map(len, degenerate)]),
    }


def _stacked(values: Sequence[Float64 | float]) -> Float64:
    """Small arrays (...), or numbers, as one array (B, ...). `np.array` takes three times as long for arrays."""
    first = values[0]
    if isinstance(first, np.ndarray) and first.ndim:
        return np.concatenate(values).reshape(len(values), *first.shape)
    return np.array(values, np.float64)


def _responsibilities(columns: _Columns, values: Sequence[Float64 | None]) -> Arrays:
    """R of each problem, row by row, (Σ N·M,), and where each problem's numbers begin."""
    if all(value is None for value in values):
        return {}
    flat = [np.empty(0) if value is None else value.reshape(-1) for value in values]
    sizes = columns.offsets([len(part) for part in flat])
    return {"responsibilities": np.concatenate(flat), "responsibilities_offsets": sizes}


def _traces(columns: _Columns, traces: Sequence[Trace | None]) -> Arrays:
    """The traces one after the other, (Σ k, ...), and where each problem's begins."""
    given = [trace for trace in traces if trace is not None]
    if not given:
        return {}
    arrays: Arrays = {"trace_offsets": columns.offsets([0 if trace is None else len(trace.sigma) for trace in traces])}
    for name in ("log_likelihood", "sigma", "translation"):
        arrays[f"trace.{name}"] = np.concatenate([getattr(trace, name) for trace in given])
    if any(trace.linear is not None for trace in given):
        pieces = [
            np.full((*trace.translation.shape, trace.translation.shape[1]), math.nan)
            if trace.linear is None
            else trace.linear
            for trace in given
        ]
        arrays["trace.linear"] = np.concatenate(pieces)
    return arrays


class _Columns(NamedTuple):
    """How the values of the problems that have an outcome become arrays for all B problems."""

    problems: int  # B
    places: list[int]  # the problems that have an outcome
    bounds: list[int]  # B + 1, where the points of each problem begin

    def spread(self, values: Sequence[Any] | NDArray[Any], default: float, dtype: Any = np.float64) -> NDArray[Any]:
        """(B, ...): the values at their places, and the default at all others."""
        column = np.asarray(values, dtype)
        if len(column) == self.problems:
            return column
        whole = np.full((self.problems, *column.shape[1:]), default, dtype)
        whole[self.places] = column
        return whole

    def optional(self, name: str, values: Sequence[Float64 | float | None]) -> Arrays:
        """(B, ...) of values of which some are null; nothing if all are."""
        first = next((value for value in values if value is not None), None)
        if first is None:
            return {}
        if all(value is first for value in values):  # such as the rotation of all translations
            return {name: self.spread(np.full((len(values), *np.shape(first)), first), math.nan)}
        null = np.full(np.shape(first), math.nan)
        return {name: self.spread(_stacked([null if value is None else value for value in values]), math.nan)}

    def points(self, name: str, values: Sequence[NDArray[Any] | None]) -> Arrays:
        """(ΣN, ...) of values with a row for each point, of which some are null; nothing if all are."""
        first = next((value for value in values if value is not None), None)
        if first is None:
            return {}
        given = [value for value in values if value is not None]
        if len(given) == self.problems:
            return {name: np.concatenate(given)}
        null = NONE if first.dtype.kind == "i" else math.nan
        whole = np.full((self.bounds[-1], *first.shape[1:]), null, first.dtype)
        for place, value in zip(self.places, values, strict=True):
            if value is not None:
                whole[self.bounds[place] : self.bounds[place + 1]] = value
        return {name: whole}

    def texts(self, values: tuple[str, ...]) -> NDArray[np.str_]:
        """(B,) texts, empty at all other places."""
        if len(values) == self.problems:
            return texts(values)
        found = [""] * self.problems
        for place, value in zip(self.places, values, strict=True):
            found[place] = value
        return texts(found)

    def offsets(self, sizes: Sequence[int]) -> NDArray[np.int64]:
        """(B + 1,) where parts of these sizes begin; all other problems have none."""
        bounds = np.zeros(self.problems + 1, np.int64)
        bounds[1:] = self.spread(sizes, 0, np.int64)
        return np.cumsum(bounds)
