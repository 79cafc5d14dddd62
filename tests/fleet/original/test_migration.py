# SPDX-License-Identifier: GPL-3.0-or-later
"""Migration: from a mesh as the original wrote it, node by node, with the same keys and addresses."""

from __future__ import annotations

import json

from tests.fleet.fleet import MEMBERS, eventually
from tests.fleet.original.hand import Hand

ADDRESSES = {name: f"10.20.0.{number}" for number, name in enumerate(MEMBERS, start=11)}
SAVED = [
    {
        "Cidr": "10.20.0.0/20",
        "IPs": dict.fromkeys(("10.20.0.0", "10.20.15.255", *ADDRESSES.values()), True),
    }
]
"""What the original's supervisor leaves in ipam-blue.json."""


def write_old_mesh(hand: Hand) -> None:
    """wg0 on each node as the original's wg-quick makes it: a /32 of its own, and a /32 a peer."""
    keys = {name: hand.make_key(name)["NODE_WIREGUARD_PUBLIC_KEY"] for name in MEMBERS}
    for name in MEMBERS:
        lines = [
            "systemd-run -q --unit=old-wg0 --service-type=forking wireguard-go wg0",
            "wg set wg0 listen-port 51820 private-key /etc/wireguard/server_private.key",
            f"ip addr add {ADDRESSES[name]}/32 dev wg0; ip link set wg0 up",
        ]
        for other in set(MEMBERS) - {name}:
            peer = f"peer {keys[other]} endpoint {hand[other].address}:51820 persistent-keepalive 25"
            lines.append(f"wg set wg0 {peer} allowed-ips {ADDRESSES[other]}/32")
            lines.append(f"ip route add {ADDRESSES[other]}/32 dev wg0")
        hand[name].run("\n".join(["set -e", *lines]))


def shaken_hands(hand: Hand, name: str) -> bool:
    """Whether a node has a session with both others in the new mesh; answers to a ping take the old one."""
    shown = hand[name].run("wg show wg1 latest-handshakes").stdout.splitlines()
    return len(shown) == 2 and all(not line.endswith("\t0") for line in shown)


def received(hand: Hand, name: str, interface: str) -> int:
    """The packets that a node's interface had so far."""
    return int(hand[name].run(f"cat /sys/class/net/{interface}/statistics/rx_packets").stdout)


def test_a_mesh_of_the_original_is_taken_over_node_by_node_without_loss(hand: Hand) -> None:
    write_old_mesh(hand)
    hand.will_reach("node1", ADDRESSES["node3"], "wg0")
    hand.fleet.controller.run("cat > ipam-blue.json", stdin=json.dumps(SAVED))
    hand.run("control", "take over the saved state")
    with hand.fleet.ping_address("node1", ADDRESSES["node3"], interface="") as count:
        for name in MEMBERS:
            hand.start(name, "join beside the old mesh", OLD_ADDRESS=ADDRESSES[name])
            assert hand.joined(name, "wg1") == ADDRESSES[name]
        eventually(lambda: all(shaken_hands(hand, name) for name in MEMBERS), "the new mesh is there")
        eventually(lambda: received(hand, "node3", "wg0") > 0, "the ping still takes the old mesh")
        for name in MEMBERS:
            hand.run(name, "leave the old routes")
        before = received(hand, "node3", "wg1")
        for name in MEMBERS:
            hand.run(name, "leave the old mesh")
        eventually(lambda: received(hand, "node3", "wg1") > before + 20, "the ping takes the new mesh")
    assert count.lost == 0
    assert count.sent > 100
