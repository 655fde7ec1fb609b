"""Where a request comes from: the address of its client, also behind reverse proxies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from starlette.types import Scope

from ..settings import Network

# Addresses and headers whose names are kept, and bytes of such a header. Beyond, a name is made again.
MOST_NAMES = 4096
MOST_KEPT_BYTES = 256
# Bits of an address of IPv6 that name its network. One host usually has all addresses of such a network.
_HOST_NETWORK_BITS = 64
_FORWARDED_FOR = b"x-forwarded-for"
UNKNOWN = "peer:unknown"


class Peers:
    """Names the client of each request: `peer:` and its address.

    Each proxy appends the address that it sees to `X-Forwarded-For`, and a client can send anything before that. The
    header is therefore read from its end, and only if the connection comes from one of the `trusted` networks. The
    client is the last address that is not trusted.
    """

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        self._named = lru_cache(MOST_NAMES)(_named)
        self._is_trusted = lru_cache(MOST_NAMES)(self._in_trusted_network)
        self._named_by_proxy = lru_cache(MOST_NAMES)(self._forwarded)

    def name(self, scope: Scope) -> str:
        """The name of the client of an ASGI scope; `UNKNOWN` if the scope has no address."""
        client = scope.get("client")
        if client is None:
            return UNKNOWN
        if self._trusted and self._is_trusted(client[0]):
            # A proxy may add a header of its own instead of appending to the one that came.
            header = b",".join([value for name, value in scope["headers"] if name == _FORWARDED_FOR])
            named = self._named_by_proxy if len(header) <= MOST_KEPT_BYTES else self._forwarded
            return named(client[0], header)
        return self._named(client[0])

    def _forwarded(self, peer: str, header: bytes) -> str:
        """The name of the client that trusted proxies name; of the nearest proxy `peer` if they name none."""
        nearest = peer
        for text in reversed(header.decode("latin-1").split(",")):
            address = _parsed(_without_port(text.strip()))
            if address is None:  # a trusted proxy vouches only for the addresses after this text
                break
            nearest = str(address)
            if not self._is_trusted(nearest):
                break
        return self._named(nearest)

    def _in_trusted_network(self, text: str) -> bool:
        address = _parsed(text)
        return address is not None and any(address in network for network in self._trusted)


def _named(text: str) -> str:
    address = _parsed(text)
    if isinstance(address, IPv6Address):
        return f"peer:{ip_network((int(address), _HOST_NETWORK_BITS), strict=False)}"
    return f"peer:{address or text[:64]}"


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """The address that `text` writes, also one of IPv4 inside IPv6; None if it writes none."""
    try:
        address = ip_address(text.partition("%")[0])  # without the zone of a link-local address
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _without_port(text: str) -> str:
    """An address of `X-Forwarded-For`, to which some proxies add the port: 1.2.3.4:5 or [::1]:5."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
