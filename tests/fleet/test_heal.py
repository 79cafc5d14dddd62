# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person or a program takes from a node's interface is back at once, and the journal names it."""

from __future__ import annotations

import pytest

from tests.fleet.fleet import INTERFACE, Fleet, eventually

OWN_LOOK = 50
"""Seconds within which it is back, which a look of the minute alone would not do each time."""
DAMAGES = {
    "link": (f"ip link del {INTERFACE}", f"interface {INTERFACE} was gone"),
    "program": (
        f"kill -9 $(systemctl show -P MainPID jaywalk-wireguard-{INTERFACE})",
        f"interface {INTERFACE} was gone",
    ),
    "down": (f"ip link set {INTERFACE} down", f"link {INTERFACE} was down"),
    "address": (f"ip addr flush dev {INTERFACE}", " was gone"),
    "route": ("ip route del 10.20.0.0/20", "route 10.20.0.0/20 was gone"),
    "peer": (f"wg set {INTERFACE} peer $NODE2 remove", "peer node2 was gone"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_somebody_takes_away_is_back_at_once_and_named(fleet: Fleet, damage: str) -> None:
    command, sentence = DAMAGES[damage]
    node, other = fleet["node1"], fleet.address("node2")
    if damage == "program" and fleet.status("node1")["wireguard"] == "kernel":
        pytest.skip("the kernel's WireGuard is no program")
    cursor = node.run("journalctl -n 0 --show-cursor -o cat | sed 's/^-- cursor: //'").stdout.strip()
    key = next(peer["public_key"] for peer in fleet.status("node1")["peers"] if peer["name"] == "node2")
    node.run(f"NODE2='{key}'; {command}")
    eventually(
        lambda: node.run(f"ping -n -c 1 -W 1 {other}", check=False).rc == 0, "node2 answers again", OWN_LOOK
    )
    eventually(
        lambda: sentence in node.run(["journalctl", "-o", "cat", f"--after-cursor={cursor}"]).stdout,
        "the journal names what was gone",
    )
    assert fleet.status("node1")["agent"]["trouble"] == ""
