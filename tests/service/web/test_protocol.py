"""The protocol below the application: the heads of requests that are refused, and the order of what is written."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from service.web.connection import MAX_HEADER_BYTES
from service.web.heads import FIXED, POLICY, POLICY_HEADER
from tests.service.web.servers import Address, exchange, problem_of, serving


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with serving() as found:
        yield found


GET = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
LINE = b"x-filler: " + b"y" * 1000 + b"\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        GET + b"x-filler: " + b"y" * 66_000 + b"\r\n\r\n",
        GET + LINE * 500 + b"\r\n",
        CHUNKED + b"x-trailer: " + b"y" * 66_000 + b"\r\n\r\n",
    ],
    ids=["one header", "many headers", "a trailer"],
)
def test_oversized_headers_are_answered_with_a_431(address: Address, request_bytes: bytes) -> None:
    problem = problem_of(exchange(address, request_bytes))
    assert problem["status"] == 431
    assert str(MAX_HEADER_BYTES) in problem["detail"]


def test_headers_and_trailers_below_the_limit_are_read(address: Address) -> None:
    for request in (GET + LINE * 60 + b"\r\n", CHUNKED + LINE * 60 + b"\r\n"):
        assert exchange(address, request).startswith(b"HTTP/1.1 200")


def test_an_oversized_target_is_answered_with_a_414(address: Address) -> None:
    assert problem_of(exchange(address, GET.replace(b"/ ", b"/" + b"y" * 66_000 + b" ", 1) + b"\r\n"))["status"] == 414


@pytest.mark.parametrize("hosts", [0, 2])
def test_a_request_of_http_1_1_needs_one_host(address: Address, hosts: int) -> None:
    problem = problem_of(exchange(address, b"GET / HTTP/1.1\r\n" + b"host: x\r\n" * hosts + b"\r\n"))
    assert problem["status"] == 400
    assert f"this one has {hosts}" in problem["detail"]


def test_a_request_of_http_1_0_needs_no_host(address: Address) -> None:
    assert exchange(address, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_answers_without_a_body_and_pipelined_ones_arrive_whole_and_in_order(address: Address) -> None:
    keep = b" HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = exchange(address, b"HEAD /" + keep + b"GET /empty" + keep + b"GET /" + keep + CHUNKED + b"\r\n")
    heads = answer.split(b"HTTP/1.1 ")[1:]
    assert [head[:3] for head in heads] == [b"200", b"204", b"200", b"200"]
    assert [head.partition(b"\r\n\r\n")[2] for head in heads] == [b"", b"", b"0", b"2"]


def test_every_answer_has_the_fixed_headers_once(address: Address) -> None:
    """Also uvicorn's own answer if the application fails, and the answer to bytes that are not HTTP."""
    requests = [
        GET, GET.replace(b"/", b"/empty", 1), GET.replace(b"GET", b"HEAD"), GET.replace(b"/", b"/broken", 1),
        b"NONSENSE\r\n", GET + LINE * 500, b"GET / HTTP/1.1\r\n", GET.replace(b"/ ", b"/" + b"y" * 66_000 + b" ", 1),
    ]  # fmt: skip
    statuses = []
    for request in requests:
        head = exchange(address, request + b"\r\n").partition(b"\r\n\r\n")[0].decode()
        status, *lines = head.split("\r\n")
        statuses.append(int(status.split()[1]))
        for name, value in [*FIXED.items(), (POLICY_HEADER, POLICY)]:
            assert [line for line in lines if line.lower().startswith(name + ":")] == [f"{name}: {value}"]
    assert statuses == [200, 204, 200, 500, 400, 431, 400, 414]


def test_a_client_that_waits_for_100_gets_it_before_it_sends_its_body(address: Address) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(GET.replace(b"GET", b"POST") + b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert connection.makefile("rb").read().endswith(b"\r\n\r\n2")


OFFER = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close, upgrade\r\nupgrade: h2c\r\ncontent-length: 5\r\n\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        [OFFER + b"hello"],
        [OFFER, b"hello"],
        [OFFER[:20], OFFER[20:] + b"hello"],
        [OFFER[:60], OFFER[60:] + b"hel", b"lo"],
        [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + OFFER + b"hello"],
        [OFFER.replace(b"close, ", b"") + b"hello" + OFFER + b"hello"],
        [OFFER.replace(b"content-length: 5", b"transfer-encoding: chunked") + b"5\r\nhello\r\n0\r\n\r\n"],
    ],
    ids=["at once", "the body later", "two segments", "three segments", "pipelined", "twice", "chunked"],
)
def test_the_body_after_an_offer_to_upgrade_is_read(address: Address, parts: list[bytes]) -> None:
    answers = exchange(address, *parts).split(b"HTTP/1.1 ")[1:]
    assert all(answer.startswith(b"200") for answer in answers)
    assert answers[-1].endswith(b"\r\n\r\n5")
    assert len(answers) == b"".join(parts).count(b"HTTP/1.1")


@pytest.mark.parametrize("framing", [b"content-length: %d\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n%x\r\n"])
def test_a_client_that_sends_all_of_a_body_that_is_not_read_gets_the_answer(address: Address, framing: bytes) -> None:
    body = bytes(16 << 20)
    answer = exchange(address, b"POST /unread HTTP/1.1\r\nhost: x\r\n" + framing % len(body) + body)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n0")


def test_an_offer_to_upgrade_to_a_websocket_is_ignored(address: Address) -> None:
    assert exchange(address, OFFER.replace(b"h2c", b"websocket") + b"hello").endswith(b"\r\n\r\n5")


def test_connect_is_not_implemented(address: Address) -> None:
    assert problem_of(exchange(address, b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n"))["status"] == 501


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n spaced: y\r\nbad header\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET // http/9.9\r\nhost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_whatever_the_parser_refuses_is_a_problem(address: Address, request_bytes: bytes) -> None:
    assert problem_of(exchange(address, request_bytes))["status"] == 400
