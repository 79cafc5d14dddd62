# SPDX-License-Identifier: GPL-3.0-or-later
"""Child prefixes: networks behind nodes, reached from all of a zone, and given back again."""

from __future__ import annotations

from tests.fleet.fleet import eventually
from tests.fleet.original.hand import Hand

RED = {"ZONE": "zone-red", "INTERFACE": "wg0", "PORT": "51820"}
PREFIXES = ("172.20.1.0/24", "fd20:1::/64")


def routes(hand: Hand, name: str) -> set[str]:
    """The prefixes that a node routes into its tunnel."""
    shown = hand[name].run("ip -4 route show dev wg0; ip -6 route show dev wg0").stdout
    return {line.split()[0] for line in shown.splitlines()}


def test_loopbacks_inside_child_prefixes_are_reached_and_routes_come_and_go(hand: Hand) -> None:
    keys = {name: hand.make_key(name) for name in ("node1", "node2")}
    first = hand.start("node1", "node 1 with child prefixes", **keys["node1"])
    hand.start("node2", "node 2 with child prefixes", **keys["node2"])
    hand.start("node3", "one more zone", **RED)
    for name, number in (("node1", 1), ("node2", 2)):
        hand.joined(name)
        hand.run(name, f"loopbacks of node {number}")
    hand.joined("node3")
    for source, targets in {
        "node1": ("172.20.3.10", "fd20:3::10"),
        "node2": ("172.20.1.10", "fd20:1::10"),
        "node3": ("172.20.1.10", "172.20.3.10"),
    }.items():
        for target in targets:
            # Not by the interface: its own addresses are IPv4 alone.
            hand.will_reach(source, target, interface="")
    assert routes(hand, "node3") >= {*PREFIXES, "172.20.3.0/24", "fd20:3::/64"}

    first.stop()
    hand.start("node1", "zone red", **keys["node1"])
    for name in ("node2", "node3"):
        eventually(lambda: not routes(hand, name) & set(PREFIXES), f"{name} drops the routes")  # noqa: B023
    assert routes(hand, "node3") >= {"172.20.3.0/24", "fd20:3::/64"}


def test_prefixes_overlap_between_zones_and_not_within_one(hand: Hand) -> None:
    hand.start("node1", "node 1 with child prefixes", **hand.make_key("node1"))
    hand.joined("node1")
    blue = hand.start("node2", "one child prefix", **hand.make_key("node2"), CHILD_PREFIX=PREFIXES[0])
    hand.joined("node2")
    assert blue.running
    refused = hand.start("node3", "node 1 with child prefixes", **hand.make_key("node3")).wait(30)
    assert refused.rc != 0
    assert "172.20.1.0/24" in refused.stderr
    assert "node1" in refused.stderr
