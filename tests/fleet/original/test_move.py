# SPDX-License-Identifier: GPL-3.0-or-later
"""Move of a node: the same command with the same keys on another machine replaces the old one."""

from __future__ import annotations

from tests.fleet.fleet import eventually
from tests.fleet.original.manual_operator import ManualOperator

RED = {"ZONE": "zone-red", "INTERFACE": "wg0", "PORT": "51820"}


def test_the_same_keys_on_another_machine_keep_address_prefixes_and_peers(operator: ManualOperator) -> None:
    key = operator.make_key("node1")
    public = key["NODE_WIREGUARD_PUBLIC_KEY"]
    old = operator.start("node1", "node 1 with child prefixes", **key)
    address = operator.joined("node1")
    operator.run("node1", "loopbacks of node 1")
    operator.start("node3", "one more zone", **RED)
    operator.joined("node3")
    operator.will_reach("node3", address)

    def endpoint() -> str:
        shown = operator["node3"].run("wg show wg0 endpoints").stdout
        return dict(line.split("\t") for line in shown.splitlines())[public]

    assert endpoint() == f"{operator['node1'].address}:51820"
    operator.start("node2", "node 1 with child prefixes", **key)
    assert operator.joined("node2") == address
    operator.run("node2", "loopbacks of node 1")
    operator["node1"].run("ip addr flush dev lo scope global")
    eventually(lambda: endpoint() == f"{operator['node2'].address}:51820", "node3 has the new endpoint")
    operator.will_reach("node3", address)
    operator.will_reach("node3", "172.20.1.10")

    eventually(lambda: operator.addresses("node1") == [], "the old agent takes its interface down")
    assert old.running
    assert "standing down" in old.stderr
