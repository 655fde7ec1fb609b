"""The channel between the supervisor and a replica."""

from __future__ import annotations

import os
import resource
import socket

import pytest

from service.runtime import channel
from service.runtime.channel import open_channel, pack, receive_connections, send_connection, unpack


def test_messages_arrive_whole_and_in_order_even_if_they_do_not_fit_the_stream() -> None:
    ours, theirs = open_channel()
    large = os.urandom(3_000_000)
    ours.messages.send(channel.SNAPSHOTS, large)
    ours.messages.send(channel.STOP)
    received: list[tuple[bytes, bytes]] = []
    while len(received) < 2:
        received += theirs.messages.receive()
        ours.messages.flush()
    assert received == [(channel.SNAPSHOTS, large), (channel.STOP, b"")]
    ours.close()
    theirs.close()


def test_the_end_of_a_peer_comes_after_its_last_message() -> None:
    ours, theirs = open_channel()
    theirs.messages.send(channel.SERVING)
    theirs.close()
    assert ours.messages.receive() == [(channel.SERVING, b"")]
    with pytest.raises(EOFError):
        ours.messages.receive()
    with pytest.raises(EOFError):
        list(receive_connections(ours.connections))
    ours.messages.send(channel.STOP)  # no error, although the other end does not read
    ours.close()


def test_a_connection_that_is_handed_over_survives_the_closing_of_the_first_copy() -> None:
    ours, theirs = open_channel()
    client, accepted = socket.socketpair()
    with accepted:
        send_connection(ours.connections, accepted)
    ((received, is_reserved),) = receive_connections(theirs.connections)
    assert received is not None
    assert not is_reserved
    with client, received:
        client.sendall(b"hello")
        assert received.recv(10) == b"hello"
    ours.close()
    theirs.close()


def test_a_connection_that_finds_no_free_descriptor_is_reported_as_lost() -> None:
    ours, theirs = open_channel()
    client, accepted = socket.socketpair()
    with client:
        with accepted:
            send_connection(ours.connections, accepted)
            send_connection(ours.connections, accepted)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # No descriptor is free below the limit, so the next one cannot be had.
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(ours.connections.fileno(), client.fileno()), hard))
        try:
            connections = receive_connections(theirs.connections)
            assert next(connections) == (None, False)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        received, _ = next(connections)
        assert received is not None
        received.close()
        assert client.recv(1) == b""
    ours.close()
    theirs.close()


@pytest.mark.parametrize("parts", [[], [b""], [b"a", b"", b"bc" * 1000]])
def test_unpack_is_the_inverse_of_pack(parts: list[bytes]) -> None:
    assert unpack(pack(parts)) == parts
