"""The headers that every answer has."""

from __future__ import annotations

import pytest

from service.errors import Overloaded
from service.web.heads import FIXED, POLICY, POLICY_HEADER, completed, whole
from service.web.problems import from_domain


def lines_of(answer: bytes) -> list[str]:
    head, end, _ = answer.partition(b"\r\n\r\n")
    assert end
    return head.decode().split("\r\n")


@pytest.mark.parametrize("given", ["", "x-a: 1\r\n", "x-warnings: it's content-security-policy: late\r\n"])
def test_a_completed_head_keeps_its_lines_and_has_each_fixed_header_once(given: str) -> None:
    status, *lines = lines_of(completed(f"HTTP/1.1 200 OK\r\n{given}\r\n".encode()))
    assert status == "HTTP/1.1 200 OK"
    fixed = [f"{name}: {value}" for name, value in [(POLICY_HEADER, POLICY), *FIXED.items()]]
    assert lines == [*given.split("\r\n")[:-1], *fixed]


def test_a_page_keeps_its_own_policy() -> None:
    own = f"{POLICY_HEADER}: default-src 'self'"
    lines = lines_of(completed(f"HTTP/1.1 200 OK\r\nx-a: 1\r\n{own}\r\n\r\n".encode()))
    assert [line for line in lines if line.startswith(POLICY_HEADER)] == [own]
    assert {f"{name}: {value}" for name, value in FIXED.items()} <= set(lines)


def test_an_answer_that_no_application_sends_is_whole() -> None:
    answer = from_domain(Overloaded("full", retry_after=2))
    sent = whole(answer, [(b"x-request-id", b"abc")])
    status, *lines = lines_of(sent)
    assert status == "HTTP/1.1 503 Service Unavailable"
    names = [line.partition(":")[0] for line in lines]
    assert len(names) == len(set(names))
    assert {"retry-after: 2", "connection: close", "x-request-id: abc", "x-content-type-options: nosniff"} <= set(lines)
    assert sent.endswith(b"\r\n\r\n" + bytes(answer.body))
    assert f"content-length: {len(answer.body)}" in lines
