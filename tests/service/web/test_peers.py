"""The name of the client of a request, with and without reverse proxies."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.runtime.caller import CALLER
from service.web.peers import UNKNOWN, Peers
from tests.service.conftest import Running

TRUSTED = tuple(map(ip_network, ("10.0.0.0/8", "192.168.1.1", "fd00::/8")))


def scope(address: str, *forwarded: str) -> dict[str, Any]:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", text.encode("latin-1")) for text in forwarded)]
    return {"type": "http", "client": (address, 1), "headers": headers}


@pytest.mark.parametrize("address", ["203.0.113.7", "10.0.0.1", "::1"])
def test_without_trusted_proxies_the_header_means_nothing(address: str) -> None:
    peers = Peers()
    assert peers.name(scope(address, "198.51.100.1")) == peers.name(scope(address))


def test_the_header_of_an_untrusted_client_means_nothing() -> None:
    assert Peers(TRUSTED).name(scope("203.0.113.7", "198.51.100.1")) == "peer:203.0.113.7"


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (("198.51.100.1",), "198.51.100.1"),
        # What the client itself sent comes first, and is never believed.
        (("1.2.3.4, 198.51.100.1",), "198.51.100.1"),
        (("10.9.9.9, 198.51.100.1",), "198.51.100.1"),
        # Proxies in a row, in one header or in several.
        (("1.2.3.4, 198.51.100.1, 10.0.0.2, 192.168.1.1",), "198.51.100.1"),
        (("1.2.3.4, 198.51.100.1", "10.0.0.2", "192.168.1.1"), "198.51.100.1"),
        # Clients within the trusted networks.
        (("10.0.0.9, 10.0.0.2",), "10.0.0.9"),
        # Ports, brackets, spaces, and IPv4 inside IPv6.
        (("198.51.100.1:4711",), "198.51.100.1"),
        (("[::ffff:198.51.100.1]:4711",), "198.51.100.1"),
        (("  198.51.100.1  ",), "198.51.100.1"),
        # Texts that are no addresses.
        ((), "10.0.0.1"),
        (("",), "10.0.0.1"),
        (("unknown",), "10.0.0.1"),
        (("198.51.100.1, <script>",), "10.0.0.1"),
        (("198.51.100.1, nonsense, 10.0.0.2",), "10.0.0.2"),
        (("198.51.100.1,",), "10.0.0.1"),
        (("198.51.100.999",), "10.0.0.1"),
    ],
)
def test_the_client_is_the_last_address_that_is_not_trusted(forwarded: tuple[str, ...], client: str) -> None:
    assert Peers(TRUSTED).name(scope("10.0.0.1", *forwarded)) == f"peer:{client}"


def test_a_header_of_any_length_names_the_same_client() -> None:
    peers = Peers(TRUSTED)
    for count in (0, 1, 20, 4000):
        forwarded = "1.2.3.4, " * count + "198.51.100.1"
        assert [peers.name(scope("10.0.0.1", forwarded)) for _ in range(2)] == ["peer:198.51.100.1"] * 2


def test_all_ways_to_write_an_address_name_one_client() -> None:
    peers = Peers(TRUSTED)
    assert peers.name(scope("::ffff:203.0.113.7")) == peers.name(scope("203.0.113.7")) == "peer:203.0.113.7"
    assert peers.name(scope("FD00::1", "2001:DB8::1")) == peers.name(scope("fd00::2", "2001:db8:0:0::2"))
    assert peers.name(scope("fe80::1%eth0")) == peers.name(scope("fe80::1"))


def test_a_network_of_ipv6_is_one_client() -> None:
    peers = Peers()
    assert peers.name(scope("2001:db8:1:2:3:4:5:6")) == peers.name(scope("2001:db8:1:2::1")) == "peer:2001:db8:1:2::/64"
    assert peers.name(scope("2001:db8:1:3::1")) != peers.name(scope("2001:db8:1:2::1"))


def test_a_scope_without_an_address_has_a_name() -> None:
    assert Peers(TRUSTED).name({"type": "http", "client": None, "headers": []}) == UNKNOWN
    assert Peers(TRUSTED).name(scope("testclient")) == "peer:testclient"


def test_what_runs_for_a_request_sees_its_caller_and_no_other_task_does(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(*_: object) -> object:
        seen.append(CALLER.get())
        raise ValueError

    monkeypatch.setattr("service.vae.routes.encoder_size", look)
    with running(trusted_proxies="10.0.0.0/8") as client:
        for address in ("10.0.0.1", "203.0.113.7"):
            other = TestClient(client.app, raise_server_exceptions=False, client=(address, 1))
            other.get("/vae/encoder-size?dimension=2", headers={"X-Forwarded-For": "198.51.100.1"})
    assert seen == ["peer:198.51.100.1", "peer:203.0.113.7"]
    assert CALLER.get() == ""
