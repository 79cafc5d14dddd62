# SPDX-License-Identifier: GPL-3.0-or-later
"""Child prefixes: all nodes of a zone reach the networks behind its nodes; a prefix can be released."""

from __future__ import annotations

from tests.fleet.fleet import eventually
from tests.fleet.original.manual_operator import ManualOperator

RED = {"ZONE": "zone-red", "INTERFACE": "wg0", "PORT": "51820"}
PREFIXES = ("172.20.1.0/24", "fd20:1::/64")


def routes(operator: ManualOperator, name: str) -> set[str]:
    """Return the prefixes that a node routes into its tunnel."""
    shown = operator[name].run("ip -4 route show dev wg0; ip -6 route show dev wg0").stdout
    return {line.split()[0] for line in shown.splitlines()}


def test_loopbacks_inside_child_prefixes_are_reachable_and_routes_follow_the_zone(
    operator: ManualOperator,
) -> None:
    keys = {name: operator.make_key(name) for name in ("node1", "node2")}
    first = operator.start("node1", "node 1 with child prefixes", **keys["node1"])
    operator.start("node2", "node 2 with child prefixes", **keys["node2"])
    operator.start("node3", "one more zone", **RED)
    for name, number in (("node1", 1), ("node2", 2)):
        operator.joined(name)
        operator.run(name, f"loopbacks of node {number}")
    operator.joined("node3")
    for source, targets in {
        "node1": ("172.20.3.10", "fd20:3::10"),
        "node2": ("172.20.1.10", "fd20:1::10"),
        "node3": ("172.20.1.10", "172.20.3.10"),
    }.items():
        for target in targets:
            # Without -I: the interface itself has IPv4 addresses only.
            operator.will_reach(source, target, interface="")
    assert routes(operator, "node3") >= {*PREFIXES, "172.20.3.0/24", "fd20:3::/64"}

    first.stop()
    operator.start("node1", "zone red", **keys["node1"])
    for name in ("node2", "node3"):
        eventually(lambda name=name: not routes(operator, name) & set(PREFIXES), f"{name} drops the routes")
    assert routes(operator, "node3") >= {"172.20.3.0/24", "fd20:3::/64"}


def test_prefixes_overlap_between_zones_and_not_within_one(operator: ManualOperator) -> None:
    operator.start("node1", "node 1 with child prefixes", **operator.make_key("node1"))
    operator.joined("node1")
    blue = operator.start("node2", "one child prefix", **operator.make_key("node2"), CHILD_PREFIX=PREFIXES[0])
    operator.joined("node2")
    assert blue.running
    refused = operator.start("node3", "node 1 with child prefixes", **operator.make_key("node3")).wait(30)
    assert refused.rc != 0
    assert "172.20.1.0/24" in refused.stderr
    assert "node1" in refused.stderr
