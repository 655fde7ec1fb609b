"""Admission: how long a new request would take, and whether it is refused before it is read.

Requests wait for the event loop and for the lanes. Little's law predicts both: the number ahead x the seconds between
completions (J. D. C. Little, "A proof for the queuing formula L = λW", 1961). These make it hold where requests differ
widely in price:

- The event loop is first come, first served. A request is overtaken if a later one has ended. It is not ahead of a new
  one: it waits in a lane, for its client or for a thread.
- A timer measures the loop's lag. When it is on time, the loop has done all that was ready before. No earlier request
  is then ahead either. The seconds between completions count only while the loop is late.
- The jobs of a lane count by their number, not by their duration. Each counts for a few milliseconds at most. The lane
  itself predicts the wait of a certain job of a certain caller.

So a registration that takes an hour causes no refusals, and is not refused because it is slow.

While requests are refused, a caller that has less than its share of those in progress is still admitted. One request
now and then is admitted, too, so that a wrong prediction corrects itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Clock = Callable[[], float]

# Seconds between two measurements of the loop's lag, and the lag from which the loop is late. A thread that computes in
# Python keeps the interpreter's lock for 5 ms, which is not lateness.
TICK_SECONDS = 0.02
LATE_SECONDS = 0.01
# Seconds without a completion that count at most.
MOST_STALL_SECONDS = 0.25
# Completions that a measurement needs, for itself and for each request that arrived. With fewer, the loop waited for a
# processor, or it read a burst. The time then says little about the duration of answers.
LEAST_COMPLETIONS = 8
COMPLETIONS_PER_ARRIVAL = 1 / 16
# Seconds after which a measurement has half of its weight.
HALF_LIFE_SECONDS = 0.5
# The prediction is a mean, around which requests scatter: it may take this part of the time that is left.
MARGIN = 0.5
# Seconds that a job in a lane counts at most.
MOST_JOB_SECONDS = 0.01
# Seconds between two requests that are admitted although they would be refused.
TRIAL_SECONDS = 0.1


class Interval:
    """The mean seconds between completions, in which recent ones have more weight."""

    def __init__(self) -> None:
        self._seconds = self._completions = 0.0
        self.mean = 0.0
        """0 until there are some."""

    def add(self, seconds: float, completions: int) -> None:
        """Note that as many requests ended in `seconds`."""
        weight = math.exp2(-seconds / HALF_LIFE_SECONDS)
        self._seconds = weight * self._seconds + seconds
        self._completions = weight * self._completions + completions
        self.mean = self._seconds / max(1.0, self._completions)


class Line:
    """The jobs in one lane.

    Args:
        clock: the present time in seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._interval = Interval()
        self._ended = 0.0
        self.items = 0
        """Jobs that wait."""
        self._running = 0

    def dispatched(self, items: int) -> None:
        """Note that a batch of `items` jobs begins."""
        self._running += items

    def finished(self, items: int, seconds: float) -> None:
        """Note that a batch ended, which took `seconds`, or longer if the loop was late to note it."""
        self._running -= items
        now = self._clock()
        since, self._ended = now - self._ended, now
        # The time since the last batch is that of this one only if it did not wait for jobs.
        self._interval.add(max(seconds, since) if self.items else seconds, items)

    def wait(self) -> float:
        """Seconds that a new small job is predicted to wait."""
        return (self.items + self._running) * min(self._interval.mean, MOST_JOB_SECONDS)


class Admission:
    """The requests in progress in one process, on its event loop.

    Args:
        max_wait: seconds that a request without a deadline may be predicted to take.
        after: calls a function after a number of seconds, on the event loop.
        clock: the present time in seconds.
    """

    def __init__(self, max_wait: float, after: Callable[[float, Callable[[], None]], object], clock: Clock) -> None:
        self._max_wait = max_wait
        self._after = after
        self._clock = clock
        self._callers: dict[str, int] = {}  # the requests in progress of each
        self._newest = 0  # number of the newest request; they are numbered in order of admission
        self._passed = 0  # number of the last request that is not ahead of a new one
        self._interval = 0.0
        self._late = Interval()
        self._completions = 0  # since the last measurement
        self._ticking = False
        self._ticked = 0.0
        self._before = 0  # the newest request at the last tick
        self._tried = -math.inf
        self.in_progress = 0
        """Requests that were admitted and have not ended."""
        self._last_lag = 0.0
        self._waited = 0.0  # seconds since a completion, while the loop was late
        self.lag = 0.0
        """Seconds by which the event loop was late, at both of the last two measurements."""

    def predicted(self) -> float:
        """Seconds that a new request is predicted to take on the event loop."""
        return self.lag + (self._newest - self._passed) * self._interval

    def late(self, timeout: float | None, lane: float = 0.0) -> float:
        """The predicted seconds of a new request if they are too many, and 0 if not.

        Args:
            timeout: seconds until its deadline; None without one.
            lane: seconds that its lane predicts.
        """
        predicted = self.lag + (self._newest - self._passed) * self._interval + lane
        allowed = self._max_wait if timeout is None else timeout * MARGIN
        if predicted <= allowed and allowed > 0:
            return 0.0
        return predicted or MOST_JOB_SECONDS  # which is 0 if the request has waited too long to be read

    def spares(self, caller: str, timeout: float | None, predicted: float) -> bool:
        """Whether a request that is predicted to be late is admitted nevertheless."""
        allowed = self._max_wait if timeout is None else timeout * MARGIN
        return allowed > 0 and (self._has_share(caller, allowed / predicted) or self._is_trial())

    def _has_share(self, caller: str, part: float) -> bool:
        """Whether a caller has less than its share of the requests that may be in progress: `part` of the present."""
        own = self._callers.get(caller, 0)
        callers = len(self._callers) + (not own)
        return callers > 1 and own < part * self.in_progress / callers

    def _is_trial(self) -> bool:
        now = self._clock()
        if now - self._tried < TRIAL_SECONDS:
            return False
        self._tried = now
        return True

    def enter(self, caller: str) -> int:
        """Admit a request. Returns its number, for `leave`."""
        self.in_progress += 1
        self._callers[caller] = self._callers.get(caller, 0) + 1
        self._newest += 1
        if not self._ticking:
            self._ticking = True
            self._ticked, self._before = self._clock(), self._newest - 1
            self._after(TICK_SECONDS, self._tick)
        return self._newest

    def leave(self, number: int, caller: str) -> None:
        """Note that a request has ended, in whatever way."""
        self.in_progress -= 1
        left = self._callers[caller] - 1
        if left:
            self._callers[caller] = left
        else:
            del self._callers[caller]
        self._completions += 1
        if number > self._passed:
            self._passed = number

    def _tick(self) -> None:
        now = self._clock()
        seconds, arrived = now - self._ticked, self._newest - self._before
        lag = seconds - TICK_SECONDS
        is_late = lag >= LATE_SECONDS
        # One stall, such as a suspension of the machine, says nothing of the time after it.
        self.lag, self._last_lag = min(lag, self._last_lag) if is_late else 0.0, lag
        if is_late:
            self._waited = min(self._waited + seconds, MOST_STALL_SECONDS)
            if self._completions >= max(LEAST_COMPLETIONS, COMPLETIONS_PER_ARRIVAL * arrived):
                self._late.add(self._waited, self._completions)
                self._interval, self._waited, self._completions = self._late.mean, 0.0, 0
        else:
            self._waited, self._completions = 0.0, 0
            # The loop has kept up with these.
            self._interval = min(self._interval, seconds / max(1, arrived))
            self._passed = max(self._passed, self._before)
        self._ticked, self._before = now, self._newest
        if arrived or is_late:
            self._after(TICK_SECONDS, self._tick)
        else:
            self._ticking = False
            self._passed = self._newest
