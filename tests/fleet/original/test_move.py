# SPDX-License-Identifier: GPL-3.0-or-later
"""Move: the same command with the same keys on another machine takes the node's place there."""

from __future__ import annotations

from tests.fleet.fleet import eventually
from tests.fleet.original.hand import Hand

RED = {"ZONE": "zone-red", "INTERFACE": "wg0", "PORT": "51820"}


def test_the_same_keys_on_another_machine_take_address_prefixes_and_peers_along(hand: Hand) -> None:
    key = hand.make_key("node1")
    public = key["NODE_WIREGUARD_PUBLIC_KEY"]
    old = hand.start("node1", "node 1 with child prefixes", **key)
    address = hand.joined("node1")
    hand.run("node1", "loopbacks of node 1")
    hand.start("node3", "one more zone", **RED)
    hand.joined("node3")
    hand.will_reach("node3", address)

    def endpoint() -> str:
        shown = hand["node3"].run("wg show wg0 endpoints").stdout
        return dict(line.split("\t") for line in shown.splitlines())[public]

    assert endpoint() == f"{hand['node1'].address}:51820"
    hand.start("node2", "node 1 with child prefixes", **key)
    assert hand.joined("node2") == address
    hand.run("node2", "loopbacks of node 1")
    hand["node1"].run("ip addr flush dev lo scope global")
    eventually(lambda: endpoint() == f"{hand['node2'].address}:51820", "node3 knows the new endpoint")
    hand.will_reach("node3", address)
    hand.will_reach("node3", "172.20.1.10")

    eventually(lambda: hand.addresses("node1") == [], "the old agent takes its interface down")
    assert old.running
    assert "standing down" in old.stderr
