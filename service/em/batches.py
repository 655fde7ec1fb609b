"""The problems of a batch: each is read on its own, and one that is refused does not affect the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ..errors import InvalidInput, LatentserveError
from ..web.observability import log
from ..web.problems import object_of_domain, object_of_validation, problem_object
from . import wire
from .cancellation import Flag
from .checks import check
from .engine import EmEngine
from .outcome import Outcome
from .plan import Plan, plan
from .schemas.options import MAX_WIRE_PAIRS
from .schemas.registration import RegisterRequest

# The members of a problem, RFC 9457.
Refusal = dict[str, object]


class Reader:
    """Reads problems in order, up to a common limit for the large parts of their answers.

    Args:
        accept: called with each plan; raises LatentserveError for one that is not to be computed.
        left: seconds until the deadline, None for no limit; raises DeadlineExceeded once it has passed.
    """

    def __init__(self, accept: Callable[[Plan], object], left: Callable[[], float | None]) -> None:
        self.accept = accept
        self.abandoned = Flag()
        """The problems read it: once it is set, their computation stops."""
        self.timeout: float | None = None
        """Seconds until the deadline, when the latest problem was read."""
        self._left = left
        self._included = 0

    def read(self, index: int, raw: object, faults: Sequence[Any] = ()) -> Plan | Refusal:
        """The plan of a problem, or its refusal.

        Args:
            index: of the problem in its batch.
            raw: its fields, not yet validated.
            faults: errors in pydantic's form that were found before; the fields that they name have no second one.
        """
        try:
            body = self._validate(raw, faults)
            if self._included + body.wire_numbers > MAX_WIRE_PAIRS:
                raise InvalidInput(
                    "the answers of this batch would be too large; include fewer large parts",
                    pointer="/include",
                    allowed=f"at most {MAX_WIRE_PAIRS} numbers in total",
                )
            self._included += body.wire_numbers
            # The problems before this one took time to read, so it may be past the deadline.
            self.timeout = self._left()
            planned = plan(check(wire.problem(body).until(self.abandoned.poll)))
            self.accept(planned)
        except _Invalid as error:
            return object_of_validation(error.errors, list(RegisterRequest.model_fields), _at(index))
        except Exception as error:
            return refusal(index, error)
        return planned

    def read_all(self, problems: Sequence[object]) -> list[Plan | Refusal]:
        """The plans or refusals of all problems of a batch, in order."""
        return [self.read(index, raw) for index, raw in enumerate(problems)]

    def _validate(self, raw: object, faults: Sequence[Any]) -> RegisterRequest:
        errors, named = [*faults], {fault["loc"][0] for fault in faults}
        try:
            body = RegisterRequest.model_validate(raw)
        except ValidationError as error:
            errors += [found for found in error.errors(include_url=False) if not named & {*found["loc"][:1]}]
        if errors:
            raise _Invalid([*errors, *(wire.errors_beside(raw, errors) if isinstance(raw, dict) else ())])
        return body


class _Invalid(Exception):
    """Errors in pydantic's form."""

    def __init__(self, errors: Sequence[Any]) -> None:
        super().__init__()
        self.errors = errors


def refusal(index: int, error: Exception) -> Refusal:
    """The problem details of the error of problem `index`."""
    if isinstance(error, LatentserveError):
        return object_of_domain(error, _at(index))
    log.error("problem failed", index=index, exc_info=error)  # the other problems keep their results
    return problem_object(500, "internal", "the service failed on this problem; the log has the cause")


async def solve(em: EmEngine, plans: Sequence[Plan | Refusal], reader: Reader) -> list[Outcome | Refusal]:
    """The outcome or the refusal of each problem, in order; `reader` has read them."""
    planned = [one for one in plans if isinstance(one, Plan)]
    found = await em.solve_all(planned, reader.abandoned, reader.timeout)
    solved = iter(found)
    everything = (
        found if len(planned) == len(plans) else [next(solved) if isinstance(one, Plan) else one for one in plans]
    )
    return [refusal(index, one) if isinstance(one, Exception) else one for index, one in enumerate(everything)]


def answers(plans: Sequence[Plan | Refusal], results: Sequence[Outcome | Refusal]) -> list[dict[str, Any]]:
    """The JSON objects of the results, in the same order, with ndarrays for lists of numbers."""
    found: list[dict[str, Any]] = []
    for index, (planned, result) in enumerate(zip(plans, results, strict=True)):
        if isinstance(planned, Plan) and isinstance(result, Outcome):
            try:
                found.append(wire.registration(result, planned.problem.transform))
            except Exception as error:
                found.append(refusal(index, error))
        elif isinstance(result, dict):
            found.append(result)
    return found


def source_offsets(plans: Sequence[Plan | Refusal]) -> NDArray[np.int64]:
    """(B + 1,) where the source points of each problem begin, if they are put one after the other.

    A problem that was refused has none.
    """
    sizes = [len(planned.problem.source) if isinstance(planned, Plan) else 0 for planned in plans]
    return np.cumsum([0, *sizes], dtype=np.int64)


def _at(index: int) -> str:
    return f"/problems/{index}"
