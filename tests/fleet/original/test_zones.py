# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones: the same pool and the same address twice, and nothing crosses; zones come and go meanwhile."""

from __future__ import annotations

import json
from typing import Any

from tests.fleet.fleet import eventually
from tests.fleet.original.hand import Hand

SAME = "10.20.0.30"
CAPTURE = "timeout 60 tcpdump -l -n -i {} {}"


def status(hand: Hand, name: str, words: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(hand[name].run(f"jaywalk status --json {words}", check=False).stdout)
    return shown


def test_two_zones_with_one_pool_and_one_address_see_nothing_of_each_other(hand: Hand) -> None:
    """node1 is in blue, node2 in red; node3 is in both, red in a network namespace."""
    hand.start("node1", "zone blue", **hand.make_key("node1"))
    hand.start("node2", "zone red", **hand.make_key("node2"))
    hand.start("node3", "join with files")
    hand.start("node3", "one more zone with the same pool")
    for name in ("node1", "node2"):
        eventually(lambda: SAME in hand.addresses(name), f"{name} has {SAME}")  # noqa: B023
    hand.will_reach("node3", SAME)
    in_red = f"ip netns exec red ping -n -q -c 20 -i 0.05 -W 2 {SAME}"
    eventually(lambda: hand["node3"].run(in_red, check=False).rc == 0, f"{SAME} answers in red")

    wire = {
        name: hand[name].start_background(CAPTURE.format("eth0", f"host {hand[other].address}"))
        for name, other in (("node1", "node2"), ("node2", "node1"))
    }
    inside = {name: hand[name].start_background(CAPTURE.format("wg0", "icmp")) for name in ("node1", "node2")}
    eventually(
        lambda: all("listening on" in each.stderr for each in (*wire.values(), *inside.values())),
        "the captures run",
    )
    hand["node3"].run(in_red)
    seen = {name: capture.stop().stdout for name, capture in inside.items()}
    assert "ICMP echo reply" in seen["node2"]
    assert seen["node1"].strip() == ""
    assert [line for each in wire.values() for line in each.stop().stdout.split()] == []

    # Nor a name: each node knows the peers of its own zone.
    names = {
        "node1": status(hand, "node1", ""),
        "node2": status(hand, "node2", "--zone zone-red"),
    }
    assert [peer["name"] for peer in names["node1"]["peers"] if peer["state"] == "connected"] == ["node3"]
    known = {name: hand[name].run("cat /var/lib/jaywalk/*.json").stdout for name in names}
    for name, other in (("node1", "node2"), ("node2", "node1")):
        assert str(names[name]["public_key"]) in known[name]
        assert str(names[other]["public_key"]) not in known[name]


def test_a_second_zone_with_an_overlapping_pool_is_refused_with_the_reason(hand: Hand) -> None:
    hand.start("node3", "join with files")
    hand.joined("node3")
    words = {"ZONE": "zone-red", "INTERFACE": "wg1", "PORT": "51821"}
    refused = hand.start("node3", "one more zone", **words).wait(30)
    assert refused.rc != 0
    for word in ("10.20.0.0/20 overlaps 10.20.", "--netns"):
        assert word in refused.stderr


def test_zones_of_ipv6_and_of_both_come_and_go_while_another_runs(hand: Hand) -> None:
    for name in ("node1", "node2"):
        hand.start(name, "join with files")
    hand.will_reach("node1", hand.joined("node2"))
    with hand.fleet.ping_address("node1", hand.joined("node2")) as count:
        hand.run("control", "zones are made")
        for name in ("node1", "node2"):
            hand.start(name, "one more zone", ZONE="zone-six", INTERFACE="wg6", PORT="51826")
            hand.start(name, "one more zone", ZONE="zone-dual", INTERFACE="wg7", PORT="51827")
        for interface, versions in (("wg6", [6]), ("wg7", [4, 6])):
            hand.joined("node1", interface)
            hand.joined("node2", interface)
            addresses = hand.addresses("node2", interface)
            assert [6 if ":" in each else 4 for each in addresses] == versions
            for address in addresses:
                hand.will_reach("node1", address, interface)
        hand.run("control", "zones are removed")
        assert {zone["Name"] for zone in json.loads(hand.get("/zones"))} == {"zone-red", "zone-blue"}
    assert count.lost == 0
    assert count.sent > 50
