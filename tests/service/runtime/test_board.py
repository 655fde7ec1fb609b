"""The board that the replicas share."""

from __future__ import annotations

import os

import pytest

from service.runtime.board import Board


@pytest.fixture
def board() -> Board:
    return Board(3, ["fast", "slow"], ["em", "gan"])


def test_a_forked_process_and_its_parent_share_the_numbers(board: Board) -> None:
    pid = os.fork()
    if pid == 0:
        board.seat(1).reporter("slow")(4, 2.5)
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.seat(0).elsewhere("slow")() == (4, 2.5)


def test_the_load_elsewhere_is_that_of_all_others_in_the_same_lane(board: Board) -> None:
    for number in range(3):
        board.seat(number).reporter("fast")(10**number, 0.5 * 10**number)
    assert [board.seat(number).elsewhere("fast")() for number in range(3)] == [(110, 55.0), (101, 50.5), (11, 5.5)]
    assert board.seat(0).elsewhere("slow")() == (0, 0.0)


def test_the_bytes_of_bodies_are_those_of_all(board: Board) -> None:
    board.seat(0).add_body_bytes(100, "a")
    board.seat(2).add_body_bytes(50, "b")
    board.seat(2).add_body_bytes(7, "a")
    board.seat(0).add_body_bytes(-30, "a")
    assert board.seat(1).body_bytes() == 127
    assert [board.seat(1).caller_bytes(caller) for caller in ("a", "b", "c")] == [77, 50, 0]


def test_an_engine_is_ready_if_it_is_in_every_replica_that_takes_connections(board: Board) -> None:
    first, second = board.seat(0), board.seat(1)
    first.set_ready("em")
    assert not board.is_ready("em")  # no replica takes connections
    first.join()
    assert board.is_ready("em")
    second.join()
    assert not board.is_ready("em")
    second.set_ready("em")
    assert board.is_ready("em")
    assert not board.is_ready("gan")


def test_all_are_ready_once_every_engine_is_ready_in_every_replica(board: Board) -> None:
    for number in range(3):
        for engine in ("em", "gan"):
            assert not board.are_ready()
            board.seat(number).set_ready(engine)
    assert board.are_ready()


def test_a_row_that_is_reset_counts_nowhere(board: Board) -> None:
    seat = board.seat(0)
    seat.join()
    seat.reporter("fast")(3, 3.0)
    seat.add_body_bytes(5, "a")
    seat.close_connection()
    board.reset(0)
    assert board.live() == []
    assert (board.closed(0), board.seat(1).body_bytes(), board.seat(1).elsewhere("fast")()) == (0, 0, (0, 0.0))


def test_a_replica_that_is_stuck_or_silent_cannot_serve(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    seat = board.seat(2)
    assert not board.can_serve(2)
    seat.join()
    assert board.can_serve(2)
    seat.beat(stuck=True)
    assert not board.can_serve(2)
    seat.beat(stuck=False)
    assert board.can_serve(2)
    later = board.silent_seconds(2) + 3600
    monkeypatch.setattr("service.runtime.board.time.monotonic", lambda: later + 1e9)
    assert not board.can_serve(2)
