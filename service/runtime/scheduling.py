"""Whose job is next: a fair queue of the jobs of many callers.

The law is that of start-time fair queueing (Goyal, Vin and Cheng, 1996), on two levels. Callers share the worker's
seconds equally, whatever they ask for. The jobs of one caller form flows by their size, and its flows share its seconds
equally. In a flow, jobs with one key run in order of arrival, and keys take turns.

Callers and flows have a virtual time: the seconds that they have had. The least is served next. Each is charged the
seconds that its jobs took, once they are known. It follows, with a worker that is never idle while jobs wait:

- A job of a caller, or of a flow, that had no job before waits for the batch that runs, and then for at most one batch
  of each caller that came before it. How many jobs these callers have, and how expensive they are, does not matter.
- Who was idle begins at the present virtual time, so waiting earns no credit. Who has had more than its share keeps its
  debt while others wait.
- The present time rises with each second of work, so newcomers cannot keep a caller waiting forever.

Nothing here reads a clock: tests of the law need no waiting.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic

from .flows import Caller, EntryT, Flow, Part

# Debts of callers without jobs are looked through once there are this many more of them than callers with jobs.
MOST_DEBTS = 64


class FairQueue(Generic[EntryT]):
    """The waiting jobs of all callers.

    Args:
        most_begun: how many batches of one caller may have begun and not ended.
    """

    def __init__(self, most_begun: int = 1) -> None:
        self.items = 0
        """Jobs that wait."""
        self.cost = 0.0
        """Their cost."""
        self._most_begun = most_begun
        self._callers: dict[str, Caller[EntryT]] = {}
        self._active: dict[str, Caller[EntryT]] = {}
        self._sharing: dict[Hashable, OrderedDict[Flow[EntryT], None]] = {}
        self._now = 0.0

    def __iter__(self) -> Iterator[EntryT]:
        """The jobs that wait."""
        for flow in self.flows():
            for queue in flow.keys.values():
                yield from queue

    def flows(self) -> Iterator[Flow[EntryT]]:
        """The flows with jobs that wait or have begun."""
        for caller in self._active.values():
            yield from caller.active.values()

    def has_jobs_of(self, name: str) -> bool:
        """Whether a job of the caller waits."""
        caller = self._active.get(name)
        return caller is not None and any(flow.items for flow in caller.active.values())

    def is_contended(self, flow: Flow[EntryT]) -> bool:
        """Whether another flow has jobs that wait or have begun."""
        return len(self._active) > 1 or len(flow.caller.active) > 1

    def ahead(self, name: str, size: int, seconds: Callable[[Flow[EntryT]], float]) -> float:
        """The seconds of work before all present jobs of a caller and size are done, if each flow needs `seconds`.

        Others have at most as much of the worker meanwhile, however much they have queued.
        """
        own = self._active.get(name)
        if own is None:
            return 0.0
        flow = own.active.get(size)
        least = 0.0 if flow is None else seconds(flow)
        before = sum(min(least, seconds(other)) for other in own.active.values())
        return sum(
            before if caller is own else min(before, sum(map(seconds, caller.active.values())))
            for caller in self._active.values()
        )

    # -- arrival and departure ----------------------------------------------------------------------------------

    def put(self, entry: EntryT, name: str, size: int) -> Flow[EntryT]:
        """Add a job of the caller `name` behind those of its size and key."""
        entry.flow = flow = self._flow(name, size)
        queue = flow.keys.get(entry.key)
        if queue is None:
            queue = flow.keys[entry.key] = OrderedDict()
            self._sharing.setdefault(entry.key, OrderedDict())[flow] = None
        queue[entry] = None
        flow.items += 1
        flow.cost += entry.cost
        self.items += 1
        self.cost += entry.cost
        return flow

    def discard(self, entry: EntryT) -> bool:
        """Remove a job, if it waits; whether it did."""
        flow: Flow[EntryT] | None = entry.flow
        if flow is None:  # it was never put
            return False
        queue = flow.keys.get(entry.key)
        if queue is None or entry not in queue:
            return False
        del queue[entry]
        self._removed(flow, entry.key, 1, entry.cost)
        self._rest(flow)
        return True

    def _flow(self, name: str, size: int) -> Flow[EntryT]:
        """The flow of a caller and size, which is active from now on."""
        caller = self._active.get(name)
        if caller is None:
            caller = self._callers.get(name)
            if caller is None:
                caller = self._callers[name] = Caller(name, self._now)
            caller.seconds = max(caller.seconds, self._now)
            self._active[name] = caller
        flow = caller.active.get(size)
        if flow is None:
            flow = caller.flows.get(size)
            if flow is None:
                flow = caller.flows[size] = Flow(caller, size)
            flow.seconds = max(flow.seconds, caller.now)
            caller.active[size] = flow
        return flow

    def _removed(self, flow: Flow[EntryT], key: Hashable, items: int, cost: float) -> None:
        """Note that jobs with one key have left a flow."""
        flow.items -= items
        self.items -= items
        # Costs are floats, so the cost of an empty queue is reset to exactly 0.
        flow.cost = flow.cost - cost if flow.items else 0.0
        self.cost = self.cost - cost if self.items else 0.0
        if not flow.keys[key]:
            del flow.keys[key]
            sharing = self._sharing[key]
            del sharing[flow]
            if not sharing:
                del self._sharing[key]

    def _rest(self, flow: Flow[EntryT]) -> None:
        """Note that a flow is idle, if it is. Only debts are kept, and none once all are idle."""
        if flow.items or flow.held:
            return
        caller = flow.caller
        caller.active.pop(flow.size, None)
        if caller.active:
            return
        self._active.pop(caller.name, None)
        if not self._active:
            for one in self._callers.values():
                one.flows.clear()  # a flow refers to its caller
            self._callers.clear()
            self._now = 0.0
        elif len(self._callers) > 2 * len(self._active) + MOST_DEBTS:
            self._callers = {
                name: one for name, one in self._callers.items() if name in self._active or one.seconds > self._now
            }

    # -- turns --------------------------------------------------------------------------------------------------

    def choose(self, below: float = math.inf, may_begin: Callable[[EntryT], bool] | None = None) -> Flow[EntryT] | None:
        """The flow whose turn it is: one with a batch that is paused, or one with jobs that wait.

        Args:
            below: batches of flows of a smaller size than this may begin.
            may_begin: whether a batch may begin with this job; by default with any.
        """
        best: Flow[EntryT] | None = None
        for caller in self._active.values():
            if best is None or caller.seconds < best.caller.seconds:
                best = self._choose_of(caller, below, may_begin) or best
        if best is not None:
            self._now = max(self._now, best.caller.seconds)
            best.caller.now = max(best.caller.now, best.seconds)
        return best

    def _choose_of(
        self, caller: Caller[EntryT], below: float, may_begin: Callable[[EntryT], bool] | None
    ) -> Flow[EntryT] | None:
        best: Flow[EntryT] | None = None
        if caller.begun >= self._most_begun:
            below = -math.inf
        for flow in caller.active.values():
            ready = flow.paused or (
                flow.size < below
                and flow.items > 0
                and not flow.begun
                and (may_begin is None or may_begin(flow.first()))
            )
            # Of two that have had as much, the smaller jobs come first.
            if ready and (best is None or (flow.seconds, flow.size) < (best.seconds, best.size)):
                best = flow
        return best

    def take(self, flow: Flow[EntryT], most_items: int, most_cost: float) -> tuple[list[EntryT], list[Part[EntryT]]]:
        """Begin a batch that `flow` leads: jobs with one key, and the part of each flow.

        The jobs of `flow` come first, and then those of flows that are no larger. No batch therefore becomes long
        because of others. A job that costs more than a full batch is alone in it.
        """
        key = next(iter(flow.keys))
        batch: list[EntryT] = []
        cost = self._fill(batch, 0.0, flow, key, most_items, most_cost)
        costs = [(flow, cost)]
        if key in flow.keys:
            flow.keys.move_to_end(key)
        elif key in self._sharing:
            for other in [*self._sharing[key]]:
                if len(batch) >= most_items or cost >= most_cost:
                    break
                if other.size <= flow.size and not other.begun:
                    more = self._fill(batch, cost, other, key, most_items, most_cost)
                    costs.append((other, more - cost))
                    cost = more
                    if key in other.keys:
                        self._sharing[key].move_to_end(other)
        for part, _ in costs:
            part.held += 1
        flow.begun = True
        flow.caller.begun += 1
        return batch, [Part(part, part_cost / cost if cost > 0 else 1 / len(costs)) for part, part_cost in costs]

    def _fill(
        self, batch: list[EntryT], cost: float, flow: Flow[EntryT], key: Hashable, most_items: int, most_cost: float
    ) -> float:
        """Move jobs of one flow to a batch while it has room. Returns the cost of the batch."""
        queue, items, before = flow.keys[key], len(batch), cost
        while queue and len(batch) < most_items:
            entry = next(iter(queue))
            if batch and cost + entry.cost > most_cost:
                break
            del queue[entry]
            batch.append(entry)
            cost += entry.cost
        self._removed(flow, key, len(batch) - items, cost - before)
        return cost

    def charge(self, parts: list[Part[EntryT]], seconds: float) -> None:
        """Charge the flows of a batch for `seconds` of work, by their parts."""
        self._now += seconds / len(self._active)
        for flow, share in parts:
            caller = flow.caller
            caller.now += seconds * share / len(caller.active)
            caller.seconds += seconds * share
            flow.seconds += seconds * share

    def end(self, parts: list[Part[EntryT]]) -> None:
        """Note that a batch has ended; it was charged before."""
        leader = parts[0].flow
        leader.begun = leader.paused = False
        leader.caller.begun -= 1
        for flow, _ in parts:
            flow.held -= 1
            self._rest(flow)
