# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller on a machine with another Redis, after damage, after an upgrade, and with changed zones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fleet.fleet import MEMBERS, ZONE, Fleet

UNITS = ("jaywalk-redis", "jaywalk-supervisor")
CENTER = ("--limit", "control")
OTHER_PORT = 6390
OTHER_CLI = f"redis-cli -p {OTHER_PORT}"


def started(fleet: Fleet) -> list[str]:
    """Return the invocation ids of the controller's services."""
    return [fleet.controller.run(f"systemctl show -P InvocationID {unit}").stdout for unit in UNITS]


@pytest.fixture
def foreign_redis(fleet: Fleet) -> Iterator[str]:
    """The distribution's Redis as another administrator configured it, with its own port and one key."""
    configured = (
        f"cp -a /etc/redis/redis.conf /root/; sed -i 's/^port .*/port {OTHER_PORT}/' /etc/redis/redis.conf"
    )
    fleet.controller.run(f"{configured}; systemctl start redis-server; {OTHER_CLI} set shop open")
    yield fleet.controller.run("systemctl show -P InvocationID redis-server").stdout
    fleet.controller.run(
        "systemctl stop redis-server; cp -a /root/redis.conf /etc/redis/; rm /var/lib/redis/*.rdb"
    )


def test_a_foreign_redis_stays_unchanged(fleet: Fleet, foreign_redis: str) -> None:
    """If it has the configured port, the play reports it and changes nothing; else it stays unchanged."""
    before = started(fleet)
    refused = fleet.play(*CENTER, "-e", f"jaywalk_controller_tls_port={OTHER_PORT}", check=False)
    assert refused.rc != 0
    assert "redis-server.service) listens on 127.0.0.1:6390 of control" in refused.output
    assert "set jaywalk_controller_tls_port to a free port" in refused.output
    assert refused.changed["control"] == 0
    text = f"127.0.0.1,{fleet.controller.address}"
    other_port = fleet.play(*CENTER, "-e", f"jaywalk_controller_bind={text} jaywalk_purge=false")
    assert other_port.changed["control"] == 0, other_port.output[-4000:]
    assert started(fleet) == before
    assert fleet.controller.run("systemctl show -P InvocationID redis-server").stdout == foreign_redis
    assert fleet.controller.run(f"{OTHER_CLI} get shop").stdout.strip() == "open"


def test_the_next_run_applies_what_an_aborted_run_wrote(fleet: Fleet) -> None:
    """An aborted run left newer settings, and services that are not enabled."""
    before = started(fleet)
    settings = "/etc/jaywalk-redis/redis.conf /etc/jaywalk-supervisor/supervisor.env"
    fleet.controller.run(f"systemctl disable {' '.join(UNITS)}; touch {settings}")
    with fleet.ping("node1", "node2") as count:
        fleet.play(*CENTER)
    assert not set(started(fleet)) & set(before)
    assert fleet.controller.run(f"systemctl is-enabled {' '.join(UNITS)}").stdout.split() == ["enabled"] * 2
    assert count.lost == 0


def test_a_redis_that_cannot_read_its_file_fails_the_play_with_the_reason(fleet: Fleet) -> None:
    folder = "/var/lib/jaywalk-redis/appendonlydir"
    spoil = f"cp -a {folder} /root/; for each in {folder}/*.incr.aof; do echo nonsense > $each; done"
    fleet.controller.run(f"systemctl stop {' '.join(UNITS)}; {spoil}")
    try:
        play = fleet.play(*CENTER, "--tags", "controller", check=False)
    finally:
        restore = f"rm -r {folder}; mv /root/appendonlydir {folder}"
        fleet.controller.run(f"systemctl stop jaywalk-redis; {restore}; systemctl start {' '.join(UNITS)}")
    assert play.rc != 0
    assert "jaywalk-redis.service did not start" in play.output
    assert "Bad file format reading the append only file" in play.output
    assert "how to repair an append-only file: docs/controller-data.md" in play.output
    fleet.wait_until_complete()


def zones_of(fleet: Fleet) -> dict[str, dict[str, Any]]:
    listed = json.loads(fleet.controller.run("jaywalk-supervisor zone list --json").stdout)
    return {zone["name"]: zone for zone in listed}


def declared(fleet: Fleet, **extra: object) -> str:
    """Return the operator's zones and, with arguments, one more zone."""
    zones = list(fleet.secrets["jaywalk_zones"])
    if extra:
        zones.append({"name": "zone-more", "agent_password": "x" * 16, **extra})
    return json.dumps({"jaywalk_zones": zones})


def test_a_declared_pool_grows_and_never_shrinks_and_an_undeclared_zone_is_reported(
    fleet: Fleet,
) -> None:
    add = "jaywalk-supervisor zone add zone-more --cidr 10.77.0.0/24"
    fleet.controller.run(add)
    grown = declared(fleet, cidr="10.77.0.0/23,10.79.0.0/24", cidr6=["fd77::/64"])
    play = fleet.play("--limit", "control,node1", "-e", grown)
    assert play.changed["node1"] == 0, "the agents' play ran"
    pools = [pool["cidr"] for pool in zones_of(fleet)["zone-more"]["pools"]]
    assert pools == ["10.77.0.0/23", "10.79.0.0/24", "fd77::/64"]

    shrunk = fleet.play("-e", declared(fleet, cidr="10.77.0.0/24"), check=False)
    assert shrunk.rc != 0
    assert (
        "zone zone-more exists with 10.77.0.0/23, 10.79.0.0/24, fd77::/64 and is declared with"
        in shrunk.output
    )
    assert "Run the controller" not in shrunk.output, "nothing was changed"

    undeclared = fleet.play(*CENTER, "-e", declared(fleet))
    assert "zone-more is not in jaywalk_zones, and has 0 peers and 0 leases" in undeclared.output
    assert undeclared.changed["control"] == 0
    removed = fleet.play(*CENTER, "-e", declared(fleet), "-e", "jaywalk_undeclared=remove")
    assert removed.changed["control"] == 1
    assert sorted(zones_of(fleet)) == sorted(zone["name"] for zone in fleet.secrets["jaywalk_zones"])


# Configures the controller as the role did when it used the distribution's Redis, without TLS.
OLDER = """
set -e
systemctl stop jaywalk-supervisor jaywalk-redis
sed -i 's|rediss://\\(.*\\):6380|\\1:6379|; /STREAMER_CA/d' /etc/jaywalk-supervisor/supervisor.env
systemctl disable -q jaywalk-redis
mv /var/lib/jaywalk-redis/appendonlydir /var/lib/redis/
chown -R redis: /var/lib/redis
sed 's|/etc/jaywalk-redis/users.acl|/etc/redis/jaywalk.acl|; s/^port .*/port 6379/
     /^dir /d; /^logfile /d; /^tls/d; /^unixsocket/d' \
    /etc/jaywalk-redis/redis.conf > /etc/redis/jaywalk.conf
cp /etc/jaywalk-redis/users.acl /etc/redis/jaywalk.acl
chown root:redis /etc/redis/jaywalk.*
echo 'include /etc/redis/jaywalk.conf' >> /etc/redis/redis.conf
mkdir -p /etc/systemd/system/redis-server.service.d
printf '[Service]\\nRestartSec=1\\n' > /etc/systemd/system/redis-server.service.d/jaywalk.conf
rm -r /etc/systemd/system/jaywalk-redis.service /etc/jaywalk-redis /var/lib/jaywalk-redis \
    /etc/jaywalk-ca /etc/jaywalk-certificates
systemctl daemon-reload
systemctl enable -q --now redis-server
systemctl start jaywalk-supervisor
"""

PLAIN_TEXT = "ss -Hltn sport = :6379"


def test_an_older_installation_is_upgraded_with_its_leases(fleet: Fleet) -> None:
    """Its CA is new, too, which the agents learn from the same run; test_upgrade.py moves them to TLS."""
    before = zones_of(fleet)[ZONE]
    with fleet.ping("node1", "node2") as count:
        fleet.controller.run(OLDER, timeout=60)
        play = fleet.play()
        assert play.changed["control"] > 0
        assert fleet.controller.run(PLAIN_TEXT).stdout == ""
        fleet.wait_until_complete()
        after = zones_of(fleet)[ZONE]
        assert (after["peers"], after["leases"]) == (before["peers"], before["leases"])
        command = "systemctl is-enabled redis-server; grep -c jaywalk /etc/redis/redis.conf; "
        command += "ls -A /etc/redis /var/lib/redis"
        found = fleet.controller.run(command, check=False).stdout.split()
        assert found == ["disabled", "0", "/etc/redis:", "redis.conf", "/var/lib/redis:"]
        assert fleet.play("--check").changed == dict.fromkeys(("control", *MEMBERS), 0)
        fleet.wait_until_complete()
    assert count.lost == 0
