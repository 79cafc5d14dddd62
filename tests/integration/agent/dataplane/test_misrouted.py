# SPDX-License-Identifier: GPL-3.0-or-later
"""What does not come into the tunnel is named, and no route of the machine's owner is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jaywalk.mesh.node_interface import LocalNode
from jaywalk.wireguard import keys
from jaywalk.wireguard.interface import client_name
from jaywalk.wireguard.linux import Linux
from jaywalk_agent.dataplane import misrouted
from jaywalk_agent.dataplane.interface import DataPlane, peer_names
from tests.agent_support import peer, view_of
from tests.netns import Namespace
from tests.strategies import key

NAME = "jwuastray0"


@pytest.fixture
def inside(namespace: Callable[[str], Namespace]) -> Namespace:
    return namespace("jwu-astray")


def looked(inside: Namespace, folder: Path) -> misrouted.Misrouted:
    """What is astray on an interface that is as it should be."""
    public, _ = keys.ensure_key_file(inside.runner, str(folder / "key"))
    view = view_of(
        peer(0)._replace(key=public), *(peer(n) for n in range(1, 6)), peer(6, prefixes=("172.20.1.0/24",))
    )
    plane = DataPlane(Linux(inside.runner), LocalNode(public, str(folder / "key"), NAME, 51999))
    plane.apply(view)
    desired, left = plane.plan(view)
    assert desired is not None and not left
    return misrouted.find(inside.runner, desired, peer_names(view, desired.peers))


@pytest.mark.wireguard
@pytest.mark.parametrize(
    ("words", "way"),
    [
        ("route add blackhole 10.20.0.3/32", "nowhere"),
        ("route add unreachable 10.20.0.3/32", "nowhere"),
        ("route add 10.20.0.3/32 dev elsewhere", "by elsewhere"),
        ("rule add to 10.20.0.3 prohibit", "nowhere"),
    ],
)
def test_a_route_or_a_rule_before_the_tunnels_is_named_with_its_peer(
    inside: Namespace, tmp_path: Path, words: str, way: str
) -> None:
    inside.run(["ip", "link", "add", "elsewhere", "type", "veth"])
    inside.run(["ip", "link", "set", "dev", "elsewhere", "up"])
    assert looked(inside, tmp_path) == misrouted.Misrouted()
    inside.run(["ip", *words.split()])
    found = looked(inside, tmp_path)
    assert found.prefixes == ""
    assert f"these peers elsewhere than into {NAME}: node2 (10.20.0.3 {way}). See" in found.peers
    assert "'ip route get 10.20.0.3'" in found.peers


@pytest.mark.wireguard
def test_many_are_counted_and_a_network_behind_a_peer_is_told_apart(
    inside: Namespace, tmp_path: Path
) -> None:
    looked(inside, tmp_path)
    inside.run(["ip", "route", "add", "blackhole", "10.20.0.0/21"])
    inside.run(["ip", "route", "add", "unreachable", "172.20.0.0/16"])
    found = looked(inside, tmp_path)
    assert found.peers.count("nowhere") == 3 and "and 3 more" in found.peers
    assert found.prefixes == "", "the network's own route is longer"
    inside.run(["ip", "route", "add", "unreachable", "172.20.1.0/24"])
    assert "node6 (172.20.1.0/24 nowhere)" in looked(inside, tmp_path).prefixes


@pytest.mark.wireguard
def test_what_goes_by_a_relay_is_not_astray(inside: Namespace, tmp_path: Path) -> None:
    relay = client_name(NAME, key(5))
    inside.run(["ip", "link", "add", relay, "type", "veth", "peer", "name", "switch"])
    for name in (relay, "switch"):
        inside.run(["ip", "link", "set", "dev", name, "up"])
    inside.run(["ip", "route", "add", "10.20.0.3/32", "dev", relay])
    assert looked(inside, tmp_path) == misrouted.Misrouted()
