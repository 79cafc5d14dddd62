# SPDX-License-Identifier: GPL-3.0-or-later
"""What a zone consists of comes back from the wire as it went, and reaches not beyond its own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaywalk.core.errors import InvalidValue
from jaywalk.zone.models import Lease, Peer, Zone
from tests import strategies as mesh

ZONE = Zone.validated("zone-blue", ["10.20.0.0/20", "fd20::/64"], "Tenancy Zone Blue")


@given(mesh.peers)
def test_peer_comes_back_as_it_went(peer: Peer) -> None:
    assert Peer.from_wire(peer.key, peer.to_wire(), ZONE) == peer
    assert Peer.from_wire(peer.key, json.dumps(peer.to_wire()), ZONE) == peer


@given(mesh.leases)
def test_lease_comes_back_as_it_went(lease: Lease) -> None:
    assert Lease.from_wire(lease.key, json.dumps(lease.to_wire())) == lease


@given(st.sampled_from(["zone-red", "zone-blue"]), st.text(max_size=300))
def test_zone_comes_back_as_it_went(name: str, description: str) -> None:
    zone = Zone.validated(name, ["10.20.0.9/20", "fd20::/64"], description)
    assert zone.pools == ("10.20.0.0/20", "fd20::/64")
    assert Zone.from_wire(name, zone.to_wire()) == zone


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"addresses": ("10.21.0.1",)}, "10.21.0.1 of peer node1 lies outside"),
        ({"addresses": ("fd21::1",)}, "fd21::1 of peer node1 lies outside"),
        ({"prefixes": ("10.20.1.0/24",)}, "10.20.1.0/24 of peer node1 overlaps"),
        ({"prefixes": ("10.0.0.0/8",)}, "overlaps the zone's pools"),
        ({"prefixes": ("fd20::/16",)}, "overlaps the zone's pools"),
        ({"addresses": ()}, "has no address"),
    ],
)
def test_node_believes_no_peer_that_reaches_beyond_its_own(change: dict[str, Any], words: str) -> None:
    peer = Peer(mesh.key(1), "node1", ("10.20.0.1",))._replace(**change)
    with pytest.raises(InvalidValue, match=words):
        Peer.from_wire(peer.key, peer.to_wire(), ZONE)


def test_zone_gives_each_address_to_one_pool() -> None:
    with pytest.raises(InvalidValue, match=r"10.20.8.0/21 and 10.20.0.0/20 overlap"):
        Zone.validated("zone-blue", ["10.20.0.0/20", "10.20.8.0/21"])
    with pytest.raises(InvalidValue, match="no pool"):
        Zone.validated("zone-blue", [])
    assert ZONE.prefix_length("10.20.3.4") == 20
    assert ZONE.prefix_length("fd20::9") == 64
    assert ZONE.prefix_length("10.21.0.1") is None


def test_lease_says_in_what_state_it_is() -> None:
    lease = Lease(mesh.key(1), "node1", ("10.20.0.1",))
    states = [replace(lease, released=when).state for when in (None, 0, 1_700_000_000.5)]
    assert states == ["active", "reserved", "released"]
