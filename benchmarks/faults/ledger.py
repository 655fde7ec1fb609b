"""Accounts of requests: each that was offered has exactly one fate."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum


class Fate(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"  # with the right answer; the right answer to a bad request is its error
    REFUSED = "refused"  # with an error that says to come again, or that the deadline has passed
    WRONG = "wrong"  # with any other answer
    LOST = "lost"  # no answer in time, or the connection ended before it
    CUT = "cut"  # the connection ended because its process was killed
    WITHDRAWN = "withdrawn"  # the client hung up before the answer, on purpose


# What may be zero without being shown.
_OPTIONAL = (Fate.CUT, Fate.WITHDRAWN)
_MOST_FAULTS = 20


class Ledger:
    """The account of one scenario: `offer` when a request is sent, `settle` when its fate is known.

    A request that was offered and never settled is lost.
    """

    def __init__(self) -> None:
        self.offered = 0
        self.fates: Counter[Fate] = Counter()
        self.faults: list[str] = []  # the first of those that are wrong or lost, in words
        self.broken: list[str] = []  # other claims of the scenario that do not hold

    def offer(self) -> None:
        """Count a request that is sent."""
        self.offered += 1

    def settle(self, fate: Fate, what: str = "") -> None:
        """Count a request's fate; `what` describes one that is wrong or lost. Raises ValueError if none is open."""
        if self.open <= 0:
            raise ValueError("more requests are settled than were offered")
        self.fates[fate] += 1
        if fate in {Fate.WRONG, Fate.LOST} and len(self.faults) < _MOST_FAULTS:
            self.faults.append(f"{fate}: {what}")

    def claim(self, holds: bool, what: str) -> None:
        """Record that a claim of the scenario does not hold, if so; `what` is the claim with the measured value."""
        if not holds:
            self.broken.append(what)

    @property
    def open(self) -> int:
        """Requests without a fate."""
        return self.offered - self.fates.total()

    def close(self) -> None:
        """Count the requests that are still open as lost."""
        while self.open:
            self.settle(Fate.LOST, "never settled")

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong, lost or open, and all claims hold."""
        return not (self.fates[Fate.WRONG] or self.fates[Fate.LOST] or self.open or self.broken)

    def equation(self) -> str:
        """`offered 10 = answered 9 + refused 1 + wrong 0 + lost 0`, with the fates beyond these if they occurred."""
        shown = [fate for fate in Fate if fate not in _OPTIONAL or self.fates[fate]]
        return f"offered {self.offered:,} = " + " + ".join(f"{fate} {self.fates[fate]:,}" for fate in shown)
