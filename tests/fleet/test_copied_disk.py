# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine whose disk is a copy of another's: the key, the agent's state and the machine-id."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.node import Node
from tests.fleet.fleet import UNIT, Fleet, eventually

DISK = "/etc/jaywalk/zone-blue.key /var/lib/jaywalk /etc/machine-id"


@pytest.fixture
def copy(fleet: Fleet) -> Iterator[None]:
    """Copy node2's key, state and machine-id to node3; restore node3's own at the end."""
    fleet["node3"].run(
        f"systemctl stop {UNIT}; tar -cf /root/own.tar {DISK}; jaywalk down; rm -rf /var/lib/jaywalk/*"
    )
    disk = fleet["node2"].run(f"tar -cf - {DISK} 2>/dev/null | base64 -w0").stdout
    fleet["node3"].run("base64 -d | tar -xf - -C /", stdin=disk)
    yield
    fleet["node3"].run(
        f"systemctl stop {UNIT}; jaywalk down; rm -rf /var/lib/jaywalk/*; "
        "tar -xf /root/own.tar -C /; rm /root/own.tar"
    )
    for name in ("node2", "node3"):
        fleet[name].run(f"systemctl restart {UNIT}")
    fleet.wait_until_complete()


def journal(node: Node) -> str:
    """Return the journals of all machine-ids on the node; journald stores one for each."""
    return node.run(f"journalctl --merge -u {UNIT} -o cat").stdout


@pytest.mark.usefixtures("copy")
def test_both_machines_and_the_supervisor_detect_a_copied_disk(fleet: Fleet) -> None:
    fleet["node3"].run(f"systemctl start {UNIT}")
    eventually(
        lambda: "from another machine, node3" in " ".join(fleet.status("node2")["reasons"]),
        "the first machine stops and reports the second",
    )
    assert fleet.has_logged("node2", "joined from another machine, node3")
    eventually(
        lambda: "was another machine's until now, node2 at " in journal(fleet["node3"]),
        "the second machine reports the owner of its key",
    )
    assert "this one is a copy" in journal(fleet["node3"])
    assert fleet.has_logged("control", "was another machine's until now, node2 at ", "jaywalk-supervisor")
