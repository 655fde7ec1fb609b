"""Servers of one protocol class in the process of the tests, and what they answer."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from service.web.failures import REFUSED, REJECTED
from service.web.heads import FIXED, POLICY, POLICY_HEADER
from service.web.protocol import Protocol

Address = tuple[str, int]
release = threading.Event()
# For each request that ended before its body: the status that the connection answered, or None.
rejections: list[int | None] = []
# More than the buffers of the system hold.
PIECE = 1 << 18
LARGE = 64 * PIECE


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Read the body, unless the path says otherwise, and answer 200 with its length.

    `/large` answers LARGE bytes at the pace of the client. `/held` waits for `release`. `/late` answers as if its lane
    had predicted an hour.
    """
    if scope["path"] == "/broken":
        raise RuntimeError("the application fails")
    if scope["path"] == "/held":
        await asyncio.to_thread(release.wait, 60)
    size, more = 0, scope["path"] != "/unread"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            rejections.append(scope["state"].get(REJECTED))
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    if scope["path"] == "/large":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE)]})
        for left in range(LARGE, 0, -PIECE):
            await send({"type": "http.response.body", "body": bytes(PIECE), "more_body": left > PIECE})
        return
    content = b"%d" % size
    if scope["path"] == "/empty":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        return
    headers = [(b"content-length", b"%d" % len(content)), (b"connection", b"close")][: 1 + (scope["path"] == "/unread")]
    status = 200
    if scope["path"] == "/late":
        status, scope["state"][REFUSED] = 503, 3600.0
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@contextmanager
def serving(protocol: type[Protocol] = Protocol, loop: Any = "auto") -> Iterator[Address]:
    """A server of `echo`, on a thread. Yields its address."""
    rest: dict[str, Any] = {"ws": "none", "lifespan": "off", "log_config": None, "access_log": False}
    config = uvicorn.Config(echo, port=0, http=protocol, loop=loop, **rest)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join(60)


def exchange(address: Address, *parts: bytes) -> bytes:
    """The answer to a request, which is sent whole before the answer is read, in `parts` that arrive one by one."""
    with socket.create_connection(address, timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, part in enumerate(parts):
            if number:
                time.sleep(0.05)
            connection.sendall(part)
        answer = b""
        while received := connection.recv(65536):
            answer += received
    return answer


def problem_of(answer: bytes) -> dict[str, Any]:
    """The problem of an answer that closes its connection, after a check of its form."""
    head, _, content = answer.partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: application/problem+json" in head
    assert b"\r\nconnection: close" in head
    assert b"\r\nx-request-id: " in head
    for name, value in [*FIXED.items(), (POLICY_HEADER, POLICY)]:
        assert head.count(f"\r\n{name}: {value}".encode()) == head.lower().count(f"\r\n{name}:".encode()) == 1
    found: dict[str, Any] = json.loads(content)
    assert head.startswith(b"HTTP/1.1 %d " % found["status"])
    return found
