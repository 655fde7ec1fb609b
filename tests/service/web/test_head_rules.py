"""The rules for the head of a request: version, host, coding, and what comes after the chunks of a body."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.web.head_rules import KNOWN_HOSTS, MOST_HOSTS, check_head
from service.web.watch import LEAST_BODY_BYTES, MOST_FRAMING_BYTES
from tests.service.web.servers import Address, exchange, problem_of, serving

GET = b"GET / HTTP/1.1\r\nconnection: close\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with serving() as found:
        yield found


def status_of(answer: bytes) -> int:
    return int(answer[9:12])


# RFC 9110, 7.2: a host as in RFC 3986, 3.2.2, and a port of digits. All but the colon may be empty.
@pytest.mark.parametrize(
    "host",
    [
        "", ":", ":80", "x", "x:", "x:8000", "localhost", "a_b", "a.b.", "a%41", "a~!$&'()*+,;=b", "1.2.3.4:80",
        "[::1]", "[::1]:80", "[::ffff:1.2.3.4]", "[v1.a:b]", " x\t", "y" * 5000,
    ],
)  # fmt: skip
def test_a_valid_host_is_taken(address: Address, host: str) -> None:
    for _ in range(2):  # the second time it may be known
        assert status_of(exchange(address, GET + f"host: {host}\r\n\r\n".encode())) == 200


@pytest.mark.parametrize(
    "host",
    [
        "a b", "a b/c", "a/c", "a?b", "a#b", "u:p@h", "a:80:90", "a:8a", "http://a", "a%4", "a%zz", 'a"b', "a\\b",
        "a<b", "a|b", "a`b", "a{b", "a\tb", "\xe4", "::1", "[::1", "[::1]x", "[]", "[zz]", "[1.2.3.4]", "[::1%1]",
    ],
)  # fmt: skip
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_an_invalid_host_is_a_400(address: Address, version: bytes, host: str) -> None:
    request = GET.replace(b"1.1", version) + f"host: {host}\r\n\r\n".encode()
    for _ in range(2):
        problem = problem_of(exchange(address, request))
        assert problem["status"] == 400
        assert "is not a valid Host" in problem["detail"]


def test_an_offer_to_upgrade_changes_no_rule(address: Address) -> None:
    offer = b"connection: close, upgrade\r\nupgrade: h2c\r\n"
    assert status_of(exchange(address, GET + offer + b"host: a b\r\n\r\n")) == 400
    assert status_of(exchange(address, POST + offer + b"transfer-encoding: gzip, chunked\r\n\r\n" + CHUNKS)) == 501
    # Without keep-alive the connection of HTTP/1.0 closes, so that the exchange ends.
    answer = exchange(address, b"GET / HTTP/1.0\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
    assert status_of(answer) == 200


def test_few_hosts_are_remembered() -> None:
    for number in range(2 * MOST_HOSTS):
        check_head("1.1", [(b"host", b"host-%d" % number)])
    assert len(KNOWN_HOSTS) <= MOST_HOSTS


@pytest.mark.parametrize("version", [b" HTTP/2.0", b" HTTP/0.9", b""])
def test_a_version_that_is_not_implemented_is_a_400(address: Address, version: bytes) -> None:
    assert problem_of(exchange(address, b"GET /" + version + b"\r\nhost: x\r\n\r\n"))["status"] == 400


@pytest.mark.parametrize("version", [b"1.2", b"3.0", b"9.9", b"1.10", b"1", b"1.x"])
def test_a_version_that_does_not_exist_is_a_400(address: Address, version: bytes) -> None:
    assert problem_of(exchange(address, b"GET / HTTP/" + version + b"\r\nhost: x\r\n\r\n"))["status"] == 400


def codings(*values: bytes) -> bytes:
    return b"".join(b"transfer-encoding: %b\r\n" % value for value in values) + b"\r\n" + CHUNKS


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"\tchunked "])
def test_a_body_in_chunks_is_read(address: Address, value: bytes) -> None:
    answer = exchange(address, POST + codings(value))
    assert status_of(answer) == 200
    assert answer.endswith(b"\r\n\r\n2")


@pytest.mark.parametrize("values", [[b"gzip, chunked"], [b"gzip", b"chunked"], [b"identity, chunked"], [b",chunked"]])
def test_a_coding_beside_chunked_is_a_501(address: Address, values: list[bytes]) -> None:
    """The body would be read without its coding (RFC 9112, 6.1)."""
    assert problem_of(exchange(address, POST + codings(*values)))["status"] == 501


@pytest.mark.parametrize(
    "values",
    [
        [b"gzip"], [b"identity"], [b"chunked, identity"], [b"chunked", b"identity"], [b"xchunked"], [b"chunked,"],
        [b"chunked", b"chunked"], [b"chunked;q=1"], [b'"chunked"'], [b"chunked, chunked"], [b"\x0bchunked"],
    ],
)  # fmt: skip
def test_a_body_whose_last_coding_is_not_one_chunked_is_a_400(address: Address, values: list[bytes]) -> None:
    assert problem_of(exchange(address, POST + codings(*values)))["status"] == 400


def test_chunks_do_not_exist_in_http_1_0(address: Address) -> None:
    """A server that knows no chunks would take them for another request (RFC 9112, 6.1)."""
    for value in (b"chunked", b"gzip, chunked"):
        assert problem_of(exchange(address, POST.replace(b"1.1", b"1.0") + codings(value)))["status"] == 400


@pytest.mark.parametrize("field", [b"connection: close", b"connection: keep-alive", b"upgrade: h2c", b"Connection: x"])
def test_a_field_that_belongs_to_the_connection_is_a_400_after_the_chunks(address: Address, field: bytes) -> None:
    """The parser would obey it, and then read no further request although the connection stays open."""
    head = b"POST /held HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    problem = problem_of(exchange(address, head + b"2\r\n{}\r\n0\r\n" + field + b"\r\n\r\n"))
    assert problem["status"] == 400


def test_the_target_may_be_a_whole_url_also_without_a_path(address: Address) -> None:
    for target in (b"http://x/", b"http://x", b"http://x?y=1", b"http://x:80"):
        answer = exchange(address, GET.replace(b"/ ", target + b" ", 1) + b"host: x\r\n\r\n")
        assert status_of(answer) == 200


FRAMED = POST + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("extension", [b";" + b"y" * (2 * MOST_FRAMING_BYTES), b"0" * (2 * MOST_FRAMING_BYTES)])
def test_chunks_are_not_much_larger_than_the_body(address: Address, extension: bytes) -> None:
    size = extension + b"2" if extension[:1] == b"0" else b"2" + extension
    problem = problem_of(exchange(address, FRAMED, size + b"\r\n{}\r\n0\r\n\r\n"))
    assert problem["status"] == 400


@pytest.mark.parametrize("chunk", [b"1\r\nx\r\n", b"1;y=zzzzzzzzzz\r\nx\r\n"])
def test_a_body_of_one_byte_in_each_chunk_is_read(address: Address, chunk: bytes) -> None:
    count = 32 * LEAST_BODY_BYTES
    assert count * (len(chunk) - 1) > MOST_FRAMING_BYTES
    answer = exchange(address, FRAMED, chunk * count + b"0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n%d" % count)
