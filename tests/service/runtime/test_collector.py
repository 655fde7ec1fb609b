"""The collector of snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from service.runtime import channel
from service.runtime.board import Board
from service.runtime.channel import open_channel, unpack
from service.runtime.collector import Collector
from service.runtime.instruments import Counter, Description, snapshot
from service.runtime.replica import Replica
from service.runtime.totals import total


def counted(value: float) -> bytes:
    """The snapshot of a process that has counted to `value`."""
    counter = Counter(Description("jobs", "Jobs."))
    counter.add((), value)
    return snapshot([counter])


class Office:
    """A collector with two replicas, which are not processes, and what it tells them."""

    def __init__(self, stack: ExitStack) -> None:
        board = Board(2, [], [])
        self.replicas = [Replica(number, board) for number in range(2)]
        for replica in self.replicas:
            replica.channel, theirs = open_channel()
            stack.callback(replica.channel.close)
            stack.callback(theirs.close)
        self.told: list[tuple[int, bytes, bytes]] = []
        self.due: list[Callable[[], None]] = []
        self.collector = Collector(self.replicas, board, self.tell, lambda _, call: self.due.append(call))

    def tell(self, replica: Replica, kind: bytes, content: bytes) -> None:
        self.told.append((replica.number, kind, content))

    def questions(self) -> list[bytes]:
        """The questions that the first replica has got."""
        return [content for number, kind, content in self.told if kind == channel.SNAPSHOT and number == 0]

    def totals(self) -> list[tuple[int, float]]:
        """Who got an answer, and the total of jobs in it."""
        found = []
        for number, kind, content in self.told:
            if kind == channel.SNAPSHOTS:
                (jobs,) = [family for family in total(unpack(content[4:])) if family["name"] == "jobs"]
                found.append((number, jobs["series"][0][1]))
        return found


@pytest.fixture
def office() -> Iterator[Office]:
    with ExitStack() as stack:
        yield Office(stack)


def test_the_counters_of_a_replica_that_dies_during_a_question_count_once(office: Office) -> None:
    first, second = office.replicas
    for asked in range(2):
        office.collector.ask(second, b"name")
        office.collector.answered(second, office.questions()[asked] + counted(2))
        if asked == 0:
            office.collector.answered(first, office.questions()[0] + counted(40))
    office.collector.ended(first)
    assert office.totals() == [(1, 42), (1, 42)]


def test_a_replica_that_does_not_answer_in_time_counts_as_it_was(office: Office) -> None:
    first, second = office.replicas
    office.collector.ask(second, b"name")
    office.collector.answered(first, office.questions()[0] + counted(40))
    office.collector.answered(second, office.questions()[0] + counted(2))
    office.collector.ask(second, b"next")
    office.collector.answered(second, office.questions()[1] + counted(3))
    for call in office.due:
        call()
    assert office.totals() == [(1, 42), (1, 43)]


def test_a_replica_that_has_ended_gets_no_answer(office: Office) -> None:
    first, second = office.replicas
    office.collector.ask(first, b"name")
    office.collector.answered(second, office.questions()[0] + counted(2))
    office.collector.ended(first)
    for call in office.due:
        call()
    assert office.totals() == []
