# SPDX-License-Identifier: GPL-3.0-or-later
"""Descriptions of plans: each line of the log names what was changed, and what others changed before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jaywalk.wireguard import describe, plan
from jaywalk.wireguard.interface import Interface, ObservedInterface, ObservedPeer, WgPeer
from tests.strategies import key

PEERS = {key(n): WgPeer(key(n), (f"10.20.0.{n}/32",), f"192.0.2.{n}:51820", 25) for n in range(1, 6)}
NAMES = {key(n): f"node{n}" for n in range(1, 6)}
LAST = Interface(
    "wg0",
    key(0),
    "/etc/key0",
    51820,
    ("10.20.0.9/20", "fd20::9/64"),
    1420,
    PEERS,
    frozenset({"172.20.1.0/24", "fd21:1::/64"}),
)


def observed(**changed: Any) -> ObservedInterface:
    peers = {
        each.key: ObservedPeer(each.key, each.allowed_ips, each.endpoint, each.keepalive)
        for each in LAST.peers.values()
    }
    as_brought: dict[str, Any] = {
        "name": "wg0",
        "kind": "kernel",
        "public_key": LAST.public_key,
        "listen_port": 51820,
        "addresses": LAST.addresses,
        "mtu": 1420,
        "up": True,
        "peers": peers,
        "routes": LAST.routes,
    }
    return ObservedInterface(**{**as_brought, **changed})


def peers_but(*numbers: int) -> dict[str, ObservedPeer]:
    return {each: peer for each, peer in observed().peers.items() if each not in set(map(key, numbers))}


def drift(found: ObservedInterface | None, desired: Interface = LAST) -> list[str]:
    return list(describe.drift(found, LAST, desired, "zone-blue", NAMES))


FOREIGN = "which zone zone-blue does not have: another program put it there"


@pytest.mark.parametrize(
    ("found", "sentences"),
    [
        (None, ["interface wg0 was gone"]),
        (observed(), []),
        (observed(up=False, routes=frozenset(), addresses=LAST.addresses[:1]), ["link wg0 was down"]),
        (
            observed(up=False, routes=frozenset(), addresses=()),
            ["link wg0 was down", "address 10.20.0.9/20 was gone"],
        ),
        (observed(addresses=LAST.addresses[1:]), ["address 10.20.0.9/20 was gone"]),
        (observed(routes=frozenset({"fd21:1::/64"})), ["route 172.20.1.0/24 was gone"]),
        (observed(lost_networks=frozenset({"10.20.0.0/20"})), ["route 10.20.0.0/20 was gone"]),
        (observed(lost_hosts=frozenset({"fd20::9"})), ["the local route of address fd20::9 was gone"]),
        (observed(routes=LAST.routes | {"10.20.0.0/20", "fd20::/64"}), []),
        (observed(listen_port=40000, mtu=1300), ["the listen port was 40000", "the MTU was 1300"]),
        (observed(public_key=""), ["the private key was gone"]),
        (observed(peers=peers_but(2)), ["peer node2 was gone"]),
        (observed(peers={}), ["peers node1, node2, node3 and 2 more were gone"]),
        (
            observed(peers=peers_but(1) | {key(1): ObservedPeer(key(1), (), "192.0.2.1:51820", 25)}),
            ["the allowed IPs of peer node1 were none"],
        ),
        (
            observed(
                peers=peers_but() | {key(9): ObservedPeer(key(9), ("0.0.0.0/0",), "192.0.2.9:1")},
                addresses=(*LAST.addresses, "198.51.100.1/24"),
                routes=LAST.routes | {"0.0.0.0/0"},
            ),
            [
                f"removed peer {key(9)} (192.0.2.9:1), {FOREIGN}",
                f"removed address 198.51.100.1/24, {FOREIGN}",
                f"removed route 0.0.0.0/0, {FOREIGN}",
            ],
        ),
    ],
)
def test_each_change_of_others_is_one_sentence(found: ObservedInterface | None, sentences: list[str]) -> None:
    assert drift(found) == sentences


def test_many_foreign_peers_are_one_sentence() -> None:
    foreign = {key(n): ObservedPeer(key(n)) for n in range(20, 30)}
    (sentence,) = drift(observed(peers=peers_but() | foreign))
    assert sentence.startswith("removed peers ") and sentence.endswith(f" and 7 more, {FOREIGN}")


def test_a_change_of_the_zone_is_no_change_of_others() -> None:
    without_node1 = {each: peer for each, peer in PEERS.items() if each != key(1)}
    moved = replace(LAST, peers=without_node1, addresses=("10.20.0.10/20",), routes=frozenset(), mtu=1380)
    assert drift(observed(), moved) == []
    assert drift(observed(peers=peers_but(1), routes=frozenset(), addresses=("10.20.0.10/20",)), moved) == []


def test_changes_are_listed_by_name_and_many_by_number() -> None:
    assert describe.changes(plan.diff(None, LAST), NAMES) == (
        f"created the interface, set public-key {LAST.public_key}, set listen-port 51820, "
        "added peer node1, node2, node3 and 2 more, set mtu 1420, added address 10.20.0.9/20, fd20::9/64, "
        "set link up, added route 172.20.1.0/24, fd21:1::/64"
    )
    changed = replace(
        LAST,
        peers={**peers_but(1, 2), key(2): replace(PEERS[key(2)], keepalive=0)},
        addresses=("10.20.0.9/20",),
        routes=frozenset(),
    )
    left = {each: name for each, name in NAMES.items() if each != key(1)}
    assert describe.changes(plan.diff(observed(), changed), left) == (
        f"removed peer {key(1)} (192.0.2.1:51820), changed peer node2, removed address fd20::9/64, "
        "removed route 172.20.1.0/24, fd21:1::/64"
    )
    assert describe.changes(plan.diff(observed(), None)) == "deleted the interface"
    assert describe.changes(plan.Plan("wg0")) == ""
