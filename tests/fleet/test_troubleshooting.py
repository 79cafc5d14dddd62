# SPDX-License-Identifier: GPL-3.0-or-later
"""Each entry of docs/troubleshooting.md on machines with that fault: commands, their output, and cure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.zone.requests import Request
from tests.fleet.fleet import INTERFACE, ROOT, UNIT, ZONE, Fleet, eventually
from tests.fleet.page import Page
from tests.netns import kernel_has_wireguard

PAGE = Page(ROOT / "docs" / "troubleshooting.md")
REDIS = "jaywalk-redis"
ENV = f"/etc/jaywalk/{ZONE}.env"
RESTART = f"systemctl restart {UNIT}"
STATE = "/var/lib/jaywalk"
# The settings of a member's service, with another state, key and interface.
AS_OUTSIDER = (
    f"set -a; . {ENV}; set +a; export JAYWALK_STATE_DIR=/root/other JAYWALK_INTERFACE=wg9 "
    "JAYWALK_LISTEN_PORT=51829 JAYWALK_PRIVATE_KEY_FILE=/root/other.key; "
)
LEAVE = f"set -a; . {ENV}; set +a; jaywalk leave"
AS_SUPERVISOR = "set -a; . /etc/jaywalk-supervisor/supervisor.env; set +a;"
OUTSIDER_LEAVES = "jaywalk leave; jaywalk down; rm -rf /root/other*"
NFT = "nft add table inet fw && nft add chain inet fw {name} '{{ type filter hook {name} priority 0; }}' && "
FUTURE = """mkdir -p /root/future; cat > /root/future/sitecustomize.py <<'END'
import time
clock, exact = time.time, time.time_ns
time.time = lambda: clock() + 2 * 86400
time.time_ns = lambda: exact() + 2 * 86400 * 10**9
END
export PYTHONPATH=/root/future; """
WITHOUT_CRYPTOGRAPHY = """mkdir -p /root/other-imports
echo 'raise ImportError' > /root/other-imports/cryptography.py; export PYTHONPATH=/root/other-imports; """
# Rewrites the append-only file: its base has all data of Redis, and its log is empty.
NEW_LOG = r"""
export REDISCLI_AUTH=$(cat /etc/jaywalk-supervisor/controller.password)
cli="redis-cli -s /run/jaywalk-redis/redis.sock --user supervisor"
$cli bgrewriteaof
idle='^aof_rewrite_\(scheduled\|in_progress\):0'
until [ "$($cli info persistence | grep -c "$idle")" = 2 ]; do sleep 0.1; done
"""
DAMAGE = (
    f"systemctl stop {REDIS}; file=$(ls /var/lib/{REDIS}/appendonlydir/*.incr.aof | tail -n 1); "
    'at=$(($(stat -c %s "$file") * 3 / 4)); yes garbage | head -c 2000 | '
    'dd of="$file" oflag=seek_bytes seek=$at conv=notrunc status=none; '
    f"systemctl start {REDIS}"
)
AS_REDIS = (
    "export REDISCLI_AUTH=$(cat /etc/jaywalk-supervisor/controller.password); "
    "cli='redis-cli -s /run/jaywalk-redis/redis.sock --user supervisor --raw'; "
)
# Makes the peer record of node2 unreadable.
SPOIL = (
    f"key=$($cli hgetall '{{{ZONE}}}:peers' | grep -B1 '\"n\":\"node2\"' | head -n 1); "
    f"$cli hset '{{{ZONE}}}:peers' \"$key\" '{{'"
)
SUPERVISOR_CLOCK = "/run/systemd/system/jaywalk-supervisor.service.d/clock.conf"
# Sets the supervisor's clock two days ahead, from its next start.
AHEAD = (
    FUTURE.replace("/root/future", "/opt/future")
    + f"mkdir -p $(dirname {SUPERVISOR_CLOCK}); "
    + f"printf '[Service]\nEnvironment=PYTHONPATH=/opt/future\n' > {SUPERVISOR_CLOCK}; "
)
RELOAD = "systemctl daemon-reload; systemctl restart jaywalk-supervisor"
SMALL_PASSWORD = "small-zone-of-the-tests-0123"
IN_SMALL_ZONE = (
    AS_OUTSIDER + f"(umask 077; echo {SMALL_PASSWORD} > /root/other.password); "
    "export JAYWALK_ZONE=zone-small JAYWALK_CONTROLLER_PASSWD_FILE=/root/other.password; "
)


@dataclass(frozen=True)
class Case:
    """The commands of a fault and of its repair by machine; the repair runs after the page's cure, if any."""

    faults: Mapping[str, str] = field(default_factory=dict)
    repairs: Mapping[str, str] = field(default_factory=dict)
    typed_on: str = "node1"
    # Commands before the page's commands in the same shell.
    before: str = ""
    # The command with the page's commands as an argument.
    around: str = "{}"
    cured_on: str = ""
    # The repair runs before the page's cure.
    repaired_first: bool = False


CASES = {
    "a peer does not answer": Case(
        {"node2": f"systemctl stop {UNIT}; ip link set {INTERFACE} down"}, cured_on="node2"
    ),
    "no peer answers": Case(
        {"node1": NFT.format(name="output") + "nft add rule inet fw output udp sport 51820 drop"},
        {"node1": "nft delete table inet fw"},
    ),
    "the controller does not answer": Case({"control": f"systemctl stop {REDIS}"}, cured_on="control"),
    "large packets vanish": Case(
        {
            "node2": NFT.format(name="input")
            + "nft add rule inet fw input udp dport 51820 meta length gt 1328 drop"
        },
        {"node2": "nft delete table inet fw"},
    ),
    "something of the interface was gone": Case({"node1": f"ip link delete {INTERFACE}"}),
    "the agent starts again and again": Case(
        {"node1": f"cp -a {ENV} /root/kept; echo JAYWALK_LISTEN_PORT=70000 >> {ENV}; {RESTART}"},
        {"node1": f"mv /root/kept {ENV}"},
        cured_on="node1",
        repaired_first=True,
    ),
    "the port is in use": Case(
        {
            "node1": f"systemctl stop {UNIT}; jaywalk down; ip link add wg-other type wireguard || "
            "wireguard-go wg-other; wg set wg-other listen-port 51820; ip link set wg-other up"
        },
        {"node1": f"ip link delete wg-other; systemctl start {UNIT}"},
    ),
    "the disk is full": Case(
        {
            "node1": f"mount -t tmpfs -o size=16k none {STATE}; cat /dev/zero > {STATE}/full; true",
            "node3": f"systemctl stop {UNIT}; {LEAVE}",
        },
        {"node1": f"umount {STATE}", "node3": f"systemctl start {UNIT}"},
    ),
    "the command does not start": Case(
        {"node3": "mv /opt/jaywalk/bin/python /opt/jaywalk/bin/python.gone"},
        {"node3": "mv /opt/jaywalk/bin/python.gone /opt/jaywalk/bin/python"},
        typed_on="node3",
    ),
    "redis does not start": Case({"control": DAMAGE}, typed_on="control", cured_on="control"),
    "redis has no memory left": Case(
        {
            "control": AS_REDIS + "$cli config get maxmemory | tail -n 1 > /root/maxmemory; "
            r"used=$($cli info memory | sed -n 's/^used_memory:\([0-9]*\).*/\1/p'); "
            "$cli config set maxmemory $((used * 9 / 10))"
        },
        {"control": AS_REDIS + "$cli config set maxmemory $(cat /root/maxmemory); rm /root/maxmemory"},
        typed_on="control",
        cured_on="control",
    ),
    "a record cannot be read": Case({"control": AS_REDIS + SPOIL}, typed_on="control", cured_on="node2"),
    "the supervisor's clock is wrong": Case(
        {"control": AHEAD + RELOAD},
        {"control": f"rm -r {SUPERVISOR_CLOCK} /opt/future; {RELOAD}"},
        typed_on="control",
    ),
}
# Entries about a machine that is in no zone.
WRONG_PASSWORD = "unset JAYWALK_CONTROLLER_PASSWD_FILE; export JAYWALK_CONTROLLER_PASSWD=not-the-password; "
OUTSIDERS = {
    "the password is refused": Case(typed_on="node3", before=AS_OUTSIDER + WRONG_PASSWORD),
    "the zone is not known": Case(typed_on="node3", before=AS_OUTSIDER),
    "the zone requires a proof": Case(typed_on="node3", before=AS_OUTSIDER + WITHOUT_CRYPTOGRAPHY),
    "the clock is wrong": Case(typed_on="node3", before=AS_OUTSIDER + FUTURE),
    "a prefix overlaps": Case(typed_on="node3", before=AS_OUTSIDER),
    "there is no tun device": Case(
        typed_on="node3",
        before=AS_OUTSIDER,
        around="unshare --mount sh -c 'mount -t tmpfs none /dev/net && {}'",
    ),
}
OTHERS = (
    "a requested address is taken",
    "ipv6 is missing",
    "two machines have one key",
    "a node was removed",
)


@pytest.fixture(scope="module", autouse=True)
def _complete_again(fleet: Fleet) -> Iterator[None]:
    """Rewrite the log first, so that damage to it affects only nodes of this file's tests."""
    fleet.controller.run(NEW_LOG)
    yield
    fleet.wait_until_complete()


@pytest.fixture
def values(fleet: Fleet) -> dict[str, str]:
    """Return the values of the page's placeholders."""
    return {"CONTROLLER_ADDRESS": fleet.controller.address}


def shows(fleet: Fleet, title: str, values: Mapping[str, str], case: Case) -> None:
    """Run an entry's commands until their output is as on the page."""
    commands = case.before + case.around.format(PAGE.commands(title, **values).strip())
    last = ""

    def has_output() -> bool:
        nonlocal last
        done = fleet[case.typed_on].run(commands, check=False, timeout=60)
        last = done.stdout + done.stderr
        return not PAGE.missing(title, last, **values)

    try:
        eventually(has_output, f"{title}: the output is as on the page")
    finally:
        print(last)  # pytest shows it if the test fails


def cure(fleet: Fleet, title: str, values: Mapping[str, str], where: str) -> None:
    fleet[where].run(PAGE.commands(f"cure: {title}", **values), timeout=60)


def test_each_entry_of_the_page_has_a_case() -> None:
    entries = {title for title in PAGE.titles if not title.startswith("cure: ")}
    assert entries == {*CASES, *OUTSIDERS, *OTHERS}


@pytest.mark.parametrize("title", CASES)
def test_an_entry_shows_the_fault_and_its_cure_works(
    fleet: Fleet, values: dict[str, str], title: str
) -> None:
    case = CASES[title]
    for name, command in case.faults.items():
        fleet[name].run(command, check=False)
    try:
        shows(fleet, title, values, case)
    finally:
        steps: list[Callable[[], object]] = [
            lambda name=name, command=command: fleet[name].run(command, timeout=60)
            for name, command in case.repairs.items()
        ]
        if case.cured_on:
            steps.insert(len(steps) * case.repaired_first, lambda: cure(fleet, title, values, case.cured_on))
        for step in steps:
            step()
    if case.faults:
        fleet.wait_until_in_order("node1")


def test_two_machines_with_one_key(fleet: Fleet, values: dict[str, str]) -> None:
    title = "two machines have one key"
    key = fleet["node1"].run(f"cat /etc/jaywalk/{ZONE}.key").stdout
    fleet["node3"].run("umask 077; cat > /root/other.key", stdin=key)
    fleet["node3"].run(f"systemctl stop {UNIT}; jaywalk down; {AS_OUTSIDER} jaywalk up; jaywalk down")
    try:
        shows(fleet, title, values, Case())
    finally:
        cure(fleet, title, values, "node1")
        fleet["node3"].run(f"rm -rf /root/other*; systemctl start {UNIT}")
    fleet.wait_until_in_order("node1")


def test_a_node_that_was_removed(fleet: Fleet, values: dict[str, str]) -> None:
    title = "a node was removed"
    password = fleet.secrets["jaywalk_controller_password"]
    where = fleet.controller_address("supervisor", password)
    zone = ZoneClient(connect(where), where, ZONE)
    key = fleet["node1"].run(f"wg show {INTERFACE} public-key").stdout.strip()
    zone.ask(Request.validated("release", ZONE, key), 60, zone.keys.operator_inbox).lease_or_raise()
    zone.client.close()
    try:
        shows(fleet, title, values, Case())
    finally:
        cure(fleet, title, values, "node1")
    fleet.wait_until_in_order("node1")


@pytest.fixture(scope="module")
def outsider(fleet: Fleet) -> Iterator[None]:
    """Remove node3 from the zone until the last test of this file."""
    fleet["node3"].run(f"systemctl stop {UNIT}; jaywalk down; rm -rf /root/other*")
    yield
    fleet["node3"].run(f"{AS_OUTSIDER} {OUTSIDER_LEAVES}", check=False)
    fleet["node3"].run(f"systemctl start {UNIT}")


@pytest.mark.usefixtures("outsider")
@pytest.mark.parametrize("title", OUTSIDERS)
def test_an_entry_shows_why_a_machine_cannot_join(fleet: Fleet, values: dict[str, str], title: str) -> None:
    if title == "there is no tun device" and kernel_has_wireguard():
        pytest.skip("this kernel has WireGuard")
    shows(fleet, title, values, OUTSIDERS[title])


@pytest.fixture
def small_zone(fleet: Fleet, outsider: None) -> Iterator[str]:
    """Create a zone without takeovers; return the commands that a node of it runs first."""
    add = "add zone-small --cidr 10.66.0.0/24 --cidr6 fd66::/64 --takeover never"
    make = f"jaywalk-supervisor zone {add} --agent-password-file /root/small.password"
    fleet.controller.run(f"{AS_SUPERVISOR} umask 077; echo {SMALL_PASSWORD} > /root/small.password; {make}")
    yield IN_SMALL_ZONE
    fleet["node3"].run(f"{IN_SMALL_ZONE} {OUTSIDER_LEAVES}", check=False)
    fleet.controller.run(f"{AS_SUPERVISOR} jaywalk-supervisor zone remove zone-small --force")


def test_a_requested_address_that_is_taken(fleet: Fleet, values: dict[str, str], small_zone: str) -> None:
    first = small_zone.replace("/root/other.key", "/root/first.key")
    join = "jaywalk up --request-ip 10.66.0.1; jaywalk down; rm -rf /root/other /root/first*"
    fleet["node3"].run(f"{first} {join}")
    shows(fleet, "a requested address is taken", values, Case(typed_on="node3", before=small_zone))


def test_ipv6_that_the_kernel_refuses(fleet: Fleet, values: dict[str, str], small_zone: str) -> None:
    off = "net.ipv6.conf.default.disable_ipv6"
    fleet["node3"].run(f"sysctl -qw {off}=1")
    try:
        shows(fleet, "ipv6 is missing", values, Case(typed_on="node3", before=small_zone))
    finally:
        fleet["node3"].run(f"sysctl -qw {off}=0")
