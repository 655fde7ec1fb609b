"""Batches jobs that arrive one by one: `Batcher[Job, Result]`.

All bookkeeping happens on the event loop, so there are no locks. The worker runs on threads of its own, except for
short batches, which the event loop runs itself. A batch starts as soon as the worker is idle, and the next batch forms
while it runs. `scheduling` states whose jobs are next. One batch computes at a time; with several threads, others may
have begun and stand still (`turns`). Nothing polls or sleeps.

Guarantees, whatever the worker does:
- Every submitted job ends: with its result, its own error, its cancellation, its deadline, or the shutdown.
- A job that breaks the worker fails alone: the batch is halved until that job is isolated.
- The queue is bounded in jobs and in cost. A job that is predicted to end after its deadline is refused, on arrival or
  when its turn comes (`deadlines`).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import math
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Generic

from ..errors import DeadlineExceeded, LatentserveError, Overloaded, ShuttingDown
from .batch import Arrival, Batch, Entry, JobT, ResultT, deliver
from .caller import CALLER
from .deadlines import Deadlines
from .flows import Flow, size_class
from .forecast import Forecast
from .isolation import attempt, explained
from .lane_threads import LaneThreads
from .limits import Limits
from .observer import Observer, SilentObserver
from .scheduling import FairQueue
from .standing import Standing
from .turns import SLICE_SECONDS, Turn

__all__ = ["Batcher", "Limits"]

# The forecast learns from one in this many of the jobs that run alone. No job waits while they run.
_LONE_OBSERVED = 8


class Batcher(Generic[JobT, ResultT]):
    """Runs `worker(jobs) -> results` on threads of its own.

    The worker returns one result per job, in order. A result may be an exception, which then fails its job alone.

    Args:
        name: name of the lane, for errors and the thread.
        worker: the computation. With one thread it is never called twice at the same time. With several it is, but
            only one call computes. The others wait in `turns.give_way`.
        limits: bounds of a batch and of the queue. A job that costs more than a full batch runs alone.
        cost: the part of the limits that a job uses, of the batch and of the queue.
        key: jobs share a batch only if their keys are equal. Jobs of one caller, size and key run in order of arrival.
        size: jobs of one caller whose sizes differ by much do not wait for one another; see `scheduling`.
        cancel: called when the result of a job is no longer needed, so that a running worker may stop.
        is_out_of_memory: whether an error means that the device is out of memory.
        stall_seconds: a batch that runs longer, or gives no way for longer, counts as stalled; see `turns`.
        pass_seconds: how much longer than that a job may take between two chances to give way.
        observer: receives the events.
        elsewhere: jobs in the same queue of other processes, and their cost. The limits of the queue cover them.
        is_short: whether a batch takes a few milliseconds at most. The event loop then runs it itself: waking the
            thread and returning would take about as long as one small job.
        threads: how many batches may have begun and not ended. Those of one caller take half of them at most. The
            last is for jobs that are smaller than all others that have begun.
        alone: of jobs that cost this or more, one at a time is in progress, because of their memory.
        nice: how much the threads lower their priority, from 0 to 19.
    """

    def __init__(
        self,
        name: str,
        worker: Callable[[list[JobT]], Sequence[ResultT | Exception]],
        *,
        limits: Limits,
        cost: Callable[[JobT], float] = lambda _: 1,
        key: Callable[[JobT], Hashable] = lambda _: None,
        size: Callable[[JobT], float] = lambda _: 1,
        cancel: Callable[[JobT], None] = lambda _: None,
        is_out_of_memory: Callable[[BaseException], bool] = lambda error: isinstance(error, MemoryError),
        stall_seconds: float = math.inf,
        pass_seconds: Callable[[JobT], float] = lambda _: 0.0,
        observer: Observer | None = None,
        elsewhere: Callable[[], tuple[int, float]] = lambda: (0, 0.0),
        is_short: Callable[[list[JobT]], bool] = lambda _: False,
        threads: int = 1,
        alone: float = math.inf,
        nice: int = 0,
    ) -> None:
        self.name = name
        self._worker = worker
        self.limits = limits
        """Bounds of a batch and of the queue."""
        self._cost = cost
        self._key = key
        self._size = size
        self._cancel = cancel
        self._stall_seconds = stall_seconds
        self._pass_seconds = pass_seconds
        self._observer: Observer = observer or SilentObserver()
        self._explain = partial(explained, self._observer.failed, is_out_of_memory)
        self._elsewhere = elsewhere
        self._is_short = is_short

        self._queue: FairQueue[Entry[JobT, ResultT]] = FairQueue(max(1, threads // 2))
        self._lone: Arrival[JobT, ResultT] | None = None
        self._lone_jobs = 0
        self._running: Batch[JobT, ResultT] | None = None
        self._running_since = math.inf
        self._is_contended = False
        self._forecast = Forecast()
        self._deadlines = Deadlines(self._forecast, limits)
        self._closing = False
        self._dispatch_due = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._threads: LaneThreads[JobT, ResultT | BaseException] = LaneThreads(
            f"batcher-{name}", lambda jobs: attempt(self._worker, jobs), nice
        )
        self._standing: Standing[JobT, ResultT] = Standing(self._threads, threads, alone)
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- start and stop -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the worker's thread. Call this on the event loop that submits the jobs."""
        self._loop = self._threads.loop = asyncio.get_running_loop()
        self._threads.add()

    async def close(self, timeout: float) -> None:
        """Refuse new jobs, let queued jobs finish within `timeout` seconds, then fail the rest with ShuttingDown."""
        self._closing = True
        self._queue_lone()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            for entry in [*(entry for batch in self._begun() for entry in batch.entries), *self._queue]:
                self._abandon(entry, ShuttingDown("the service is stopping", retry_after=1))
        self._threads.stop()
        if not self._begun():
            await self._threads.join(timeout)

    def is_alive(self) -> bool:
        """Whether the worker's threads are alive, and its batch has made progress lately."""
        silent, batch = self.running_seconds, self._running
        if silent >= self._stall_seconds and batch is not None:
            silent = batch.silent_seconds(silent) - max(self._pass_seconds(entry.job) for entry in batch.entries)
        return self._threads.is_alive() and silent < self._stall_seconds

    @property
    def running_seconds(self) -> float:
        """Seconds that the current batch has been running without a pause; 0 if the worker is idle."""
        return max(0.0, time.monotonic() - self._running_since)

    # -- submission ---------------------------------------------------------------------------------------------

    async def submit(self, job: JobT, timeout: float | None = None) -> ResultT:
        """Queue `job` and wait for its result.

        Args:
            job: the job.
            timeout: seconds until the deadline; None for no deadline.

        Raises:
            Overloaded: the queue is full, or the job is predicted to end after `timeout`, now or when its turn comes.
            ShuttingDown: the batcher is closing.
            DeadlineExceeded: `timeout` passed before the result was ready.
            WorkerFailed: the worker failed on this job alone. OutOfMemory is one kind of it.
            LatentserveError: the error that the worker raised or returned for this job.
            RuntimeError: the batcher was not started.
        """
        entry = self._admit(job, timeout)
        timer = None
        if timeout is not None:
            timer = entry.future.get_loop().call_later(
                timeout, self._abandon, entry, DeadlineExceeded("no result before the request's deadline")
            )
        try:
            return await entry.future
        except asyncio.CancelledError:
            self._abandon(entry, None)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            del entry  # an error of its future has this frame

    def _admit(self, job: JobT, timeout: float | None) -> Entry[JobT, ResultT]:
        if self._loop is None:
            raise RuntimeError(f"batcher {self.name!r} was not started")
        if self._closing:
            raise ShuttingDown("the service is stopping and accepts no new work", retry_after=1)
        self._queue_lone()
        cost, caller, size = self._cost(job), CALLER.get(), size_class(self._size(job))
        queue, (items, queued_cost) = self._queue, self._elsewhere()
        items += queue.items
        if self.limits.is_full(items, queued_cost + queue.cost, cost, lambda: queue.has_jobs_of(caller)):
            raise Overloaded(
                f"the {self.name} queue is full ({items} jobs wait); try again later", retry_after=self.predicted_wait()
            )
        now, future = time.monotonic(), self._loop.create_future()
        entry: Entry[JobT, ResultT] = Entry(job, self._key(job), cost, now, future, contextvars.copy_context())
        if timeout is not None:
            self._deadlines.check(size, self.predicted_wait(caller, size), timeout)
            entry.timeout, entry.deadline = timeout, now + timeout
        self._idle.clear()
        if not queue.items and self._running is None and not self._standing and self._is_short([job]):
            self._lone = Arrival(entry, caller, size)
            self._observer.queued(1, cost)
            self._dispatch_soon()
            return entry
        flow = queue.put(entry, caller, size)
        self._observer.queued(queue.items, queue.cost)
        if self._running is None:
            self._dispatch_soon()
        elif flow is not self._running.parts[0].flow:
            self._is_contended = True
        return entry

    def predicted_wait(self, caller: str | None = None, size: int = 0) -> float:
        """Predicted seconds until the present jobs of a caller and size are done, from the duration of recent batches.

        Without a caller, until all present jobs are done.
        """
        queue, waiting = self._queue, self._forecast.waiting
        wait = sum(map(waiting, queue.flows())) if caller is None else queue.ahead(caller, size, waiting)
        for batch in self._begun():
            flow, left = batch.parts[0].flow, batch.left(self._forecast)
            left = max(0.0, left - self.running_seconds) if batch is self._running else left
            if self._standing.most == 1 or caller is None or (flow.caller.name, flow.size) == (caller, size):
                wait += left
            elif batch is self._running:  # it gives way
                wait += min(left, SLICE_SECONDS)
        return wait

    def _abandon(self, entry: Entry[JobT, ResultT], error: LatentserveError | None) -> None:
        """End `entry`: remove it from the queue, fail it with `error` if given, and signal a running worker."""
        if self._queue.discard(entry):
            self._observer.queued(self._queue.items, self._queue.cost)
        if error is not None and not entry.future.done():
            entry.future.set_exception(error)
        self._cancel(entry.job)
        self._settle()

    # -- dispatch and completion --------------------------------------------------------------------------------

    def _dispatch_soon(self) -> None:
        # Dispatch in the next turn of the loop, so that requests that became readable together share a batch.
        if self._running is None and not self._dispatch_due and self._loop is not None:
            self._dispatch_due = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatch_due = False
        if self._lone is not None:
            self._run_lone(self._lone)
        while self._running is None:
            if (flow := self._queue.choose(self._standing.below(), self._standing.may_begin)) is None:
                return
            if flow.paused:
                self._resume(self._standing.remove(flow))
                return
            now = time.monotonic()
            # A job that is alone is tried, so that a wrong forecast corrects itself.
            late = self._deadlines.late(flow, now) if self._queue.items > 1 else None
            if late is None:
                self._begin(flow, now)
                return
            self._abandon(late, self._deadlines.refusal(flow, late, now))

    def _queue_lone(self) -> None:
        """Let a job that came first wait for its turn like all others, because another has come."""
        if self._lone is not None:
            self._queue.put(*self._lone)
            self._lone = None

    def _run_lone(self, lone: Arrival[JobT, ResultT]) -> None:
        """Run a short job on the event loop, while there is no other. It then needs no turn, nor a place in a flow."""
        self._lone = None
        self._observer.queued(0, 0.0)
        if lone.entry.future.done():  # it was cancelled, or its deadline has passed
            self._settle()
            return
        self._observer.dispatched([time.monotonic() - lone.entry.arrived])
        outcomes, seconds = self._threads.timed([lone.entry.job])
        self._lone_jobs += 1
        if self._lone_jobs % _LONE_OBSERVED == 1:
            self._forecast.observe(lone.size, seconds, 1)
        self._observer.finished(1, seconds)
        deliver([lone.entry], outcomes, self._explain)
        self._settle()

    def _begin(self, flow: Flow[Entry[JobT, ResultT]], now: float) -> None:
        most = self._deadlines.most_jobs(flow, now)
        entries, parts = self._queue.take(flow, most, self.limits.batch_cost)
        self._start(batch := Batch(entries, parts, None))
        self._observer.queued(self._queue.items, self._queue.cost)
        self._observer.dispatched([self._running_since - entry.arrived for entry in entries])
        jobs = [entry.job for entry in entries]
        if self._is_short(jobs):
            self._finished(batch, *self._threads.timed(jobs))
            return
        if self._standing.most > 1:
            batch.turn = Turn(lambda: self._is_contended, partial(self._pause_soon, batch))
        self._threads.put(jobs, batch.turn, partial(self._finished, batch))

    def _start(self, batch: Batch[JobT, ResultT]) -> None:
        self._running, self._running_since = batch, time.monotonic()
        self._is_contended = self._queue.is_contended(batch.parts[0].flow)

    def _finished(self, batch: Batch[JobT, ResultT], outcomes: list[ResultT | BaseException], seconds: float) -> None:
        self._running, self._running_since = None, math.inf
        self._forecast.observe(batch.parts[0].flow.size, seconds, len(batch.entries))
        self._queue.charge(batch.parts, seconds if batch.turn is None else max(0.0, seconds - batch.turn.charged))
        self._queue.end(batch.parts)
        self._observer.finished(len(batch.entries), seconds)
        deliver(batch.entries, outcomes, self._explain)
        self._dispatch_soon()
        self._settle()

    def _begun(self) -> list[Batch[JobT, ResultT]]:
        return [*self._standing] if self._running is None else [self._running, *self._standing]

    def _settle(self) -> None:
        if self._running is None and not self._standing and not self._queue.items and self._lone is None:
            self._idle.set()

    # -- turns --------------------------------------------------------------------------------------------------

    def _pause_soon(self, batch: Batch[JobT, ResultT], seconds: float) -> None:
        """Called by the thread of a batch whose slice of `seconds` has ended."""
        # The loop is closed if the batch runs past the shutdown's timeout.
        with contextlib.suppress(RuntimeError):
            self._threads.loop.call_soon_threadsafe(self._pause, batch, seconds)

    def _pause(self, batch: Batch[JobT, ResultT], seconds: float) -> None:
        self._running, self._running_since = None, math.inf
        self._queue.charge(batch.parts, seconds)
        self._standing.add(batch)
        self._dispatch()

    def _resume(self, batch: Batch[JobT, ResultT]) -> None:
        self._start(batch)
        if batch.turn is not None:
            batch.turn.resume()
