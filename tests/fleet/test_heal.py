# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent restores a removed part of a node's interface at once, and the journal names it."""

from __future__ import annotations

import pytest

from tests.fleet.fleet import INTERFACE, UNIT, Fleet, eventually

# Less than the agent's periodic check of each minute, which alone would not always be in time.
REPAIR_SECONDS = 50
PROGRAM = f"jaywalk-wireguard-{INTERFACE}"
KILL = f"kill -9 $(systemctl show -P MainPID {PROGRAM})"
DAMAGES = {
    "link": (f"ip link del {INTERFACE}", f"interface {INTERFACE} was gone"),
    "program": (
        KILL,
        f"interface {INTERFACE} was gone",
    ),
    "down": (f"ip link set {INTERFACE} down", f"link {INTERFACE} was down"),
    "address": (f"ip addr flush dev {INTERFACE}", " was gone"),
    "route": ("ip route del 10.20.0.0/20", "route 10.20.0.0/20 was gone"),
    "peer": (f"wg set {INTERFACE} peer $NODE2 remove", "peer node2 was gone"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_removed_part_is_restored_at_once_and_named(fleet: Fleet, damage: str) -> None:
    command, sentence = DAMAGES[damage]
    node, other = fleet["node1"], fleet.address("node2")
    if damage == "program" and fleet.status("node1")["wireguard"] == "kernel":
        pytest.skip("the kernel's WireGuard has no process")
    cursor = node.run("journalctl -n 0 --show-cursor -o cat | sed 's/^-- cursor: //'").stdout.strip()
    key = next(peer["public_key"] for peer in fleet.status("node1")["peers"] if peer["name"] == "node2")
    node.run(f"NODE2='{key}'; {command}")
    eventually(
        lambda: node.run(f"ping -n -c 1 -W 1 {other}", check=False).rc == 0,
        "node2 answers again",
        REPAIR_SECONDS,
    )
    eventually(
        lambda: sentence in node.run(["journalctl", "-o", "cat", f"--after-cursor={cursor}"]).stdout,
        "the journal names what was gone",
    )
    assert fleet.status("node1")["agent"]["trouble"] == ""


def test_systemd_restarts_a_wireguard_program_killed_while_the_agent_is_stopped(
    fleet: Fleet,
) -> None:
    """Without a configuration; the agent configures it at its own start."""
    node, other = fleet["node1"], fleet.address("node2")
    if fleet.status("node1")["wireguard"] == "kernel":
        pytest.skip("the kernel's WireGuard has no process")
    node.run(f"systemctl stop {UNIT}")
    try:
        before = node.run(f"systemctl show -P MainPID {PROGRAM}").stdout
        node.run(KILL)
        eventually(
            lambda: (
                node.run(f"systemctl show -P MainPID {PROGRAM}").stdout not in (before, "0\n")
                and node.run(f"ip link show dev {INTERFACE}", check=False).rc == 0
            ),
            "systemd starts the program again",
        )
    finally:
        node.run(f"systemctl start {UNIT}", timeout=60)
    eventually(lambda: node.run(f"ping -n -c 1 -W 1 {other}", check=False).rc == 0, "node2 answers again")
