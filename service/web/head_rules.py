"""The rules for the head of a request that the parser does not check."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv6Address

# What a host may be, and its port (RFC 9110, 7.2, and RFC 3986, 3.2.2 and 3.2.3). Both may be empty.
_NAME = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*(?::[0-9]*)?")
_LITERAL = re.compile(rb"\[([0-9A-Fa-f:.]+)\](?::[0-9]*)?")
_FUTURE_LITERAL = re.compile(rb"\[[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+\](?::[0-9]*)?")
# Hosts that are known to be valid. To look one up takes a tenth of the time of checking it.
MOST_HOSTS = 1024
MOST_HOST_BYTES = 256
KNOWN_HOSTS: set[bytes] = set()
# Fields that have no meaning after the chunks of a body. The parser would apply them.
FORBIDDEN_AFTER_CHUNKS = frozenset({b"connection", b"proxy-connection", b"upgrade"})


class Rejection(Exception):
    """A request that breaks a rule. Raised in a callback of the parser, which then reports it as its error."""

    def __init__(self, status: int, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug


def check_head(version: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Check the version, the host and the coding of a request's head.

    Args:
        version: of HTTP, such as "1.1".
        headers: name in lower case, and value.

    Raises:
        Rejection: the service does not implement the version or a coding.
        ValueError: the head is not valid HTTP.
    """
    if version not in {"1.1", "1.0"}:
        raise Rejection(400, "malformed-request", f"the service speaks HTTP/1.1 and 1.0, not HTTP/{version}")
    hosts, codings = [], []
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise ValueError(f"a request needs one Host header; this one has {len(hosts)}")
    for host in hosts:
        _check_host(host)
    if codings and version == "1.0":
        # Servers that know no chunks read such a body differently (RFC 9112, 6.1).
        raise ValueError("Transfer-Encoding does not exist in HTTP/1.0")
    if not codings:
        return
    names = [name.strip(b" \t").lower() for coding in codings for name in coding.split(b",")]
    found = repr(b", ".join(codings).decode("latin-1")[:100])
    if names[-1] != b"chunked":  # nothing tells where the body ends (RFC 9112, 6.3)
        raise ValueError(f"the last Transfer-Encoding of a request is chunked; this one has {found}")
    if len(names) > 1:
        raise Rejection(501, "not-implemented", f"the only Transfer-Encoding is chunked, and not {found}")


def _check_host(host: bytes) -> None:
    """Raise ValueError unless the host is valid. Valid short hosts are cached."""
    host = host.strip(b" \t")
    if host in KNOWN_HOSTS:
        return
    if not (_NAME.fullmatch(host) or _FUTURE_LITERAL.fullmatch(host) or _is_address(host)):
        raise ValueError(f"{host[:100].decode('latin-1')!r} is not a valid Host")
    if len(KNOWN_HOSTS) < MOST_HOSTS and len(host) <= MOST_HOST_BYTES:
        KNOWN_HOSTS.add(host)


def _is_address(host: bytes) -> bool:
    """Whether it is an IPv6 address in brackets, with or without a port."""
    literal = _LITERAL.fullmatch(host)
    if literal is None:
        return False
    try:
        IPv6Address(literal[1].decode())
    except AddressValueError:
        return False
    return True
