# SPDX-License-Identifier: GPL-3.0-or-later
"""A relay forwards all traffic of its clients, also to servers that a sentinel or a shard names."""

from __future__ import annotations

import socket

import pytest

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect, locate
from jaywalk.core.errors import ControllerUnreachable

from .relay import Relay
from .topologies import KINDS, ZONES, Topology


def test_a_relay_forwards_freezes_and_cuts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Relay([server.getsockname()[1]]) as relay:
        (port,) = relay.ports.values()
        with socket.create_connection(("127.0.0.1", port), 60) as near:
            far, _ = server.accept()
            far.settimeout(60)
            near.sendall(b"one")
            assert far.recv(9) == b"one"
            relay.freeze()
            near.sendall(b"two")
            far.settimeout(0.2)
            with pytest.raises(TimeoutError):
                far.recv(9)
            relay.heal()
            far.settimeout(60)
            assert far.recv(9) == b"two"
            relay.cut()
            assert far.recv(9) == b""
            far.close()
        with socket.create_connection(("127.0.0.1", port), 60) as refused:
            assert refused.recv(9) == b""


@pytest.mark.parametrize("kind", KINDS)
def test_no_client_bypasses_a_relay(kind: str) -> None:
    with KINDS[kind]() as topology, Relay(topology.direct()) as relay:
        assert not set(relay.ports) & set(relay.ports.values())
        for zone in ZONES:
            where = topology.address(zone, relay.ports, "supervisor", topology.password)
            assert locate(where).port == relay.ports[topology.server_of(zone).port]
        assert _is_answered(topology, relay)
        relay.freeze()
        assert not _is_answered(topology, relay)
        relay.heal()
        assert _is_answered(topology, relay)
        relay.cut()
        assert not _is_answered(topology, relay)


def _is_answered(topology: Topology, relay: Relay) -> bool:
    where = topology.address(ZONES[0], relay.ports, "supervisor", topology.password)
    try:
        client = ZoneClient(connect(where), where, ZONES[0])
        assert client.leases() == []
    except ControllerUnreachable:
        return False
    client.client.close()
    return True
