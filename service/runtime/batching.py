"""Batches jobs that arrive one by one: `Batcher[Job, Result]`.

All bookkeeping happens on the event loop, so there are no locks. The only other thread runs the worker, except for
short batches, which the event loop runs itself. A batch starts as soon as the worker is idle, and the next batch forms
while it runs. Nothing polls or sleeps.

Guarantees, whatever the worker does:
- Every submitted job ends: with its result, its own error, its cancellation, its deadline, or the shutdown.
- A job that breaks the worker fails alone: the batch is halved until that job is isolated.
- The queue is bounded in jobs and in cost. A job that is predicted not to start before its deadline is refused on
  arrival.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeVar

from ..errors import DeadlineExceeded, LatentserveError, OutOfMemory, Overloaded, ShuttingDown, WorkerFailed
from .observer import Observer, SilentObserver

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")

# Weight of the latest batch in the running mean of seconds per batch.
_SMOOTHING = 0.2
# Longer batches count as this multiple of the mean, so that one unusual batch does not inflate the predicted wait.
_MAX_GROWTH = 2.0


class Limits(NamedTuple):
    """Bounds of one Batcher. Costs are in the unit of its `cost` function: images, pairs or elements."""

    batch_items: int
    batch_cost: float
    queue_items: int
    queue_cost: float


@dataclass(eq=False, slots=True)
class _Entry(Generic[JobT, ResultT]):
    """A job in the queue or in a running batch."""

    job: JobT
    key: Hashable
    cost: float
    arrived: float
    future: asyncio.Future[ResultT]
    context: contextvars.Context


class Batcher(Generic[JobT, ResultT]):
    """Runs `worker(jobs) -> results` on a thread of its own.

    The worker returns one result per job, in order. A result may be an exception, which then fails its job alone.

    Args:
        name: name of the lane, for errors and the thread.
        worker: the computation. It is never called twice at the same time.
        limits: bounds of a batch and of the queue. A job that costs more than a full batch runs alone.
        cost: the part of the limits that a job uses, of the batch and of the queue.
        key: jobs share a batch only if their keys are equal. Jobs of one key run in order of arrival; keys take turns.
        cancel: called when the result of a job is no longer needed, so that a running worker may stop.
        is_out_of_memory: whether an error means that the device is out of memory.
        stall_seconds: a batch that runs longer counts as stalled.
        observer: receives the events.
        elsewhere: jobs in the same queue of other processes, and their cost. The limits of the queue cover them.
        is_short: whether a batch takes a few milliseconds at most. The event loop then runs it itself, because waking
            the thread and being woken by it would take about as long as one small job.
    """

    def __init__(
        self,
        name: str,
        worker: Callable[[list[JobT]], Sequence[ResultT | Exception]],
        *,
        limits: Limits,
        cost: Callable[[JobT], float] = lambda _: 1,
        key: Callable[[JobT], Hashable] = lambda _: None,
        cancel: Callable[[JobT], None] = lambda _: None,
        is_out_of_memory: Callable[[BaseException], bool] = lambda error: isinstance(error, MemoryError),
        stall_seconds: float = math.inf,
        observer: Observer | None = None,
        elsewhere: Callable[[], tuple[int, float]] = lambda: (0, 0.0),
        is_short: Callable[[list[JobT]], bool] = lambda _: False,
    ) -> None:
        self.name = name
        self._worker = worker
        self._limits = limits
        self._cost = cost
        self._key = key
        self._cancel = cancel
        self._is_out_of_memory = is_out_of_memory
        self._stall_seconds = stall_seconds
        self._observer: Observer = observer or SilentObserver()
        self._elsewhere = elsewhere
        self._is_short = is_short

        self._queues: OrderedDict[Hashable, OrderedDict[_Entry[JobT, ResultT], None]] = OrderedDict()
        self._queued_items = 0
        self._queued_cost = 0.0
        self._running: list[_Entry[JobT, ResultT]] = []
        self._running_since = math.inf
        self._batch_seconds = 0.0
        self._closing = False
        self._dispatch_due = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._inbox: SimpleQueue[list[JobT] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- start and stop -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the worker's thread. Call this on the event loop that submits the jobs."""
        self._loop = asyncio.get_running_loop()
        # A daemon thread, so that a stalled worker cannot keep the process from ending.
        self._thread = threading.Thread(target=self._serve, name=f"batcher-{self.name}", daemon=True)
        self._thread.start()

    async def close(self, timeout: float) -> None:
        """Refuse new jobs, let queued jobs finish within `timeout` seconds, then fail the rest with ShuttingDown."""
        self._closing = True
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except TimeoutError:
            for entry in [*self._running, *(entry for queue in self._queues.values() for entry in queue)]:
                self._abandon(entry, ShuttingDown("the service is stopping", retry_after=1))
        self._inbox.put(None)
        if self._thread is not None and not self._running:
            await asyncio.to_thread(self._thread.join, timeout)

    def is_alive(self) -> bool:
        """Whether the worker's thread is alive and its batch has not stalled."""
        return self._thread is not None and self._thread.is_alive() and self.running_seconds < self._stall_seconds

    @property
    def limits(self) -> Limits:
        """Bounds of a batch and of the queue."""
        return self._limits

    @property
    def running_seconds(self) -> float:
        """Seconds that the current batch has been running; 0 if the worker is idle."""
        return max(0.0, time.monotonic() - self._running_since)

    # -- submission ---------------------------------------------------------------------------------------------

    async def submit(self, job: JobT, timeout: float | None = None) -> ResultT:
        """Queue `job` and wait for its result.

        Args:
            job: the job.
            timeout: seconds until the deadline; None for no deadline.

        Raises:
            Overloaded: the queue is full, or the predicted wait is longer than `timeout`.
            ShuttingDown: the batcher is closing.
            DeadlineExceeded: `timeout` passed before the result was ready.
            WorkerFailed: the worker failed on this job alone. OutOfMemory is one kind of it.
            LatentserveError: the error that the worker raised or returned for this job.
            RuntimeError: the batcher was not started.
        """
        entry = self._admit(job, timeout)
        timer = None
        if timeout is not None:
            timer = entry.future.get_loop().call_later(timeout, self._expire, entry)
        try:
            return await entry.future
        except asyncio.CancelledError:
            self._abandon(entry, None)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _admit(self, job: JobT, timeout: float | None) -> _Entry[JobT, ResultT]:
        if self._loop is None:
            raise RuntimeError(f"batcher {self.name!r} was not started")
        if self._closing:
            raise ShuttingDown("the service is stopping and accepts no new work", retry_after=1)
        cost = self._cost(job)
        # An empty queue accepts any job, even one above the queue's limit, which could otherwise never be served.
        items, queued_cost = self._elsewhere()
        items, queued_cost = items + self._queued_items, queued_cost + self._queued_cost
        full = queued_cost + cost > self._limits.queue_cost and items > 0
        if full or items >= self._limits.queue_items:
            raise Overloaded(
                f"the {self.name} queue is full ({items} jobs wait); try again later", retry_after=self.predicted_wait()
            )
        if timeout is not None and (wait := self.predicted_wait()) > timeout:
            raise Overloaded(
                f"the {self._queued_items + len(self._running)} jobs ahead take about {wait:.3g} s, longer than the "
                f"{timeout:.3g} s allowed; allow more time or try again later",
                retry_after=wait,
            )
        now, future = time.monotonic(), self._loop.create_future()
        entry: _Entry[JobT, ResultT] = _Entry(job, self._key(job), cost, now, future, contextvars.copy_context())
        self._queues.setdefault(entry.key, OrderedDict())[entry] = None
        self._count(+1, entry.cost)
        self._idle.clear()
        self._dispatch_soon()
        return entry

    def predicted_wait(self) -> float:
        """Predicted seconds until all present jobs are done, from the duration of recent batches."""
        batches = max(self._queued_items / self._limits.batch_items, self._queued_cost / self._limits.batch_cost)
        running = max(0.0, self._batch_seconds - self.running_seconds) if self._running else 0.0
        return running + math.ceil(batches) * self._batch_seconds

    def _expire(self, entry: _Entry[JobT, ResultT]) -> None:
        self._abandon(entry, DeadlineExceeded("no result before the request's deadline"))

    def _abandon(self, entry: _Entry[JobT, ResultT], error: LatentserveError | None) -> None:
        """End `entry`: remove it from the queue, fail it with `error` if given, and signal a running worker."""
        queue = self._queues.get(entry.key)
        if queue is not None and entry in queue:
            del queue[entry]
            if not queue:
                del self._queues[entry.key]
            self._count(-1, -entry.cost)
        if error is not None and not entry.future.done():
            entry.future.set_exception(error)
        self._cancel(entry.job)
        self._settle()

    # -- dispatch and completion --------------------------------------------------------------------------------

    def _dispatch_soon(self) -> None:
        # Dispatch in the next turn of the loop, so that requests that became readable together share a batch.
        if not self._running and not self._dispatch_due and self._loop is not None:
            self._dispatch_due = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatch_due = False
        if self._running or not self._queues:
            return
        key, queue = next(iter(self._queues.items()))
        batch: list[_Entry[JobT, ResultT]] = []
        cost = 0.0
        while queue and len(batch) < self._limits.batch_items:
            entry = next(iter(queue))
            if batch and cost + entry.cost > self._limits.batch_cost:
                break
            del queue[entry]
            batch.append(entry)
            cost += entry.cost
        if queue:
            self._queues.move_to_end(key)
        else:
            del self._queues[key]
        self._running = batch
        self._running_since = time.monotonic()
        self._count(-len(batch), -cost)
        self._observer.dispatched([self._running_since - entry.arrived for entry in batch])
        jobs = [entry.job for entry in batch]
        if self._is_short(jobs):
            self._finished(*self._timed(jobs))
        else:
            self._inbox.put(jobs)

    def _finished(self, outcomes: list[ResultT | BaseException], seconds: float) -> None:
        batch, self._running, self._running_since = self._running, [], math.inf
        if self._batch_seconds:
            seconds_clipped = min(seconds, self._batch_seconds * _MAX_GROWTH)
            self._batch_seconds += (seconds_clipped - self._batch_seconds) * _SMOOTHING
        else:
            self._batch_seconds = seconds
        self._observer.finished(len(batch), seconds)
        for entry, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                # Run in the context of the request, so that the log line has its id.
                error = entry.context.run(self._explain, outcome)
                if not entry.future.done():
                    entry.future.set_exception(error)
            elif not entry.future.done():
                entry.future.set_result(outcome)
        self._dispatch_soon()
        self._settle()

    def _explain(self, error: BaseException) -> Exception:
        if isinstance(error, LatentserveError):
            return error
        self._observer.failed(error)
        explained: LatentserveError
        if self._is_out_of_memory(error):
            explained = OutOfMemory("this request alone needs more memory than the device has; make it smaller")
        else:
            explained = WorkerFailed(f"the computation failed: {type(error).__name__}")
        explained.__cause__ = error
        return explained

    def _count(self, items: int, cost: float) -> None:
        self._queued_items += items
        # Costs are floats, so the cost of an empty queue is reset to exactly 0.
        self._queued_cost = self._queued_cost + cost if self._queued_items else 0.0
        self._observer.queued(self._queued_items, self._queued_cost)

    def _settle(self) -> None:
        if not self._running and not self._queues:
            self._idle.set()

    # -- the worker ---------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        loop = self._loop
        if loop is None:
            raise RuntimeError("the worker thread was started without an event loop")
        while (jobs := self._inbox.get()) is not None:
            try:
                loop.call_soon_threadsafe(self._finished, *self._timed(jobs))
            except RuntimeError:  # the loop was closed, because the batch ran past the shutdown's timeout
                return

    def _timed(self, jobs: list[JobT]) -> tuple[list[ResultT | BaseException], float]:
        """The outcomes of a batch, and the seconds that it took."""
        start = time.perf_counter()
        outcomes = self._attempt(jobs)
        return outcomes, time.perf_counter() - start

    def _attempt(self, jobs: list[JobT]) -> list[ResultT | BaseException]:
        """Run `jobs`. If the worker raises, for example out of memory, halve them until each faulty job is alone."""
        try:
            results = list(self._worker(jobs))
            if len(results) != len(jobs):
                raise RuntimeError(f"the worker returned {len(results)} results for {len(jobs)} jobs")
        except BaseException as error:  # no exception may end this thread
            if len(jobs) == 1:
                return [error]
            # Its traceback would keep the failed batch's tensors alive while the halves run.
            error.__traceback__ = None
        else:
            return list(results)
        middle = len(jobs) // 2
        return self._attempt(jobs[:middle]) + self._attempt(jobs[middle:])
