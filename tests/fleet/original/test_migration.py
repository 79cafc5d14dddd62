# SPDX-License-Identifier: GPL-3.0-or-later
"""Migration of a mesh of the original, node by node, with the same keys and addresses."""

from __future__ import annotations

import json

from tests.fleet.fleet import MEMBERS, eventually
from tests.fleet.original.manual_operator import ManualOperator

ADDRESSES = {name: f"10.20.0.{number}" for number, name in enumerate(MEMBERS, start=11)}
# The content of ipam-blue.json of the original's supervisor.
SAVED = [
    {
        "Cidr": "10.20.0.0/20",
        "IPs": dict.fromkeys(("10.20.0.0", "10.20.15.255", *ADDRESSES.values()), True),
    }
]


def write_old_mesh(operator: ManualOperator) -> None:
    """Create wg0 on each node like the original's wg-quick: an own /32, and a /32 per peer."""
    keys = {name: operator.make_key(name)["NODE_WIREGUARD_PUBLIC_KEY"] for name in MEMBERS}
    for name in MEMBERS:
        lines = [
            "systemd-run -q --unit=old-wg0 --service-type=forking wireguard-go wg0",
            "wg set wg0 listen-port 51820 private-key /etc/wireguard/server_private.key",
            f"ip addr add {ADDRESSES[name]}/32 dev wg0; ip link set wg0 up",
        ]
        for other in set(MEMBERS) - {name}:
            peer = f"peer {keys[other]} endpoint {operator[other].address}:51820 persistent-keepalive 25"
            lines.append(f"wg set wg0 {peer} allowed-ips {ADDRESSES[other]}/32")
            lines.append(f"ip route add {ADDRESSES[other]}/32 dev wg0")
        operator[name].run("\n".join(["set -e", *lines]))


def has_sessions(operator: ManualOperator, name: str) -> bool:
    """Return whether a node has a session with both others in the new mesh; ping replies use the old one."""
    shown = operator[name].run("wg show wg1 latest-handshakes").stdout.splitlines()
    return len(shown) == 2 and all(not line.endswith("\t0") for line in shown)


def received(operator: ManualOperator, name: str, interface: str) -> int:
    """Return the number of packets that a node's interface has received."""
    return int(operator[name].run(f"cat /sys/class/net/{interface}/statistics/rx_packets").stdout)


def test_a_mesh_of_the_original_migrates_node_by_node_without_loss(operator: ManualOperator) -> None:
    write_old_mesh(operator)
    operator.will_reach("node1", ADDRESSES["node3"], "wg0")
    operator.fleet.controller.run("cat > ipam-blue.json", stdin=json.dumps(SAVED))
    operator.run("control", "take over the saved state")
    with operator.fleet.ping_address("node1", ADDRESSES["node3"], interface="") as count:
        for name in MEMBERS:
            operator.start(name, "join beside the old mesh", OLD_ADDRESS=ADDRESSES[name])
            assert operator.joined(name, "wg1") == ADDRESSES[name]
        eventually(lambda: all(has_sessions(operator, name) for name in MEMBERS), "the new mesh is up")
        eventually(lambda: received(operator, "node3", "wg0") > 0, "the ping still uses the old mesh")
        for name in MEMBERS:
            operator.run(name, "leave the old routes")
        before = received(operator, "node3", "wg1")
        for name in MEMBERS:
            operator.run(name, "leave the old mesh")
        eventually(lambda: received(operator, "node3", "wg1") > before + 20, "the ping uses the new mesh")
    assert count.lost == 0
    assert count.sent > 100
