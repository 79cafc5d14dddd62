# SPDX-License-Identifier: GPL-3.0-or-later
"""One node sends invalid input while two others communicate: only it gets an error, of one clear sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.fleet.fleet import MEMBERS, UNIT, ZONE, Fleet

# The settings of the service for a command on node3, with another state folder and key.
AS_AGENT = (
    "set -a; . /etc/jaywalk/zone-blue.env; set +a; "
    "export JAYWALK_STATE_DIR=/root/other JAYWALK_INTERFACE=wg9 JAYWALK_PRIVATE_KEY_FILE=/root/other.key;"
)
UP = "jaywalk up --timeout 3 --controller"
AS_SUPERVISOR = "set -a; . /etc/jaywalk-supervisor/supervisor.env; set +a;"


@pytest.fixture(scope="module", autouse=True)
def _node3_is_outside_the_zone_while_two_others_communicate(fleet: Fleet) -> Iterator[None]:
    """During all tests a ping runs between node1 and node2, which loses nothing."""
    fleet["node3"].run(f"systemctl stop {UNIT}; jaywalk down")
    with fleet.ping("node1", "node2") as count:
        yield
    fleet["node3"].run(f"systemctl start {UNIT}")
    assert count.sent > 100
    assert count.lost == 0


COMMANDS = {
    "unknown zone": ("jaywalk up --zone zone-green", ["agent-zone-green", "that the zone exists"]),
    "zone that is no name": ("jaywalk up --zone 'Zone Blue!'", ["Zone Blue!", "DNS label"]),
    "malformed address": ("jaywalk up --request-ip 10.20.0.999", ["10.20.0.999", "no IP address"]),
    "foreign address": ("jaywalk up --request-ip 192.0.2.7", ["192.0.2.7", "10.20.0.0/20"]),
    "network address": ("jaywalk up --request-ip 10.20.0.0", ["10.20.0.0"]),
    "malformed prefix": ("jaywalk up --child-prefix 172.20.1.0/33", ["172.20.1.0/33", "no prefix"]),
    "prefix over the pool": ("jaywalk up --child-prefix 10.20.0.0/16", ["10.20.0.0/16", "pool"]),
    "short key": ("jaywalk up --public-key AAAA", ["--public-key", "32 bytes"]),
    "port out of range": ("jaywalk up --listen-port 70000", ["70000", "1 to 65535"]),
    "unreachable controller": ("jaywalk up --timeout 3 --controller rediss://10.255.255.1", ["10.255.255.1"]),
    "closed port": (
        "jaywalk up --timeout 3 --controller rediss://127.0.0.1:1",
        ["127.0.0.1:1", "cannot be reached"],
    ),
    "wrong password": (
        "env -u JAYWALK_CONTROLLER_PASSWD_FILE JAYWALK_CONTROLLER_PASSWD=not-the-password jaywalk up",
        ["refused user", "check the password"],
    ),
    "no tun": (
        "unshare --mount sh -c 'mount -t tmpfs none /dev/net && jaywalk up'",
        ["/dev/net/tun is missing", "modprobe tun"],
    ),
    "no tools": ("PATH=/nowhere /usr/local/bin/jaywalk up", ["wg is missing", "wireguard-tools"]),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_bad_command_ends_with_one_clear_sentence_and_leaves_nothing(fleet: Fleet, what: str) -> None:
    command, words = COMMANDS[what]
    done = fleet["node3"].run(f"{AS_AGENT} {command}", check=False, timeout=40)
    assert done.rc in (1, 2), done
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("jaywalk: ")
    for word in words:
        assert word in last
    assert "Traceback" not in done.stderr
    assert "not-the-password" not in done.stdout + done.stderr
    assert fleet["node3"].run("ip link show wg9", check=False).rc != 0


def test_a_join_to_a_full_pool_reports_the_number_of_leases(fleet: Fleet) -> None:
    """A /30 has two addresses; the third join fails with that reason, and the two leases stay."""
    fleet.controller.run(
        f"(umask 077; openssl rand -hex 16 > /root/tiny.password); {AS_SUPERVISOR} "
        "jaywalk-supervisor zone add zone-tiny --cidr 10.77.0.0/30 --agent-password-file /root/tiny.password"
    )
    password = fleet.controller.run("cat /root/tiny.password").stdout
    fleet["node3"].run("umask 077; cat > /root/tiny.password", stdin=password)
    join = (
        f"{AS_AGENT} export JAYWALK_ZONE=zone-tiny JAYWALK_CONTROLLER_PASSWD_FILE=/root/tiny.password "
        "JAYWALK_PRIVATE_KEY_FILE=/root/tiny%d.key JAYWALK_STATE_DIR=/root/tiny%d; jaywalk up"
    )
    for index in (1, 2):
        fleet["node3"].run(join % (index, index) + " && jaywalk down")
    refused = fleet["node3"].run(join % (3, 3), check=False)
    assert refused.rc == 1
    assert "10.77.0.0/30" in refused.stderr
    assert "2 of 2" in refused.stderr
    leases = json.loads(fleet.controller.run("curl -sS http://localhost:8080/ipam/leases/zone-tiny").stdout)
    assert set(leases[0]["IPs"]) == {"10.77.0.0", "10.77.0.1", "10.77.0.2", "10.77.0.3"}
    fleet.controller.run(f"{AS_SUPERVISOR} jaywalk-supervisor zone remove zone-tiny --force")


RAW = [
    "garbage",
    "{}",
    "[]",
    '{"v":1}',
    "{" * 5000,
    json.dumps({"v": 2, "op": "join", "zone": ZONE}),
    json.dumps({"v": 1, "op": "join", "zone": "zone-red", "key": "x", "nonce": "0" * 32, "seq": 1}),
    json.dumps({"v": 1, "op": "join", "zone": ZONE, "key": "x", "nonce": "0" * 32, "seq": 1}),
    json.dumps({"v": 1, "op": "release", "zone": ZONE, "key": "A" * 43 + "=", "nonce": "1" * 32, "seq": 1}),
    json.dumps(
        {
            "v": 1,
            "op": "join",
            "zone": ZONE,
            "key": "A" * 43 + "=",
            "nonce": "2" * 32,
            "seq": 1,
            "name": "a",
            "endpoint": ":51820",
        }
    ),
    json.dumps(
        {
            "v": 1,
            "op": "join",
            "zone": ZONE,
            "key": "A" * 43 + "=",
            "nonce": "3" * 32,
            "seq": 1,
            "name": "$(reboot)\n",
            "request_ip": ["", None, 7],
        }
    ),
]


def listed(fleet: Fleet) -> list[dict[str, str]]:
    """Return the API's peers without LastSeen, which a report may change at any moment."""
    peers = json.loads(fleet.controller.run("curl -sS http://localhost:8080/peers").stdout)
    return [{name: value for name, value in peer.items() if name != "LastSeen"} for peer in peers]


def test_garbage_in_the_inbox_affects_no_other_node(fleet: Fleet) -> None:
    """A node has the password of its zone and can write anything into the zone's inbox."""
    password = next(zone["agent_password"] for zone in fleet.secrets["jaywalk_zones"] if zone["name"] == ZONE)
    client = f"REDISCLI_AUTH='{password}' {fleet.redis_cli} --user agent-{ZONE}"
    before = fleet.controller.run("systemctl show -P InvocationID jaywalk-supervisor").stdout
    peers = listed(fleet)
    for raw in RAW:
        pushed = fleet["node3"].run(f"{client} -x RPUSH '{{{ZONE}}}:inbox'", stdin=raw)
        assert pushed.stdout.strip().isdigit(), pushed
    fleet["node3"].run(f"{AS_AGENT} jaywalk up --name after-garbage && jaywalk leave && jaywalk down")
    assert fleet.controller.run("systemctl show -P InvocationID jaywalk-supervisor").stdout == before
    assert listed(fleet) == peers
    assert "ok" in fleet.controller.run("curl -sSf http://localhost:8080/healthz").stdout


def test_an_agents_password_permits_only_its_own_zone(fleet: Fleet) -> None:
    password = next(zone["agent_password"] for zone in fleet.secrets["jaywalk_zones"] if zone["name"] == ZONE)
    client = f"REDISCLI_AUTH='{password}' {fleet.redis_cli} --user agent-{ZONE}"
    for denied in (
        "HGETALL '{zone-red}:peers'",
        f"HGETALL '{{{ZONE}}}:leases'",
        f"HSET '{{{ZONE}}}:peers' a b",
        f"RPUSH '{{{ZONE}}}:orders' x",
        f"XADD '{{{ZONE}}}:events' '*' a b",
        "KEYS '*'",
        "EVAL 'return 1' 0",
        "CONFIG GET '*'",
        "FLUSHALL",
    ):
        answer = fleet["node3"].run(f"{client} {denied}", check=False)
        assert "NOPERM" in answer.stdout + answer.stderr, (denied, answer)


def test_no_secret_is_in_a_log_a_process_list_or_the_api(fleet: Fleet) -> None:
    secrets = [fleet.secrets["jaywalk_controller_password"]]
    secrets += [zone["agent_password"] for zone in fleet.secrets["jaywalk_zones"]]
    secrets += [fleet[name].run(f"cat /etc/jaywalk/{ZONE}.key").stdout.strip() for name in MEMBERS]
    for name in ("control", *MEMBERS):
        output = fleet[name].run(
            "journalctl --no-pager; ps -ewwo args; systemctl show '*' -p Environment", timeout=60
        )
        for secret in secrets:
            assert secret not in output.stdout, f"a secret is readable on {name}"
    api = "".join(
        fleet.controller.run(f"curl -sS http://localhost:8080{path}").stdout
        for path in ("/peers", "/zones", f"/ipam/leases/{ZONE}", "/healthz")
    )
    assert not any(secret in api for secret in secrets)
    for name in MEMBERS:
        files = f"/etc/jaywalk/{ZONE}.* /var/lib/jaywalk/{ZONE}.json"
        modes = set(fleet[name].run(f"stat -c '%a %U %G' {files}").stdout.splitlines())
        assert modes <= {"640 root jaywalk", "600 jaywalk jaywalk"}
