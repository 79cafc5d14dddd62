# SPDX-License-Identifier: GPL-3.0-or-later
"""Zones with the same pool and address are separate; zones are added and removed while others run."""

from __future__ import annotations

import json
from typing import Any

from tests.fleet.fleet import eventually
from tests.fleet.original.manual_operator import ManualOperator

SHARED_ADDRESS = "10.20.0.30"
CAPTURE = "timeout 60 tcpdump -l -n -i {} {}"


def status(operator: ManualOperator, name: str, words: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(
        operator[name].run(f"jaywalk status --json {words}", check=False).stdout
    )
    return shown


def test_two_zones_with_the_same_pool_and_address_are_separate(operator: ManualOperator) -> None:
    """node1 is in blue, node2 in red; node3 is in both, red in a network namespace."""
    operator.start("node1", "zone blue", **operator.make_key("node1"))
    operator.start("node2", "zone red", **operator.make_key("node2"))
    operator.start("node3", "join with files")
    operator.start("node3", "one more zone with the same pool")
    for name in ("node1", "node2"):
        eventually(
            lambda name=name: SHARED_ADDRESS in operator.addresses(name), f"{name} has {SHARED_ADDRESS}"
        )
    operator.will_reach("node3", SHARED_ADDRESS)
    in_red = f"ip netns exec red ping -n -q -c 20 -i 0.05 -W 2 {SHARED_ADDRESS}"
    eventually(lambda: operator["node3"].run(in_red, check=False).rc == 0, f"{SHARED_ADDRESS} answers in red")

    wire = {
        name: operator[name].start_background(CAPTURE.format("eth0", f"host {operator[other].address}"))
        for name, other in (("node1", "node2"), ("node2", "node1"))
    }
    inside = {
        name: operator[name].start_background(CAPTURE.format("wg0", "icmp")) for name in ("node1", "node2")
    }
    eventually(
        lambda: all("listening on" in capture.stderr for capture in (*wire.values(), *inside.values())),
        "the captures run",
    )
    operator["node3"].run(in_red)
    captured = {name: capture.stop().stdout for name, capture in inside.items()}
    assert "ICMP echo reply" in captured["node2"]
    assert captured["node1"].strip() == ""
    assert [line for capture in wire.values() for line in capture.stop().stdout.split()] == []

    # Not even a name: each node has the peers of its own zone only.
    names = {
        "node1": status(operator, "node1", ""),
        "node2": status(operator, "node2", "--zone zone-red"),
    }
    assert [peer["name"] for peer in names["node1"]["peers"] if peer["state"] == "connected"] == ["node3"]
    known = {name: operator[name].run("cat /var/lib/jaywalk/*.json").stdout for name in names}
    for name, other in (("node1", "node2"), ("node2", "node1")):
        assert str(names[name]["public_key"]) in known[name]
        assert str(names[other]["public_key"]) not in known[name]


def test_a_second_zone_with_an_overlapping_pool_is_refused_with_the_reason(operator: ManualOperator) -> None:
    operator.start("node3", "join with files")
    operator.joined("node3")
    words = {"ZONE": "zone-red", "INTERFACE": "wg1", "PORT": "51821"}
    refused = operator.start("node3", "one more zone", **words).wait(30)
    assert refused.rc != 0
    for word in ("10.20.0.0/20 overlaps 10.20.", "--netns"):
        assert word in refused.stderr


def test_ipv6_and_dual_stack_zones_are_added_and_removed_while_another_runs(operator: ManualOperator) -> None:
    for name in ("node1", "node2"):
        operator.start(name, "join with files")
    operator.will_reach("node1", operator.joined("node2"))
    with operator.fleet.ping_address("node1", operator.joined("node2")) as count:
        operator.run("control", "zones are made")
        for name in ("node1", "node2"):
            operator.start(name, "one more zone", ZONE="zone-six", INTERFACE="wg6", PORT="51826")
            operator.start(name, "one more zone", ZONE="zone-dual", INTERFACE="wg7", PORT="51827")
        for interface, versions in (("wg6", [6]), ("wg7", [4, 6])):
            operator.joined("node1", interface)
            operator.joined("node2", interface)
            addresses = operator.addresses("node2", interface)
            assert [6 if ":" in address else 4 for address in addresses] == versions
            for address in addresses:
                operator.will_reach("node1", address, interface)
        operator.run("control", "zones are removed")
        assert {zone["Name"] for zone in json.loads(operator.get("/zones"))} == {"zone-red", "zone-blue"}
    assert count.lost == 0
    assert count.sent > 50
