"""The door: requests that are refused before their body is read and before the application sees them."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from fastapi import Request

from service.errors import InvalidInput, Overloaded
from service.runtime.verdicts import LEAST_REFUSALS
from service.version import VERSION
from service.web.door import MOST_PAUSE_SECONDS, Door
from service.web.failures import REFUSED, answer_failure
from service.web.heads import FIXED
from service.web.metrics import Metrics
from service.web.protocol import MAX_DISCARDED_BYTES, Protocol
from tests.service.web.servers import Address, exchange, release, serving

metrics = Metrics()
NOBODY: dict[str, Any] = {}


class Late(Door):
    """A door behind which a request without a deadline takes forever, and any other a second."""

    def excess(self, url: bytes, scope: Any, timeout: float | None) -> float:
        if url.startswith((b"/held", b"/free")) or self.is_probe(url):
            return 0.0
        return 1.0 if timeout is None or timeout < 1 else 0.0


class Refusing(Protocol):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options, door=Late(metrics=metrics))


class Full(Protocol):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options, full=b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with serving(Refusing) as found:
        yield found


def answers(address: Address, request: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of each answer to `request`, which ends with one that closes the connection."""
    found, rest = [], exchange(address, request)
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        size = int(headers["content-length"])
        found.append((int(status.split()[1]), headers, rest[:size]))
        rest = rest[size:]
    return found


def post(size: int, *headers: bytes, path: bytes = b"/") -> bytes:
    lines = b"".join(line + b"\r\n" for line in headers)
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n%b\r\n" % (path, size, lines) + bytes(size)


LAST = b"GET /free HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
PATIENT = b"x-timeout-seconds: 5"


def test_a_refusal_is_a_503_with_a_hint_and_all_headers_and_the_connection_goes_on(address: Address) -> None:
    found = answers(address, post(1000, b"x-request-id: my-id") + post(10, PATIENT) + LAST)
    assert [status for status, _, _ in found] == [503, 200, 200]
    _, headers, body = found[0]
    problem = json.loads(body)
    assert (problem["status"], problem["type"].rpartition(":")[2]) == (503, "overloaded")
    assert "X-Timeout-Seconds" in problem["detail"]
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"] == "my-id"
    assert int(headers["retry-after"]) >= 1
    assert "connection" not in headers
    assert headers["x-latentserve-version"] == VERSION
    assert FIXED.items() <= headers.items()
    assert found[1][2] == b"10"


def test_each_refusal_has_an_id_of_its_own(address: Address) -> None:
    found = answers(address, post(0) + post(0, b'x-request-id: "unsafe"') + LAST)
    ids = [headers["x-request-id"] for status, headers, _ in found if status == 503]
    assert len({*ids}) == 2
    assert all(len(name) == 16 for name in ids)


def test_a_refused_head_request_has_no_body(address: Address) -> None:
    answer = exchange(address, post(0).replace(b"POST", b"HEAD") + LAST)
    heads = answer.split(b"HTTP/1.1 ")[1:]
    assert heads[0].startswith(b"503")
    assert heads[0].endswith(b"\r\n\r\n")
    assert heads[1].startswith(b"200")


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(MAX_DISCARDED_BYTES + 1),
        post(0).replace(b"content-length: 0", b"transfer-encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n",
        post(0, b"expect: 100-continue").replace(b"length: 0", b"length: 5"),
        post(0, b"connection: close"),
    ],
    ids=["large", "chunked", "expect", "close"],
)
def test_a_body_of_unknown_or_large_size_is_not_read_and_its_connection_closes(
    address: Address, request_bytes: bytes
) -> None:
    ((status, headers, _),) = answers(address, request_bytes)
    assert (status, headers["connection"]) == (503, "close")


def test_an_invalid_timeout_is_left_to_the_route(address: Address) -> None:
    for text in (b"soon", b"-1", b"0", b"nan"):
        assert answers(address, post(0, b"x-timeout-seconds: " + text) + LAST)[0][0] == 200


def test_answers_are_in_the_order_of_their_requests(address: Address) -> None:
    release.clear()
    with closing(socket.create_connection(address, timeout=60)) as connection:
        connection.sendall(post(3, path=b"/held") + post(4) + post(5, path=b"/free") + LAST)
        release.set()
        heads = connection.makefile("rb").read().split(b"HTTP/1.1 ")[1:]
    assert [head[:3] for head in heads] == [b"200", b"503", b"200", b"200"]
    assert heads[2].endswith(b"5")


def counted(status: str) -> float:
    """Requests with this status so far."""
    state = {family["name"]: family for family in json.loads(metrics.snapshot())}
    return float(sum(value for key, value in state["latentserve_requests"]["series"] if key[2] == status))


def test_refusals_are_counted(address: Address) -> None:
    before = counted("503")
    answers(address, post(0) * 3 + LAST)
    assert counted("503") - before == 3


def test_requests_that_are_not_valid_http_are_counted(address: Address) -> None:
    before = counted("400")
    assert answers(address, b"GET / HTTP/1.1\r\nhost x\r\n\r\n")[0][0] == 400
    assert counted("400") - before == 1


def test_probes_are_always_admitted() -> None:
    door = Door(max_wait=0.0, lanes={"/em/": lambda: 3.0}, root_path="/prefix")
    door.admission.lag = 10.0
    door.excess(b"/gan/generate", NOBODY, 0.1)  # the one that is tried now and then
    assert door.excess(b"/gan/generate", NOBODY, 0.1) > 0
    for path in (b"/livez", b"/readyz", b"/metrics", b"/prefix/livez"):
        assert door.excess(path, NOBODY, 0.1) == 0


def test_a_path_waits_for_its_lane_with_and_without_the_prefix() -> None:
    door = Door(max_wait=2.0, lanes={"/em/": lambda: 3.0}, root_path="/prefix")
    door.excess(b"/em/register", NOBODY, None)  # the one that is tried now and then
    for path in (b"/em/register", b"/em/register/batch", b"/prefix/em/register", b"/em/register?rows=pairs"):
        assert door.excess(path, NOBODY, None) == 3.0
        assert door.excess(path, NOBODY, 10.0) == 0
    for path in (b"/emu/register", b"/vae/kl", b"/", b"*", b"/em"):
        assert door.excess(path, NOBODY, None) == 0


def test_beyond_the_limit_a_connection_serves_probes_alone() -> None:
    with serving(Full) as address:
        probe = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
        assert [status for status, _, _ in answers(address, probe + probe + LAST)] == [200, 200, 503]


def test_whoever_repeats_refused_requests_at_once_is_read_in_turn() -> None:
    """The pauses grow with the number of refusals, up to a limit, and a pause is announced by Retry-After."""

    async def refuse() -> list[float]:
        door, pauses = Door(), []
        for _ in range(8000):
            answer, pause = door.refuse(b"GET", b"id", 0.1, close=False, may_pause=True)
            pauses.append(pause)
            assert int(answer.partition(b"retry-after: ")[2].partition(b"\r")[0]) >= pause
        assert door.refuse(b"GET", b"id", 0.1, close=False, may_pause=False).pause == 0
        return pauses

    pauses = asyncio.run(refuse())
    assert pauses[0] == 0
    assert MOST_PAUSE_SECONDS / 2 < max(pauses) <= MOST_PAUSE_SECONDS


def test_a_request_that_the_application_refuses_because_of_overload_is_marked_for_its_connection() -> None:
    async def refused(error: Exception) -> float | None:
        state: dict[str, float] = {}
        await answer_failure(Request({"type": "http", "state": state}), error)
        return state.get(REFUSED)

    assert asyncio.run(refused(Overloaded("full", retry_after=1))) == 0.0
    assert asyncio.run(refused(Overloaded("late", retry_after=1, predicted=2.5))) == 2.5
    assert asyncio.run(refused(InvalidInput("wrong"))) is None


def scope_of(path: bytes, length: int = 0, client: str = "10.0.0.1") -> dict[str, Any]:
    raw_path, _, query = path.partition(b"?")
    headers = [(b"host", b"x"), (b"content-length", b"%d" % length)]
    return {"raw_path": raw_path, "query_string": query, "headers": headers, "client": (client, 1)}


def test_what_a_lane_has_refused_several_times_is_refused_at_the_door() -> None:
    door, path = Door(), b"/gan/generate?count=64&seed=%d"
    for number in range(LEAST_REFUSALS):
        door.ended(scope_of(path % number), 3600.0)
    door.excess(path, scope_of(path % 1), 1.0)  # the one that is tried now and then
    assert door.excess(path, scope_of(path % 12345), 1.0) > 3500
    assert door.excess(path, scope_of(path % 1), None) == 0
    assert door.excess(path, scope_of(path % 1), 7200.0) == 0
    for other in (
        scope_of(b"/gan/generate?count=1&seed=1"),
        scope_of(path % 1, client="10.0.0.2"),
        scope_of(path % 1, length=100),
        scope_of(b"/gan/other?count=64&seed=1"),
    ):
        assert door.excess(path, other, 1.0) == 0


def test_an_answer_lets_the_lane_judge_again() -> None:
    door, scope = Door(), scope_of(b"/em/register", 4000)
    for _ in range(LEAST_REFUSALS):
        door.ended(scope, 3600.0)
    door.excess(b"/em/register", scope, 1.0)  # the one that is tried now and then
    door.ended(scope, 0.0)  # the queue was full, which says nothing of the time
    assert door.excess(b"/em/register", scope, 1.0) > 0
    door.ended(scope, None)
    assert door.excess(b"/em/register", scope, 1.0) == 0


class Noting(Door):
    """A door that refuses no request but those to /gone, and notes what became of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[bytes, float | None]] = []

    def excess(self, url: bytes, scope: Any, timeout: float | None) -> float:
        return 1.0 if url == b"/gone" else 0.0

    def ended(self, scope: Any, predicted: float | None) -> None:
        self.noted.append((scope["raw_path"], predicted))


def test_the_door_learns_of_each_admitted_request_what_its_lane_predicted() -> None:
    door = Noting()

    class Noted(Protocol):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options, door=door)

    paths = [b"/late?1", b"/free", b"/late?2", b"/gone"]
    with serving(Noted) as address, closing(socket.create_connection(address, timeout=60)) as connection:
        connection.sendall(b"".join(post(10, path=path) for path in paths) + LAST)
        connection.makefile("rb").read()
    predicted = [(b"/late", 3600.0), (b"/free", None), (b"/late", 3600.0), (b"/free", None)]
    assert door.noted == predicted


def test_a_kind_that_lanes_have_refused_reaches_them_no_more() -> None:
    with serving() as (host, port), closing(http.client.HTTPConnection(host, port, timeout=60)) as connection:
        bodies = []
        for _ in range(LEAST_REFUSALS + 2):
            connection.request("POST", "/late", b"0123456789", {"X-Timeout-Seconds": "5"})
            bodies.append(connection.getresponse().read())
    assert bodies[:LEAST_REFUSALS] == [b"10"] * LEAST_REFUSALS
    assert json.loads(bodies[-1])["status"] == 503
