"""The protocol below the application: the heads of requests that are refused, and the order of what is written."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from service.web import protocol
from service.web.heads import FIXED, POLICY, POLICY_HEADER
from service.web.protocol import MAX_HEADER_BYTES, Protocol

Address = tuple[str, int]
release = threading.Event()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, after `release` if the path says so, and answer 200 with its length."""
    if scope["path"] == "/broken":
        raise RuntimeError("the application fails")
    if scope["path"] == "/held":
        await asyncio.to_thread(release.wait, 60)
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    content = b"%d" % size
    if scope["path"] == "/empty":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(content))]})
    await send({"type": "http.response.body", "body": content})


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    config = uvicorn.Config(echo, port=0, http=Protocol, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join(60)


def exchange(address: Address, request: bytes) -> bytes:
    """The answer to `request`, which is sent whole before the answer is read."""
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(request)
        answer = b""
        while received := connection.recv(65536):
            answer += received
    return answer


def problem_of(answer: bytes) -> dict[str, Any]:
    head, _, content = answer.partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/problem+json" in head
    assert b"\r\nconnection: close" in head
    found: dict[str, Any] = json.loads(content)
    assert head.startswith(b"HTTP/1.1 %d " % found["status"])
    return found


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


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n123"])
def test_a_client_that_falls_silent_loses_its_connection(
    address: Address, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "SILENT_SECONDS", 0.1)
    assert exchange(address, sent) == b""


def test_a_client_is_not_silent_while_the_service_does_not_read(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "SILENT_SECONDS", 0.1)
    release.clear()
    with socket.create_connection(address, timeout=60) as connection:
        # More than the service reads ahead, for an application that does not read yet.
        connection.sendall(b"POST /held HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1000000\r\n\r\n")
        connection.sendall(bytes(200_000))
        time.sleep(0.5)
        release.set()
        connection.sendall(bytes(800_000))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


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
