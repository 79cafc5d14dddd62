# SPDX-License-Identifier: GPL-3.0-or-later
"""From a zone to the interface of one of its nodes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core.errors import InvalidValue
from jaywalk.mesh import node_interface
from jaywalk.mesh.node_interface import LocalNode
from jaywalk.zone.models import Peer, Zone
from jaywalk.zone.network_bounds import NetworkBounds
from jaywalk.zone.view import ZoneView
from tests.strategies import key

ZONE = Zone("zone-blue", ("10.20.0.0/20", "fd20::/64"))
ME = LocalNode(key(0), "/etc/jaywalk/zone-blue.key")


def peer(number: int, prefixes: tuple[str, ...] = (), endpoint: str = "") -> Peer:
    hosts = (f"10.20.0.{number + 1}", f"fd20::{number + 1:x}")
    return Peer(key(number), f"node{number}", hosts, prefixes, endpoint)


def view_of(peers: Iterable[Peer]) -> ZoneView:
    view = ZoneView(ZONE, 1, 1)
    for each in peers:
        assert view.put(each.key, each.to_wire())
    return view


def test_a_node_outside_of_the_zone_has_no_interface() -> None:
    assert node_interface.desired(view_of([peer(1)]), ME) is None


def test_a_member_has_the_pools_lengths_and_all_others_as_peers() -> None:
    wanted = node_interface.desired(view_of([peer(0), peer(1, ("172.20.1.0/24",), "192.0.2.1:51820")]), ME)
    assert wanted is not None
    assert wanted.addresses == ("10.20.0.1/20", "fd20::1/64")
    assert set(wanted.peers) == {key(1)}
    assert set(wanted.peers[key(1)].allowed_ips) == {"10.20.0.2/32", "fd20::2/128", "172.20.1.0/24"}
    assert wanted.peers[key(1)].keepalive == node_interface.KEEPALIVE_SECONDS
    assert wanted.routes == {"172.20.1.0/24"}


def test_a_pool_over_the_machines_own_network_is_refused() -> None:
    node = LocalNode(key(0), "k", local_networks=("10.20.3.9/24",))
    with pytest.raises(InvalidValue, match=r"10\.20\.0\.0/20 overlaps 10\.20\.3\.0/24"):
        node_interface.desired(view_of([peer(0)]), node)


def test_what_lies_outside_the_accepted_networks_is_left_out_and_the_rest_taken() -> None:
    """A stolen controller gives the zone a pool of the Internet, and a peer such a prefix."""
    zone = Zone("zone-blue", ("10.20.0.0/20", "8.0.0.0/7"))
    view = ZoneView(zone, 1, 1)
    for record in (peer(0)._replace(addresses=("10.20.0.1",)), peer(1)._replace(addresses=("10.20.0.2",))):
        view.put(
            record.key, record._replace(prefixes=("172.20.1.0/24",) if record.key == key(1) else ()).to_wire()
        )
    stranger = peer(2, ("44.0.0.0/8", "172.20.2.0/24"))._replace(addresses=("8.8.8.8",))
    view.put(stranger.key, stranger.to_wire())
    node = LocalNode(key(0), "k", accepted=NetworkBounds())
    wanted = node_interface.desired(view, node)
    assert wanted is not None
    assert wanted.addresses == ("10.20.0.1/20",)
    assert wanted.routes == {"172.20.1.0/24", "172.20.2.0/24"}
    assert wanted.peers[key(2)].allowed_ips == ("172.20.2.0/24",)
    assert set(node_interface.not_accepted(view, node)) == {"8.0.0.0/7", key(2)}
    assert len(node_interface.refused_prefixes(view, node)) == 3
    everything = LocalNode(key(0), "k", accepted=NetworkBounds.parse("any"))
    assert node_interface.not_accepted(view, everything) == {}


def test_a_zone_whose_pools_this_node_does_not_accept_changes_nothing() -> None:
    zone = Zone("zone-blue", ("8.0.0.0/7",))
    view = ZoneView(zone, 1, 1)
    view.put(key(0), peer(0)._replace(addresses=("8.0.0.1",)).to_wire())
    with pytest.raises(InvalidValue, match="--accepted-networks"):
        node_interface.desired(view, LocalNode(key(0), "k", accepted=NetworkBounds()))


def test_the_requested_address_may_be_there_already_alone_and_no_other() -> None:
    node = LocalNode(key(0), "k", local_networks=("10.20.0.1/32",), requested=("10.20.0.1",))
    assert node_interface.desired(view_of([peer(0)]), node) is not None
    for local, requested in (("10.20.0.1/32", "10.20.0.2"), ("10.20.0.1/24", "10.20.0.1")):
        with pytest.raises(InvalidValue, match="overlaps 10"):
            node_interface.desired(
                view_of([peer(0)]), LocalNode(key(0), "k", local_networks=(local,), requested=(requested,))
            )


def test_a_prefix_over_the_machines_own_network_is_left_out_and_the_rest_taken() -> None:
    node = LocalNode(key(0), "k", local_networks=("192.168.1.7/24", "198.51.100.1/32"))
    view = view_of([peer(0), peer(1, ("192.168.0.0/16", "172.20.1.0/24")), peer(2, ("198.51.100.0/24",))])
    wanted = node_interface.desired(view, node)
    assert wanted is not None
    assert wanted.routes == {"172.20.1.0/24"}
    assert "10.20.0.3/32" in wanted.peers[key(2)].allowed_ips
    sentences = node_interface.refused_prefixes(view, node)
    assert len(sentences) == 2
    assert any("192.168.0.0/16 of peer node1 is left out" in each for each in sentences)


def test_nobody_gets_the_nodes_own_address() -> None:
    thief = Peer(key(1), "thief", ("10.20.0.1", "fd20::9"))
    wanted = node_interface.desired(view_of([peer(0), thief]), ME)
    assert wanted is not None
    assert wanted.peers[key(1)].allowed_ips == ("fd20::9/128",)


def test_a_prefix_moves_from_one_peer_to_another_in_one_event() -> None:
    view = view_of([peer(0), peer(1, ("172.20.1.0/24",)), peer(2)])
    before = node_interface.desired(view, ME)
    assert before is not None
    assert view.put(key(1), peer(1).to_wire())
    assert view.put(key(2), peer(2, ("172.20.1.0/24",)).to_wire())
    for order in ((key(1), key(2)), (key(2), key(1))):
        after = node_interface.with_peers(before, view, ME, order)
        assert after.routes == {"172.20.1.0/24"}
        assert "172.20.1.0/24" in after.peers[key(2)].allowed_ips


members = st.dictionaries(
    st.integers(1, 6),
    st.tuples(st.booleans(), st.sampled_from(["", "192.0.2.1:1", "192.0.2.2:2"])),
    max_size=6,
)


def zone_of(shape: dict[int, tuple[bool, str]]) -> list[Peer]:
    return [
        peer(number, (f"172.20.{number}.0/24",) if announces else (), endpoint)
        for number, (announces, endpoint) in shape.items()
    ]


@given(members, members)
def test_changes_one_by_one_come_to_the_same_as_the_whole(
    before: dict[int, tuple[bool, str]], after: dict[int, tuple[bool, str]]
) -> None:
    current = node_interface.desired(view_of([peer(0), *zone_of(before)]), ME)
    view = view_of([peer(0), *zone_of(after)])
    assert current is not None
    for number in before.keys() | after.keys():
        current = node_interface.with_peers(current, view, ME, [key(number)])
    assert current == node_interface.desired(view, ME)
