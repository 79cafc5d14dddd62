# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh lock of a fleet that the play rolls out: signed on the control node, pinned on every machine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.fleet.fleet import MEMBERS, ZONE, Fleet, eventually

# The fleet of the tests has no lock otherwise, since nodes of many tests join by hand.
LOCKED = ("-e", '{"jaywalk_lock": true}')
ENV = f"/etc/jaywalk/{ZONE}.env"
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


def listed(fleet: Fleet) -> dict[str, str]:
    """For each node of the zone why it is not taken, "" for a signed one."""
    shown = fleet.controller.run(f"jaywalk-supervisor lock list {ZONE} --json").stdout
    return {node["name"]: node["not_taken"] for node in json.loads(shown)["nodes"]}


@pytest.fixture(scope="module")
def lost(fleet: Fleet) -> Iterator[tuple[int, ...]]:
    """Locks the running fleet by a play; returns the packets that pings lost.  Another play ends the lock."""
    fleet.wait_until_complete()
    assert fleet.status("node1")["lock"] is None
    with fleet.ping("node1", "node2") as first, fleet.ping("node3", "node1") as second:
        fleet.play(*LOCKED)
        fleet.wait_until_complete()
    yield first.lost, second.lost
    fleet.play()
    fleet.wait_until_complete()


def test_a_running_fleet_gets_the_lock_without_a_lost_packet(lost: tuple[int, ...]) -> None:
    """All is signed before the first machine pins the key."""
    assert lost == (0, 0)


@pytest.mark.usefixtures("lost")
def test_every_machine_pins_the_key_and_takes_every_other(fleet: Fleet) -> None:
    assert {name: listed(fleet)[name] for name in MEMBERS} == dict.fromkeys(MEMBERS, "")
    for name in MEMBERS:
        status = fleet.status(name)
        assert status["lock"]["pinned"] == status["lock"]["keys"]
        assert status["lock"]["problem"] == ""
        assert fleet.peers_of(name) == set(MEMBERS) - {name}


@pytest.mark.usefixtures("lost")
def test_the_private_lock_key_is_on_no_machine(fleet: Fleet) -> None:
    private = fleet.secrets["jaywalk_lock_key"]
    for name in ("control", *MEMBERS):
        halves = private[:20], private[20:]
        assert not fleet[name].run(["sh", "-c", SEARCH, "search", *halves], timeout=300).stdout
    play = fleet.play(*LOCKED, "--check", "--diff", "-vvv")
    assert private not in play.output
    assert set(play.changed.values()) == {0}, play.output[-4000:]


@pytest.mark.usefixtures("lost")
def test_a_node_that_joins_by_hand_is_not_taken_and_named(fleet: Fleet) -> None:
    """It has the zone's password, and no signature."""
    node, command = fleet["node3"], "jaywalk up --zone zone-blue --lock-key '' --timeout 30"
    environment = (
        f"JAYWALK_STATE_DIR=/tmp/guest JAYWALK_INTERFACE=wg9 JAYWALK_LISTEN_PORT=51899 JAYWALK_NAME=guest "
        f"JAYWALK_PRIVATE_KEY_FILE=/tmp/guest.key JAYWALK_NETNS=guest "
        f"JAYWALK_CONTROLLER_PASSWD_FILE=/etc/jaywalk/{ZONE}.password"
    )
    node.run("ip netns add guest")
    try:
        node.run("jaywalk keygen --private-key-file /tmp/guest.key")
        node.run(f"env $(grep ^JAYWALK_CONTROLLER= {ENV}) {environment} {command}", timeout=60)
        for name in ("node1", "node2"):
            eventually(
                lambda name=name: "guest" in json.dumps(fleet.status(name)["not_taken"]),
                f"{name} says that it does not take the guest",
            )
            assert "guest" not in fleet.peers_of(name)
        assert "did not sign it" in listed(fleet)["guest"]
    finally:
        leave = "jaywalk leave --zone zone-blue"
        node.run(f"env $(grep ^JAYWALK_CONTROLLER= {ENV}) {environment} {leave}", check=False)
        node.run("ip netns delete guest; rm -rf /tmp/guest /tmp/guest.key", check=False)
