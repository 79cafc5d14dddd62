# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's backup and restore, by the commands of docs/controller-data.md, under a running ping."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fleet.fleet import ROOT, UNIT, ZONE, Fleet, eventually
from tests.fleet.page import Page

PAGE = Page(ROOT / "docs" / "controller-data.md")
AS_SUPERVISOR = "set -a; . /etc/jaywalk-supervisor/supervisor.env; set +a;"
DATA = "/var/lib/jaywalk-redis"


@pytest.fixture
def backup(fleet: Fleet) -> Iterator[str]:
    """A copy of the running Redis, on the controller's machine."""
    fleet.controller.run(PAGE.commands("backup: copy the running Redis"))
    yield "/root/jaywalk.rdb"
    fleet.controller.run(f"rm -rf /root/jaywalk.rdb {DATA}/appendonlydir.before")
    for name in ("node2", "node3"):
        fleet[name].run(f"systemctl start {UNIT}")
    fleet.wait_until_complete()


def zone(fleet: Fleet) -> dict[str, Any]:
    """Return the zone by the command on the supervisor's host; empty while that fails."""
    shown = fleet.controller.run(f"{AS_SUPERVISOR} jaywalk-supervisor zone show {ZONE} --json", check=False)
    return {} if shown.rc else dict(json.loads(shown.stdout))


def test_a_restored_copy_restores_leases_and_breaks_no_tunnel(fleet: Fleet, backup: str) -> None:
    """node3 left after the copy was made and is off; node2 keeps running all the time."""
    address = fleet.address("node3")
    before = zone(fleet)
    fleet["node3"].run(f"systemctl stop {UNIT}; set -a; . /etc/jaywalk/{ZONE}.env; jaywalk leave")
    eventually(lambda: zone(fleet).get("peers") == 2, "node3 left")
    with fleet.ping("node1", "node2") as count:
        fleet.controller.run(PAGE.commands("restore: start Redis on the copy"), timeout=60)
        eventually(lambda: zone(fleet).get("epoch", 0) > before["epoch"], "a supervisor opened an epoch")
        eventually(lambda: fleet.status("node1")["agent"]["trouble"] == "", "node1 follows")
    assert count.lost == 0
    assert zone(fleet)["peers"] == 3
    fleet["node3"].run(f"systemctl start {UNIT}")
    fleet.wait_until_complete()
    assert fleet.address("node3") == address


def test_a_copy_is_valid_and_readable_only_by_root(fleet: Fleet, backup: str) -> None:
    assert fleet.controller.run(f"redis-check-rdb {backup}").rc == 0
    assert fleet.controller.run(f"stat -c %a {backup}").stdout.strip() == "600"
