"""Points of files without coordinates: registration omits them, and the other points keep their indices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from ..formats.arrays import Float64
from .problem import MAX_COORDINATE
from .schemas.options import MAX_WIRE_PAIRS
from .schemas.registration import RegisterRequest

Mask = NDArray[np.bool_]

# Fields of an answer with a row for each source point.
BY_SOURCE = ("matching_probability", "outlier_probability", "registered", "displacement")


class Present(NamedTuple):
    """Masks of the points with coordinates, (N,) and (M,); None if all points have them."""

    source: Mask | None = None
    target: Mask | None = None

    def check(self, body: RegisterRequest) -> None:
        """If points are missing, raise InvalidInput for a request that cannot be computed without them.

        That is a prior matrix, a coordinate whose square would overflow, or more than MAX_WIRE_PAIRS responsibilities.
        """
        if self.source is None and self.target is None:
            return
        if isinstance(body.prior, np.ndarray):
            raise InvalidInput(
                "a prior matrix cannot be combined with points without coordinates; remove these points first",
                pointer="/prior",
                allowed="the name of a prior",
            )
        for name, present in self._asdict().items():
            if present is not None:
                _check_range(getattr(body, name), present, name)
        rows = len(body.source if self.source is None else self.source)
        pairs = rows * len(body.target if self.target is None else self.target)
        if "responsibilities" in body.include and pairs > MAX_WIRE_PAIRS:
            raise InvalidInput(
                f"responsibilities would be {pairs} numbers; omit them, or send fewer points",
                pointer="/include",
                allowed=f"at most {MAX_WIRE_PAIRS} pairs",
            )

    def reduce(self, body: RegisterRequest) -> RegisterRequest:
        """The request with the weights and pairs of the points with coordinates only, in their indices.

        Raises InvalidInput for weights that are not one for each point of the file, and for a pair of a point that
        does not exist or has no coordinates.
        """
        for name, present in self._asdict().items():
            weights = getattr(body, f"{name}_weights")
            if present is None or weights is None:
                continue
            if weights.shape != present.shape:
                raise InvalidInput(
                    f"{name}_weights has {len(weights)} numbers; the file has {len(present)} points",
                    pointer=f"/{name}_weights",
                    allowed=f"{len(present)} numbers",
                )
            setattr(body, f"{name}_weights", weights[present])
        if body.pairs is not None:
            body.pairs = self._renumbered(body.pairs)
        return body

    def of_points(self, values: Mapping[str, Float64]) -> dict[str, Float64]:
        """The rows of `values` (N, ...) for each cloud by its name, of the points with coordinates only."""
        masks = self._asdict()
        return {name: rows if masks[name] is None else rows[masks[name]] for name, rows in values.items()}

    def _renumbered(self, pairs: Float64) -> Float64:
        out = pairs.copy()
        for column, (name, present) in enumerate(self._asdict().items()):
            if present is None:
                continue
            index = pairs[:, column]
            known = (index >= 0) & (index < len(present)) & (index == np.floor(index))
            place = np.where(known, index, 0).astype(np.int64)
            wrong = ~(known & present[place])
            if wrong.any():
                k = int(wrong.argmax())
                raise InvalidInput(
                    f"the pair names point {index[k]:.15g} of the {name}, which has no coordinates or does not exist",
                    pointer=f"/pairs/{k}",
                    allowed=f"indices of points of the {name} with coordinates",
                )
            out[:, column] = (np.cumsum(present) - 1)[place]
        return out

    def restore(self, found: dict[str, Any]) -> dict[str, Any]:
        """The answer in the indices of the files, with null or NaN for points without coordinates.

        Args:
            found: the answer for the points with coordinates, from `wire.registration`.
        """
        if self.source is None and self.target is None:
            return found
        restored = dict(found)
        if self.target is not None:
            places = np.flatnonzero(self.target).tolist()
            restored["matching"] = [None if j is None else places[j] for j in found["matching"]]
        if self.source is not None:
            matches = iter(restored["matching"])
            restored["matching"] = [next(matches) if present else None for present in self.source.tolist()]
            for name in BY_SOURCE:
                if found.get(name) is not None:
                    restored[name] = expand(found[name], self.source)
        if "responsibilities" in found:
            columns = expand(found["responsibilities"].T, self.target).T
            restored["responsibilities"] = np.ascontiguousarray(expand(columns, self.source))
        return restored


def _check_range(points: Float64, present: Mask, name: str) -> None:
    """As `checks.check` does, but with the index that the point has in its file."""
    large = np.argwhere(np.abs(points) > MAX_COORDINATE)
    if len(large):
        row, axis = large[0].tolist()
        place = [int(np.flatnonzero(present)[row]), axis]
        raise InvalidInput(
            f"the value at {place} is {points[row, axis]}; its square would overflow",
            pointer=f"/{name}",
            allowed=f"finite numbers of magnitude up to {MAX_COORDINATE}",
        )


def separate(fields: dict[str, Any]) -> tuple[dict[str, Any], Present]:
    """The fields of a form with the points that have coordinates only, and the masks of these points."""
    masks: dict[str, Mask] = {}
    fields = dict(fields)
    for name in ("source", "target"):
        points = fields.get(name)
        # `read_cloud` sets all coordinates of a missing point to NaN.
        if isinstance(points, np.ndarray) and np.isnan(points[:, 0]).any():
            masks[name] = ~np.isnan(points[:, 0])
            fields[name] = points[masks[name]]
    return fields, Present(**masks)


def expand(values: Float64, present: Mask | None) -> Float64:
    """`values` (n, ...) at the n places that `present` (N,) marks, and NaN rows elsewhere: (N, ...)."""
    if present is None:
        return values
    whole = np.full((len(present), *values.shape[1:]), np.nan)
    whole[present] = values
    return whole
