# SPDX-License-Identifier: GPL-3.0-or-later
"""A running fleet of the version before moves to this version, under a ping of all pairs of its machines.

The version before knew no proofs, no users of nodes, no TLS and no mesh lock, and its agents were root.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from jaywalk.controller.address import agent_user, node_user
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.zone.policy import Policy
from lab import playbook_variables
from tests.fleet import version_before
from tests.fleet.fleet import INTERFACE, MEMBERS, ROOT, UNIT, ZONE, Fleet, eventually
from tests.fleet.labs import new_lab

PAIRS = tuple((one, other) for one in MEMBERS for other in MEMBERS if one != other)
PROGRAM = f"jaywalk-wireguard-{INTERFACE}"
OWNER = "ps -o user= -p $(systemctl show -P MainPID {})"
MAIN_PID = "systemctl show -P MainPID {}"
ENV = f"/etc/jaywalk/{ZONE}.env"
PLAIN_TEXT = "ss -Hltn sport = :6379"
# What a new zone of the roles permits its members by their own word.
CLOSED = {
    "proof": Policy.parse().proof,
    "member_prefixes": ["private"],
    "member_relay": False,
    "member_fixed_endpoint": False,
    "member_claims": False,
    "member_leases": 16,
    "records_per_address": 64,
}
# Searches files, journal and processes for the two halves of a text, which no command line holds as one while
# the processes are read.
SEARCH = """
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline >/dev/shm/processes 2>/dev/null
grep -lF -e "$1$2" /dev/shm/processes
rm /dev/shm/processes
grep -rlsF -e "$1$2" /etc /root /run /tmp /var
journalctl --no-pager -o cat | grep -qF -e "$1$2" && echo journal
exit 0
"""


@dataclass(frozen=True)
class Stage:
    """The fleet after a play: what it printed, the zone's policy, and which members have moved how far.

    ``users`` are the Redis users of all connections, ``proven`` and ``signed`` the names of members whose
    key is proven and whose record is signed, ``pinned`` those whose agent checks signatures.
    """

    output: str
    policy: dict[str, Any]
    plain_text: bool
    users: set[str]
    proven: set[str]
    signed: set[str]
    pinned: set[str]


@dataclass(frozen=True)
class Move:
    """The stages of the move, the packets lost by each pair, and the pids of userspace WireGuard before."""

    stages: dict[str, Stage]
    lost: dict[tuple[str, str], int]
    programs: dict[str, str]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet that the play of the version before rolled out; its inventory is that of this version."""
    before = version_before.check_out(tmp_path_factory.mktemp("upgrade") / "before")
    lab = new_lab()
    try:
        lab.up(["control", *MEMBERS])
        variables = playbook_variables.variables(ROOT)
        older = {**variables, "jaywalk_wheelhouse": str(before / "build" / "wheelhouse")}
        del older["jaywalk_lock_key"]
        made = Fleet(lab, lab.write_inventory(lab.directory / "inventory", variables=older))
        made.play(root=before)
        made.wait_until_complete()
        lab.write_inventory(lab.directory / "inventory", variables=variables)
        yield made
    finally:
        lab.down()


@pytest.fixture(scope="module")
def rolling(fleet: Fleet) -> str:
    """The collection's playbook as operators write it for a large fleet: one machine after the other."""
    plays = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text(encoding="utf-8"))
    for play in plays:
        if play["hosts"] == "agents":
            play["serial"] = 1
    path = fleet.inventory.parent / "rolling.yml"
    path.write_text(yaml.safe_dump(plays, sort_keys=False), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def move(fleet: Fleet, rolling: str) -> Move:
    """Moves the running fleet in the order of the docs, with one machine tried first."""
    programs = {name: fleet[name].run(MAIN_PID.format(PROGRAM)).stdout for name in MEMBERS}
    stages = {}
    with ExitStack() as stack:
        counts = {pair: stack.enter_context(fleet.ping(*pair, per_second=20)) for pair in PAIRS}
        for stage, arguments, playbook in (
            ("controller", ("--limit", "control"), "site.yml"),
            ("one machine", ("--limit", "node1"), "site.yml"),
            ("rolling", (), rolling),
            ("all at once", (), "site.yml"),
        ):
            output = fleet.play(*arguments, playbook=playbook).output
            fleet.wait_until_complete()
            stages[stage] = stage_of(fleet, output)
    return Move(stages, {pair: count.lost for pair, count in counts.items()}, programs)


@contextmanager
def operator(fleet: Fleet) -> Iterator[ZoneClient]:
    """An operator's client of the zone, on this host."""
    where = fleet.controller_address("supervisor", fleet.secrets["jaywalk_controller_password"])
    with connect(where) as client:
        yield ZoneClient(client, where, ZONE)


def listed(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """Each node of the zone with what is signed about it, by its name."""
    shown = json.loads(fleet.controller.run(f"jaywalk-supervisor lock list {ZONE} --json").stdout)
    return {node["name"]: node for node in shown["nodes"]}


def stage_of(fleet: Fleet, output: str) -> Stage:
    shown = json.loads(fleet.controller.run(f"jaywalk-supervisor zone show {ZONE} --json").stdout)
    with operator(fleet) as client:
        users = {str(each["user"]) for each in client.client.client_list()}
        proven = {lease.name for lease in client.leases() if lease.proven}
    return Stage(
        output,
        {name: value for name, value in shown["policy"].items() if name in CLOSED},
        bool(fleet.controller.run(PLAIN_TEXT).stdout),
        users,
        proven,
        {name for name, node in listed(fleet).items() if not node["not_taken"]},
        {name for name in MEMBERS if fleet.status(name).get("lock")},
    )


def user_of(fleet: Fleet, name: str) -> str:
    """The Redis user of a member's own."""
    return node_user(ZONE, fleet.status(name)["public_key"])


def test_the_whole_move_loses_no_packet_between_any_two_members(move: Move) -> None:
    assert {pair: lost for pair, lost in move.lost.items() if lost} == {}


def test_agents_of_the_version_before_work_with_the_new_supervisor(move: Move) -> None:
    stage = move.stages["controller"]
    assert (stage.proven, stage.signed, stage.pinned) == (set(), set(), set())
    assert stage.policy["proof"] == "optional"
    assert stage.plain_text
    assert agent_user(ZONE) in stage.users


def test_a_play_for_one_machine_moves_that_machine_and_closes_nothing(fleet: Fleet, move: Move) -> None:
    stage = move.stages["one machine"]
    assert (stage.proven, stage.signed, stage.pinned) == ({"node1"}, {"node1"}, set())
    assert user_of(fleet, "node1") in stage.users
    assert agent_user(ZONE) in stage.users, "the others use the zone's"
    assert stage.policy == move.stages["controller"].policy
    assert stage.plain_text
    assert "does not pin the lock key yet" in stage.output


def test_a_play_in_batches_moves_all_and_closes_the_zone_at_its_end(fleet: Fleet, move: Move) -> None:
    """Each batch reserves and signs for its machines, and takes nothing from those of the others."""
    stage = move.stages["rolling"]
    assert (stage.proven, stage.signed) == (set(MEMBERS), set(MEMBERS))
    assert stage.policy == CLOSED
    assert not stage.plain_text
    assert agent_user(ZONE) not in stage.users
    assert {user_of(fleet, name) for name in MEMBERS} <= stage.users


def test_the_play_after_it_pins_the_lock_key_on_all_and_then_changes_nothing(
    fleet: Fleet, move: Move
) -> None:
    assert move.stages["all at once"].pinned == set(MEMBERS)
    play = fleet.play("--check", "--diff", "-vvv")
    assert set(play.changed.values()) == {0}, play.output[-4000:]
    assert fleet.secrets["jaywalk_lock_key"] not in play.output


def test_agents_get_a_user_of_their_own_and_userspace_wireguard_runs_on(fleet: Fleet, move: Move) -> None:
    for name in MEMBERS:
        node = fleet[name]
        assert node.run(OWNER.format(UNIT)).stdout.strip() == "jaywalk"
        assert node.run(MAIN_PID.format(PROGRAM)).stdout == move.programs[name]
        assert "root" not in node.run("stat -c %U /var/lib/jaywalk/* /run/jaywalk/*").stdout
    if fleet.status("node1")["wireguard"] == "kernel":
        return
    node = fleet["node1"]
    node.run(f"kill -9 $({MAIN_PID.format(PROGRAM)})")
    eventually(lambda: node.run(OWNER.format(PROGRAM), check=False).stdout.strip() == "jaywalk", "its user")
    fleet.wait_until_complete()


@pytest.mark.usefixtures("move")
def test_the_private_lock_key_is_on_no_machine(fleet: Fleet) -> None:
    private = fleet.secrets["jaywalk_lock_key"]
    for name in ("control", *MEMBERS):
        halves = private[:20], private[20:]
        assert not fleet[name].run(["sh", "-c", SEARCH, "search", *halves], timeout=300).stdout


@pytest.mark.usefixtures("move")
def test_a_node_that_joins_by_hand_is_not_taken_and_named(fleet: Fleet) -> None:
    """It has the zone's password, and no signature."""
    node, command = fleet["node3"], "jaywalk up --zone zone-blue --lock-key '' --timeout 30"
    shared = f"env $(grep -E '^JAYWALK_(CONTROLLER|CONTROLLER_CA|SUPERVISOR_KEYS)=' {ENV})"
    environment = (
        f"JAYWALK_STATE_DIR=/tmp/guest JAYWALK_INTERFACE=wg9 JAYWALK_LISTEN_PORT=51899 JAYWALK_NAME=guest "
        f"JAYWALK_PRIVATE_KEY_FILE=/tmp/guest.key JAYWALK_NETNS=guest "
        f"JAYWALK_CONTROLLER_PASSWD_FILE=/etc/jaywalk/{ZONE}.password"
    )
    node.run("ip netns add guest")
    try:
        node.run("jaywalk keygen --private-key-file /tmp/guest.key")
        node.run(f"{shared} {environment} {command}", timeout=60)
        for name in ("node1", "node2"):
            eventually(
                lambda name=name: "guest" in json.dumps(fleet.status(name)["not_taken"]),
                f"{name} says that it does not take the guest",
            )
            assert "guest" not in fleet.peers_of(name)
        assert "did not sign it" in listed(fleet)["guest"]["not_taken"]
    finally:
        node.run(f"{shared} {environment} jaywalk leave --zone zone-blue", check=False)
        node.run("ip netns delete guest; rm -rf /tmp/guest /tmp/guest.key", check=False)


@pytest.mark.usefixtures("move")
def test_a_rekey_of_one_machine_leaves_reservations_and_signatures_of_the_others(
    fleet: Fleet, rolling: str
) -> None:
    fleet.wait_until_complete()
    before, address = listed(fleet), fleet.address("node2")
    with operator(fleet) as client:
        leases = {lease.name: lease for lease in client.leases() if lease.key in client.snapshot().peers}
    fleet["node2"].run(f"systemctl stop {UNIT}; jaywalk down; rm -r /var/lib/jaywalk {ENV[:-4]}.key")
    with fleet.ping("node1", "node3") as count:
        fleet.play("--limit", "node2", "-e", "jaywalk_rekey=true", playbook=rolling)
        fleet.wait_until_complete()
    assert count.lost == 0
    after = listed(fleet)
    assert after["node2"]["public_key"] != before["node2"]["public_key"]
    assert (fleet.address("node2"), after["node2"]["not_taken"]) == (address, "")
    with operator(fleet) as client:
        now = {lease.name: lease for lease in client.leases()}
    for name in ("node1", "node3"):
        assert after[name] == before[name]
        assert (now[name].key, now[name].grants) == (leases[name].key, leases[name].grants)


@pytest.mark.usefixtures("move")
def test_the_zones_password_only_enrols_and_its_change_disturbs_nobody(fleet: Fleet) -> None:
    """Members keep the old password in their files, and their connections."""
    fleet.wait_until_complete()
    password = next(zone for zone in fleet.secrets["jaywalk_zones"] if zone["name"] == ZONE)["agent_password"]
    zones = f"REDISCLI_AUTH={password} {fleet.redis_cli} --user {agent_user(ZONE)}"
    fleet.controller.run(f"jaywalk-supervisor zone set {ZONE} --proof required")
    peers = f"{zones} HGETALL '{{{ZONE}}}:peers'"
    eventually(lambda: "NOPERM" in fleet["node1"].run(peers, check=False).stdout, "it reads no peers")
    with ExitStack() as stack:
        counts = [stack.enter_context(fleet.ping(*pair, per_second=20)) for pair in PAIRS]
        with operator(fleet) as client:
            own = {user_of(fleet, name) for name in MEMBERS}
            connections = {each["id"] for each in client.client.client_list() if each["user"] in own}
            fleet.controller.run(
                "umask 077; echo another-password-of-the-zone > /root/zone.password; "
                f"jaywalk-supervisor zone set {ZONE} --agent-password-file /root/zone.password"
            )
            kept = {each["id"] for each in client.client.client_list() if each["user"] in own}
        refused = fleet["node1"].run(f"{zones} PING", check=False)
        assert "WRONGPASS" in refused.stdout + refused.stderr
        fleet["node3"].run(f"systemctl restart {UNIT}")
        fleet.wait_until_complete()
    assert len(connections) >= len(MEMBERS)
    assert connections == kept
    assert [count.lost for count in counts] == [0] * len(PAIRS)
