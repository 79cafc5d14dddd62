# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes of the version before, whose agent was root, move to the agent's own user; no tunnel is cut."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from tests.fleet.fleet import INTERFACE, MEMBERS, UNIT, Fleet, eventually

UNIT_BEFORE = Path(__file__).parent / "before" / "jaywalk-agent@.service"
PROGRAM = f"jaywalk-wireguard-{INTERFACE}"
# As the role of the version before leaves a node: everything is root's, and there is no other user.
BEFORE = f"""
systemctl stop {UNIT} jaywalk-userspace.socket {PROGRAM} 'jaywalk-adopted-*'
ip link delete {INTERFACE}
rm -rf /etc/systemd/system/jaywalk-userspace* /etc/systemd/system/jaywalk-wireguard-.service.d
rm -rf /run/wireguard /run/jaywalk-adopted
cat > /etc/systemd/system/jaywalk-agent@.service
chown -R root:root /etc/jaywalk /var/lib/jaywalk /run/jaywalk
chmod 700 /etc/jaywalk
chmod 600 /etc/jaywalk/*
userdel jaywalk
systemctl daemon-reload
systemctl start {UNIT}
"""
OWNER = "ps -o user= -p $(systemctl show -P MainPID {})"
MAIN_PID = "systemctl show -P MainPID {}"


def test_nodes_of_the_version_before_get_the_user_and_lose_no_packet(fleet: Fleet) -> None:
    in_userspace = fleet.status("node1")["wireguard"] != "kernel"
    for name in MEMBERS:
        fleet[name].run(BEFORE, stdin=UNIT_BEFORE.read_text(), timeout=120)
        assert fleet[name].run(OWNER.format(UNIT)).stdout.strip() == "root"
    fleet.wait_until_complete()
    programs = {name: fleet[name].run(MAIN_PID.format(PROGRAM)).stdout for name in MEMBERS}
    with ExitStack() as stack:
        pairs = [(one, other) for one in MEMBERS for other in MEMBERS if one != other]
        counts = [stack.enter_context(fleet.ping(*pair, per_second=20)) for pair in pairs]
        fleet.play("--tags", "agent")
    assert [(pair, count.lost) for pair, count in zip(pairs, counts, strict=True) if count.lost] == []
    for name in MEMBERS:
        node = fleet[name]
        assert node.run(OWNER.format(UNIT)).stdout.strip() == "jaywalk"
        assert node.run(MAIN_PID.format(PROGRAM)).stdout == programs[name], "WireGuard runs on"
        assert "root" not in node.run("stat -c %U /var/lib/jaywalk/* /run/jaywalk/*").stdout
    assert fleet.play("--tags", "agent").changed["node1"] == 0
    if in_userspace:
        node = fleet["node1"]
        node.run(f"kill -9 $({MAIN_PID.format(PROGRAM)})")
        eventually(
            lambda: node.run(OWNER.format(PROGRAM), check=False).stdout.strip() == "jaywalk", "its user"
        )
    fleet.wait_until_complete()
