# SPDX-License-Identifier: GPL-3.0-or-later
"""Forwarding by the role: the hardened service can enable it for both IP versions."""

from __future__ import annotations

import json

from tests.fleet.fleet import INTERFACE, Fleet, eventually

VARIABLES = json.dumps({"jaywalk_forward": True, "jaywalk_child_prefixes": ["172.24.0.0/24", "fd24::/64"]})


def test_a_machine_forwards_both_versions_to_its_child_prefixes(fleet: Fleet) -> None:
    node = fleet["node3"]
    node.run("ip link add net1 type bridge")
    node.run("ip address add 172.24.0.1/24 dev net1 && ip address add fd24::1/64 dev net1 nodad")
    node.run("ip link set net1 up")
    settings = ("ipv4.conf.net1.forwarding", f"ipv4.conf.{INTERFACE}.forwarding", "ipv6.conf.all.forwarding")
    shown = " && ".join(f"cat /proc/sys/net/{setting.replace('.', '/')}" for setting in settings)
    assert node.run(shown).stdout.split() == ["0", "0", "0"]
    try:
        fleet.play("--limit", "node3", "-e", VARIABLES)
        eventually(lambda: node.run(shown).stdout.split() == ["1", "1", "1"], "node3 forwards")
        assert fleet.status("node3")["agent"]["trouble"] == ""
    finally:
        fleet.play("--limit", "node3")
        node.run("ip link delete net1; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding")
    assert "jaywalk" not in node.run("nft list ruleset").stdout
