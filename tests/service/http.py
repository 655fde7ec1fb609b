"""Helpers for tests of HTTP: problems, and conversations below the level of a client."""

from __future__ import annotations

import asyncio
from typing import Any


def assert_problem(response: Any, status: int) -> dict[str, Any]:
    """The problem in `response`, after a check of its form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert {"type", "title", "status", "detail", "errors"} <= problem.keys()
    assert problem["detail"]
    return problem


def scope(path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """The ASGI scope of a POST of JSON."""
    return {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [*headers, (b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http",
        "server": ("x", 80), "client": ("y", 1), "root_path": "",
    }  # fmt: skip


def conversation(
    app: Any,
    messages: list[dict[str, Any]],
    headers: list[tuple[bytes, bytes]],
    path: str = "/vae/kl",
    state: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The messages that `app` sends to a client that sends `messages`, and nothing after them.

    `state` is that of the scope.
    """
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(app({**scope(path, headers), "state": state or {}}, receive, send), 10))
    return sent
