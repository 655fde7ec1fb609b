"""Registration of many translations at once: the start, the iteration and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..ambiguity import likelier
from ..cancellation import Cancellation, Cancelled, unfinished
from ..outcome import Outcome, StopReason
from ..problem import Problem
from ..slices import sliced
from .answers import Instant, Stop, answers
from .distances import workspace
from .padding import Group, group_key, pack
from .recursion import RecursionState, Variant, initial_state, iterate, settled
from .starts import start


@torch.inference_mode()
def register_translations(problems: Sequence[Problem]) -> list[Outcome]:
    """Register problems that `checks.check` has returned, those of one `group_key` together."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, problem in enumerate(problems):
        groups.setdefault(group_key(problem), []).append(i)
    outcomes: dict[int, Outcome] = {}
    for members in groups.values():
        outcomes.update(zip(members, _register_group([problems[i] for i in members]), strict=True))
    return [outcomes[i] for i in range(len(problems))]


class _Live(NamedTuple):
    """The running problems of a group: their indices, and their rows of every tensor."""

    ids: list[int]
    group: Group
    state: RecursionState
    tolerance: Tensor

    def select(self, kept: list[int]) -> _Live:
        """The items at the positions `kept`, with the same bits."""
        index = torch.tensor(kept, dtype=torch.int64)
        ids = [self.ids[k] for k in kept]
        return _Live(ids, self.group.select(index), self.state.select(index), self.tolerance[index])

    def split(self, stop: Sequence[bool]) -> tuple[_Live, _Live]:
        """The items that continue and the items that stop; `stop` has one flag for each item."""
        return (
            self.select([k for k, stopped in enumerate(stop) if not stopped]),
            self.select([k for k, stopped in enumerate(stop) if stopped]),
        )


def _register_group(problems: list[Problem]) -> list[Outcome]:
    """Register problems of one `group_key`. A problem that stops leaves the batch, so that the batch shrinks."""
    group, space, cancellation = pack(problems), workspace(), Cancellation(problems)
    variant = Variant(free=problems[0].prior_name == "free", estimated=problems[0].sigma is None)
    try:
        with sliced(cancellation.poll):
            begin = start(group, problems, space, cancellation.poll)
    except Cancelled:
        return [unfinished(problem) for problem in problems]
    tolerance = torch.tensor([p.tolerance for p in problems], dtype=torch.float64)
    state = initial_state(begin.translation, begin.sigma, group.rows)
    live = _Live(list(range(len(problems))), group, state, tolerance)
    stopped: list[_Live] = []
    ends: dict[int, Stop] = {}
    histories: dict[int, list[Instant]] = {i: [] for i, problem in enumerate(problems) if problem.trace}
    iteration = 0
    while live.ids:
        cancelled = cancellation.among(live.ids)
        reasons: list[StopReason | None] = ["cancelled" if i in cancelled else None for i in live.ids]
        if not cancelled:
            before = live.state
            try:
                with sliced(cancellation.poll):
                    live = live._replace(state=iterate(live.group, live.state, variant))
            except Cancelled:
                continue
            iteration += 1
            for k, i in enumerate(live.ids):
                if i in histories:
                    histories[i].append(Instant(live.state.evidence[k], live.state.sigma[k], live.state.translation[k]))
            still = settled(before, live.state, variant, live.tolerance).tolist()
            at_limit = [problems[i].max_iterations <= iteration for i in live.ids]
            reasons = [
                "tolerance" if a else "max_iterations" if b else None for a, b in zip(still, at_limit, strict=True)
            ]
        if any(reasons):
            ends.update((i, Stop(iteration, r, begin.name[i])) for i, r in zip(live.ids, reasons, strict=True) if r)
            live, gone = live.split([bool(reason) for reason in reasons])
            stopped.append(gone)
    order = [i for part in stopped for i in part.ids]
    state = RecursionState.concatenate([part.state for part in stopped])
    outcomes: dict[int, Outcome] = {}
    kept = [k for k, i in enumerate(order) if ends[i].reason != "cancelled"]
    for k in set(range(len(order))) - set(kept):
        i, end = order[k], ends[order[k]]
        translation = group.select(torch.tensor([i])).to_original(state.translation[k : k + 1])[0].numpy()
        outcomes[i] = unfinished(
            problems[i], translation, state.sigma[k].item(), iterations=end.iterations, start=end.start
        )
    if kept:
        ids = [order[k] for k in kept]
        with sliced(cancellation.look):
            finished = answers(
                [problems[i] for i in ids],
                [ends[i] for i in ids],
                [histories.get(i, []) for i in ids],
                group.select(torch.tensor(ids)),
                state.select(torch.tensor(kept)),
                variant,
                space,
            )
        outcomes.update(zip(ids, finished, strict=True))
    rivals = sorted(i for i in begin.rival if outcomes[i].stop_reason != "cancelled")
    if rivals:
        others = _register_group([problems[i]._replace(init=begin.rival[i]) for i in rivals])
        outcomes.update((i, likelier(outcomes[i], other)) for i, other in zip(rivals, others, strict=True))
    return [outcomes[i] for i in range(len(problems))]
