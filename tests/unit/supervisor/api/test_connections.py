# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from jaywalk_supervisor.api.connections import Connection, Connections, client_of


def opened(connections: Connections, closed: list[Connection], client: str) -> Connection | None:
    """A new connection of ``client``, or None if it was refused; the connections closed for it are listed."""
    new = Connection(client)
    new.close = lambda: closed.append(new)
    return new if connections.admit(new) else None


def test_the_connection_that_waits_longest_makes_room_for_a_new_one_of_its_address() -> None:
    connections, closed = Connections(total=100, of_address=3), list[Connection]()
    first, second, *_ = (opened(connections, closed, "192.0.2.1") for _ in range(3))
    assert first and second
    connections.touch(first)
    assert opened(connections, closed, "192.0.2.1")
    assert closed == [second]
    assert opened(connections, closed, "192.0.2.2")
    assert closed == [second]
    assert len(connections) == 4


def test_the_address_with_most_connections_makes_room_for_the_others() -> None:
    connections, closed = Connections(total=10, of_address=9), list[Connection]()
    many = [opened(connections, closed, "192.0.2.1") for _ in range(9)]
    others = [opened(connections, closed, f"192.0.2.{number}") for number in range(2, 8)]
    assert all(others)
    assert closed == many[:5]


def test_no_connection_is_closed_while_its_request_is_answered() -> None:
    connections, closed = Connections(total=100, of_address=2), list[Connection]()
    first, second = (opened(connections, closed, "192.0.2.1") for _ in range(2))
    assert first and second
    first.busy = second.busy = True
    assert opened(connections, closed, "192.0.2.1") is None
    assert closed == []
    connections.remove(first)
    assert opened(connections, closed, "192.0.2.1")


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a name", "a name"),
    ],
)
def test_an_ipv6_client_is_its_network(address: str, client: str) -> None:
    assert client_of(address) == client
