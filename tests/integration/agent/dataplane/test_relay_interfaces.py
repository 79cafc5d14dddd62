# SPDX-License-Identifier: GPL-3.0-or-later
"""The interfaces to relays: what they should be, on real WireGuard, and that nothing of them stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jaywalk.mesh.node_interface import LocalNode
from jaywalk.wireguard import keys
from jaywalk.wireguard.interface import client_name, is_relays, server_name
from jaywalk.zone.models import Peer
from jaywalk_agent.dataplane.forwarding import forwards_ipv6
from jaywalk_agent.dataplane.relay_interfaces import RELAY_METRIC, RelayPlane, RelayState, client, server
from tests.netns import Namespace
from tests.strategies import key

NODE = LocalNode(key(0), "/etc/key0", "wg0")
RELAY = Peer(key(1), "relay1", ("10.20.0.2",), endpoint="192.0.2.2:51820", relay=51821)
SPOKE = key(2)
ALLOWED = {RELAY.key: ("10.20.0.2/32",), SPOKE: ("10.20.0.3/32", "172.20.1.0/24")}


def wanted(own: Peer, **fields: object) -> RelayState:
    return RelayState(own, ("10.20.0.0/20",), ALLOWED, **fields)  # type: ignore[arg-type]


def me(**fields: object) -> Peer:
    return Peer(key(0), "node0", ("10.20.0.1",), endpoint="192.0.2.1:51820", **fields)  # type: ignore[arg-type]


def test_a_relay_may_speak_for_the_mesh_and_for_nothing_else() -> None:
    made = client(NODE, wanted(me(), relays=(RELAY,)), RELAY)
    assert made.peers[RELAY.key].allowed_ips == ("10.20.0.0/20", "172.20.1.0/24")
    assert made.peers[RELAY.key].endpoint == "192.0.2.2:51821"
    assert made.addresses == ("10.20.0.1/32",)
    assert made.routes == frozenset()


def test_who_is_carried_has_all_its_prefixes_routed_before_the_direct_way() -> None:
    made = client(NODE, wanted(me(), relays=(RELAY,), carried={SPOKE: RELAY.key}), RELAY)
    assert made.routes == {"10.20.0.3/32", "172.20.1.0/24"}
    assert RELAY_METRIC <= made.metric < 2048


def test_a_relay_lets_each_peer_come_with_what_is_its_own() -> None:
    made = server(NODE, wanted(me(relay=51821)))
    assert {each: peer.allowed_ips for each, peer in made.peers.items()} == ALLOWED
    assert made.listen_port == 51821
    assert not any(peer.endpoint or peer.keepalive for peer in made.peers.values())


def test_ipv6_pools_are_routed_for_questions_that_go_by_a_relay() -> None:
    own = Peer(key(0), "node0", ("10.20.0.1", "fd20::1"))
    made = client(NODE, RelayState(own, ("10.20.0.0/20", "fd20::/64"), ALLOWED, (RELAY,)), RELAY)
    assert made.routes == {"fd20::/64"}


@pytest.mark.parametrize("interface", ["wg0", "fifteen-letters", "a.b"])
def test_names_fit_the_kernel_and_are_known_again(interface: str) -> None:
    names = [server_name(interface), client_name(interface, key(1)), client_name(interface, key(2))]
    assert len(set(names)) == 3
    for name in names:
        assert len(name) <= 15
        assert is_relays(interface, name)
    assert not is_relays(interface, interface)
    assert not is_relays(interface, f"{interface[:8]}-backup")


@pytest.mark.wireguard
def test_relay_interfaces_come_and_go_without_a_trace(
    namespace: Callable[[str], Namespace], tmp_path: Path
) -> None:
    inside = namespace("jwu-relays")
    file = tmp_path / "key"
    public, _ = keys.ensure_key_file(inside.runner, str(file))
    inside.run(["ip", "tuntap", "add", "dev", "jwurly", "mode", "tun"])
    for name in ("default", "jwurly"):
        inside.run(["tee", f"/proc/sys/net/ipv4/conf/{name}/rp_filter"], "1")
    before = traces(inside)
    plane = RelayPlane(inside.runner, LocalNode(public, str(file), "jwurly"))
    want = wanted(me(relay=51899), relays=(RELAY,), carried={SPOKE: RELAY.key})
    assert len(plane.apply(want)) == 2
    assert "172.20.1.0/24" in inside.run(["ip", "route", "show", "dev", client_name("jwurly", RELAY.key)])
    assert "lookup 51899" in inside.run(["ip", "rule", "show"])
    assert setting(inside, "jwurly") == "2"
    assert plane.apply(want) == plane.apply(want, full=True) == []
    assert not forwards_ipv6(inside.runner)
    assert RelayPlane(inside.runner, LocalNode(public, str(file), "jwurly")).remove(), "also another agent's"
    assert traces(inside) == before


@pytest.mark.wireguard
def test_a_relay_passes_ipv6_on_where_a_peer_has_it_and_sees_to_it_again(
    namespace: Callable[[str], Namespace], tmp_path: Path
) -> None:
    inside, file = namespace("jwu-relay6"), tmp_path / "key"
    public, _ = keys.ensure_key_file(inside.runner, str(file))
    inside.run(["ip", "tuntap", "add", "dev", "jwurl6", "mode", "tun"])
    plane, own = RelayPlane(inside.runner, LocalNode(public, str(file), "jwurl6")), me(relay=51898)
    pools, spoke = ("10.20.0.0/20", "fd20::/64"), {SPOKE: ("10.20.0.3/32", "fd20::3/128")}
    for _ in range(2):
        plane.apply(RelayState(own, pools, spoke), full=True)
        assert forwards_ipv6(inside.runner)
        inside.run(["sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"])
    plane.remove()


@pytest.mark.wireguard
def test_without_ipv6_a_relay_carries_ipv4_and_what_is_deleted_of_it_comes_back(
    namespace: Callable[[str], Namespace], tmp_path: Path
) -> None:
    inside, file = namespace("jwu-relay4"), tmp_path / "key"
    public, _ = keys.ensure_key_file(inside.runner, str(file))
    inside.run(["ip", "tuntap", "add", "dev", "jwurl4", "mode", "tun"])
    inside.run(["tee", "/proc/sys/net/ipv6/conf/all/disable_ipv6"], "1")
    own = Peer(key(0), "node0", ("10.20.0.1", "fd20::1"), endpoint="192.0.2.1:51820", relay=51897)
    want = RelayState(own, ("10.20.0.0/20", "fd20::/64"), ALLOWED, (RELAY,), {SPOKE: RELAY.key})
    plane = RelayPlane(inside.runner, LocalNode(public, str(file), "jwurl4"))
    plane.apply(want, full=True)
    assert plane.apply(want, full=True) == plane.apply(want) == []
    inside.run(["ip", "link", "delete", server_name("jwurl4")])
    inside.run(["ip", "rule", "del", "lookup", "51897"])
    plane.apply(want, full=True)
    assert "default" in inside.run(["ip", "route", "show", "table", "51897"])
    assert "lookup 51897" in inside.run(["ip", "rule", "show"])
    inside.run(["tee", "/proc/sys/net/ipv6/conf/all/disable_ipv6"], "0")
    plane.apply(want, full=True)
    assert "fd20::/64" in inside.run(["ip", "-6", "route", "show", "dev", server_name("jwurl4")])
    assert "lookup 51897" in inside.run(["ip", "-6", "rule", "show"])
    plane.remove()


def traces(inside: Namespace) -> list[str]:
    words = ("ip -brief link", "ip rule", "ip -6 rule", "ip route show table all")
    shown = [inside.run(line.split()) for line in words]
    names = [" ".join(line.split()[0] for line in shown[0].splitlines()), *shown[1:]]
    return [*names, setting(inside, "jwurly")]


def setting(inside: Namespace, name: str) -> str:
    return inside.run(["cat", f"/proc/sys/net/ipv4/conf/{name}/rp_filter"]).strip()
