"""The pauses before a replica that died is started again."""

from __future__ import annotations

FIRST_SECONDS = 0.5
MAX_SECONDS = 30.0
# A replica that has served this long is taken to be sound, so its next death counts as the first.
SOUND_SECONDS = 60.0
# Deaths of one replica before it served, after which the service gives up if no other replica serves.
MOST_FAILED_STARTS = 4


class Backoff:
    """Counts the deaths of one replica. The first restart is immediate, and each further pause doubles."""

    def __init__(self) -> None:
        self._deaths = 0
        self.failed_starts = 0

    def died(self, served_seconds: float | None) -> float:
        """Seconds to wait before the next start.

        `served_seconds` is how long the replica served; None if it never did.
        """
        if served_seconds is None:
            self.failed_starts += 1
        else:
            self.failed_starts = 0
            if served_seconds >= SOUND_SECONDS:
                self._deaths = 0
        self._deaths += 1
        return 0.0 if self._deaths == 1 else min(MAX_SECONDS, FIRST_SECONDS * 2.0 ** min(self._deaths - 2, 30))

    @property
    def is_hopeless(self) -> bool:
        """Whether the maximum number of starts in a row has failed."""
        return self.failed_starts >= MOST_FAILED_STARTS
