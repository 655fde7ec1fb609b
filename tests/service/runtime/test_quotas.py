"""Limits that hold over processes."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable

import pytest

from service.runtime.board import Board
from service.runtime.quotas import MOST_CALLERS, Allowance, Ledger, Quotas


@pytest.fixture
def board() -> Board:
    return Board(2, ["lane"], ["em"])


@pytest.fixture
def ledgers(board: Board) -> list[Ledger]:
    """Those of two processes that serve."""
    quotas = Quotas(2)
    made = [Ledger(quotas, board.seat(replica)) for replica in range(2)]
    for replica in range(2):
        board.seat(replica).join()
    return made


def admitted(ledgers: list[Ledger], allowance: Allowance, times: list[float]) -> list[float]:
    """The times at which a request is let through, if the processes take turns."""
    turns = zip(times, itertools.cycle(ledgers))
    return [now for now, ledger in turns if ledger.enter(1, allowance, now) is None]


def test_a_burst_passes_at_once_and_then_the_rate(ledgers: list[Ledger]) -> None:
    times = [1000 + step / 100 for step in range(400)]
    found = admitted(ledgers, Allowance(rate=4, burst=3), times)
    assert found[:3] == times[:3]
    assert found[3:] == pytest.approx([1000.25 + 0.25 * step for step in range(len(found) - 3)])
    assert len(found) == 3 + 15


@pytest.mark.parametrize(("rate", "burst"), [(0.1, 1), (3, 7), (1000, 1), (7.3, 5)])
def test_any_span_has_at_most_the_burst_and_the_rate(ledgers: list[Ledger], rate: float, burst: int) -> None:
    times = [step * step % 977 / 50 for step in range(3000)]
    found = admitted(ledgers, Allowance(rate, burst), sorted(times))
    for first, last in itertools.combinations_with_replacement(range(0, len(found), 7), 2):
        assert last - first + 1 <= burst + rate * (found[last] - found[first]) + 1e-6


def test_the_wait_is_the_time_until_the_next_request_passes(ledgers: list[Ledger]) -> None:
    allowance = Allowance(rate=0.5, burst=1)
    assert ledgers[0].enter(1, allowance, 10.0) is None
    refusal = ledgers[1].enter(1, allowance, 10.5)
    assert refusal is not None
    assert refusal.limit == "rate"
    assert refusal.retry_after == pytest.approx(1.5)
    assert ledgers[1].enter(1, allowance, 10.5 + refusal.retry_after) is None


def test_a_refused_request_costs_the_caller_nothing(ledgers: list[Ledger]) -> None:
    allowance = Allowance(rate=1, burst=1, concurrency=1)
    assert ledgers[0].enter(1, allowance, 0.0) is None
    refusals = [ledgers[turn % 2].enter(1, allowance, 5.0) for turn in range(10)]
    assert {refusal and refusal.limit for refusal in refusals} == {"concurrency"}
    ledgers[0].leave(1)
    assert ledgers[1].enter(1, allowance, 5.0) is None


def test_requests_that_run_in_any_process_count_until_they_end(ledgers: list[Ledger]) -> None:
    allowance = Allowance(concurrency=3)
    assert [ledgers[turn % 2].enter(1, allowance, 0) is None for turn in range(5)] == [True, True, True, False, False]
    assert ledgers[0].enter(2, allowance, 0) is None  # another caller
    ledgers[0].leave(1)
    assert ledgers[1].enter(1, allowance, 0) is None
    assert ledgers[0].enter(1, allowance, 0) is not None


def test_the_requests_of_a_process_that_died_do_not_count(board: Board) -> None:
    quotas = Quotas(2)
    ledgers = [Ledger(quotas, board.seat(replica)) for replica in range(2)]
    for replica in range(2):
        board.seat(replica).join()
    allowance = Allowance(concurrency=1)
    assert ledgers[1].enter(1, allowance, 0) is None
    assert ledgers[0].enter(1, allowance, 0) is not None
    board.reset(1)
    assert ledgers[0].enter(1, allowance, 0) is None
    ledgers[0].leave(1)
    reborn = Ledger(quotas, board.seat(1))
    board.seat(1).join()
    assert ledgers[0].enter(1, allowance, 0) is None
    assert reborn.enter(1, allowance, 0) is not None


def test_without_limits_nothing_is_refused(ledgers: list[Ledger]) -> None:
    assert len(admitted(ledgers, Allowance(), [0.0] * 1000)) == 1000
    assert Allowance().rate == Allowance().concurrency == math.inf


def test_a_caller_has_one_slot_and_no_two_have_the_same() -> None:
    quotas = Quotas(1)
    names = [f"caller-{number}" for number in range(MOST_CALLERS)]
    slots = [quotas.slot(name) for name in names]
    assert sorted(slots) == list(range(MOST_CALLERS))
    assert [quotas.slot(name) for name in names[:100]] == slots[:100]
    with pytest.raises(OverflowError, match=str(MOST_CALLERS)):
        quotas.slot("one more")


def in_processes(count: int, run: Callable[[int], int]) -> list[int]:
    """What `run` returns in each of `count` forked processes, which begin together. At most 255."""
    gate, opener = os.pipe()
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            result = 255
            try:
                os.close(opener)
                os.read(gate, 1)
                result = run(number)
            finally:
                os._exit(result)
        pids.append(pid)
    os.close(opener)
    os.close(gate)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def test_two_processes_at_once_admit_exactly_the_burst_and_the_concurrency(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a loaded machine a process may be paused while it holds the lock, for longer than a request would wait.
    monkeypatch.setattr("service.runtime.quotas._ATTEMPTS", 10**6)
    quotas = Quotas(2)
    for replica in range(2):
        board.seat(replica).join()

    def run(replica: int) -> int:
        ledger = Ledger(quotas, board.seat(replica))
        burst = sum(ledger.enter(7, Allowance(rate=1e-4, burst=100), 5.0) is None for _ in range(2000))
        running = sum(ledger.enter(8, Allowance(concurrency=50), 5.0) is None for _ in range(2000))
        return burst + running

    for _ in range(20):
        quotas._whole_at[7] = 0.0
        for replica in range(2):
            quotas._running[8 * 2 + replica] = 0
        assert sum(in_processes(2, run)) == 150


def test_a_process_that_dies_with_the_lock_does_not_keep_it(board: Board) -> None:
    quotas = Quotas(2)

    def die(_: int) -> int:
        quotas._lock(3)
        os.kill(os.getpid(), 9)
        return 0

    assert in_processes(1, die) == [-9]
    board.seat(0).join()
    assert Ledger(quotas, board.seat(0)).enter(3, Allowance(concurrency=1), 0) is None
