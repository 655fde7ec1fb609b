"""A cache of the refusals of lanes, so that similar requests are refused before their body is read.

A lane predicts by a job's size and by the jobs before it, which needs a parsed body. That takes several times as long
as a refusal by admission control. This cache therefore has, for each kind of request, the time at which the last
refused one would have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

# Refusals in a row after which a kind is refused by admission control. Requests of one kind may differ in cost. While
# the lane admits some of them, each is parsed and checked by the lane.
LEAST_REFUSALS = 4
# The part of its time in which a request must be predicted to end. A lane allows more, so it takes several requests
# between two refusals, and not one.
MARGIN = 0.7
# The most kinds in the cache.
MOST_KINDS = 256


class Verdicts:
    """The last refusal of each kind of request, and how many there were in a row.

    Args:
        clock: the present time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._found: dict[Hashable, tuple[int, float]] = {}

    def __bool__(self) -> bool:
        """Whether the cache has any kind."""
        return bool(self._found)

    def refused(self, kind: Hashable, predicted: float) -> None:
        """Note that a lane refused a request, because it would end in `predicted` seconds."""
        count, _ = self._found.pop(kind, (0, 0.0))
        self._found[kind] = count + 1, self._clock() + predicted
        if len(self._found) > MOST_KINDS:
            del self._found[next(iter(self._found))]

    def answered(self, kind: Hashable) -> None:
        """Note that a request was answered."""
        self._found.pop(kind, None)

    def late(self, kind: Hashable, timeout: float) -> float:
        """The predicted seconds of a request if its lane would refuse it, and 0 if not.

        Args:
            kind: of the request.
            timeout: seconds until its deadline.
        """
        count, end = self._found.get(kind, (0, 0.0))
        left = end - self._clock()
        if count and left <= 0:
            del self._found[kind]
        return left if count >= LEAST_REFUSALS and left > MARGIN * timeout else 0.0
