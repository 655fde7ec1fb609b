"""What the lanes refused lately, so that the like is refused before its body is read.

A lane knows a job's size and what waits before it, but only once the body has been read and parsed. That takes several
times as long as a refusal at the door. So the door remembers, for each kind of request, when the lane would have ended
the last one that it refused.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

# Refusals in a row after which a kind is refused at the door. A kind may have requests that differ in price: while its
# lane admits some of them, it judges all.
LEAST_REFUSALS = 4
# The part of its time in which a request must be predicted to end. A lane allows more, so it takes several requests
# between two refusals, and not one.
MARGIN = 0.7
# The kinds that are remembered at most.
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
        """Whether any kind is remembered."""
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
