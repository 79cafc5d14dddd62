# SPDX-License-Identifier: GPL-3.0-or-later
"""The data plane on a Mac of recorded programs (tests/mac.py)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jaywalk.core.errors import InvalidValue
from jaywalk.mesh.node_interface import LocalNode
from jaywalk_agent.dataplane.interface import DataPlane
from tests.agent_support import event, peer, view_of
from tests.mac import Recorded, a_mac, backend
from tests.strategies import key

OWN = peer(4)._replace(key=key(0))
NODE = LocalNode(OWN.key, "/usr/local/etc/wireguard/zone-blue.key")


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return a_mac(tmp_path, monkeypatch)


def test_a_zone_is_brought_up_followed_and_left(mac: Recorded, tmp_path: Path) -> None:
    view, plane = view_of(OWN, peer(1, endpoint="192.0.2.1:51820")), DataPlane(backend(mac), NODE)
    plane.apply(view)
    assert ("ifconfig", "utun3", "inet", "10.20.0.5/20", "10.20.0.5", "alias") in mac.calls
    mac.calls.clear()
    plane.apply(view, event(view, peer(2, endpoint="192.0.2.2:51820", prefixes=("172.20.9.0/24",))))
    endpoint = ("endpoint", "192.0.2.2:51820", "persistent-keepalive", "25")
    assert mac.calls == [
        ("wg", "set", "utun3", "peer", key(2), *endpoint, "allowed-ips", "10.20.0.3/32,172.20.9.0/24"),
        ("route", "-q", "-n", "add", "-inet", "172.20.9.0/24", "-interface", "utun3"),
    ]
    plane.refresh_endpoints()
    assert mac.calls[-1] == ("wg", "set", "utun3", "peer", key(1), "endpoint", "192.0.2.1:51820")
    plane.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_another_tunnel_has_is_refused_before_anything_is_made(mac: Recorded) -> None:
    with pytest.raises(InvalidValue, match="UDP port 41414 is the interface utun9's"):
        DataPlane(backend(mac), replace(NODE, listen_port=41414)).apply(view_of(OWN))
    assert not any("wireguard-go" in call for call in mac.calls)


def test_a_zone_that_overlaps_a_network_of_the_mac_is_refused(mac: Recorded) -> None:
    view = view_of(OWN)
    view.zone = replace(view.zone, pools=("192.168.0.0/16",))
    with pytest.raises(InvalidValue, match=r"192\.168\.0\.0/16 overlaps 192\.168\.7\.0/24"):
        DataPlane(backend(mac), NODE).apply(view)
