# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's side of the fleet tests: plays, the status of nodes, and pings in the background."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.tls import TlsFiles
from lab import playbook_variables
from lab.deadline import Deadline
from lab.fleet import Lab
from lab.node import Node
from tests import processes
from tests.fleet.labs import lab_of_this_run
from tests.fleet.process_sampler import ProcessSampler
from tests.waiting import becomes
from tests.waiting import eventually as eventually

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = ("node1", "node2", "node3")
ZONE = "zone-blue"
UNIT = f"jaywalk-agent@{ZONE}"
INTERFACE = "wg0"
# The port of the role's Redis.
TLS_PORT = 6380
PLAY_SECONDS = 600
# The longest recovery of a member after an outage or a refusal of Redis or a supervisor. An agent reconnects
# every 30 s, once more after as long if Redis has no users of the supervisor's yet, and repeats refused
# changes every minute.
RECOVERY_SECONDS = 90.0
TRACES = """
ip -brief link | awk '{ print "interface", $1 }'
for family in -4 -6; do
    ip $family route show table all | sed 's/^/route /'
    ip $family rule | sed 's/^/rule /'
done
nft list ruleset | sed 's/^/nft /'
iptables-save 2>/dev/null | grep '^[*-]' | sed 's/^/iptables /'
systemctl list-units --all --type=service --plain --no-legend '*jaywalk*' | awk '{ print "unit", $1 }'
getent passwd | grep jaywalk | sed 's/^/user /'
find / /run -xdev -name '*jaywalk*' | sed 's/^/file /'
"""

_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
_SENT = re.compile(r"^(\d+) packets transmitted", re.MULTILINE)
_ANSWER = re.compile(r"icmp_seq=(\d+) ttl")


@dataclass(frozen=True)
class Play:
    """A finished run of ansible-playbook: its output, and per host (changed, unreachable + failed)."""

    output: str
    rc: int

    @property
    def recap(self) -> dict[str, tuple[int, int]]:
        return {
            host: (int(changed), int(unreachable) + int(failed))
            for host, _, changed, unreachable, failed in _RECAP.findall(self.output)
        }

    @property
    def changed(self) -> dict[str, int]:
        return {host: changed for host, (changed, _) in self.recap.items()}


@dataclass
class PingCount:
    """The packets that a ping lost; complete at the end of its block.

    in_flight: how many of the last packets may have had no time for a reply.
    last_counted: the last packet whose reply had enough time.
    """

    per_second: int
    in_flight: int = 1
    sent: int = 0
    missing: tuple[int, ...] = ()
    last_counted: int = 0

    def read(self, output: str, goal: int) -> None:
        """Parse ping's output; a reply beyond `goal` shows that all earlier packets had enough time."""
        match = _SENT.search(output)
        assert match, f"ping printed no summary: {output[-500:]}"
        self.sent = int(match.group(1))
        answered = _answered(output)
        self.missing = tuple(sorted(set(range(1, self.sent + 1)) - answered))
        last = max(answered, default=0)
        self.last_counted = last if last >= goal else self.sent - self.in_flight

    @property
    def _unanswered(self) -> list[int]:
        return [number for number in self.missing if number <= self.last_counted]

    @property
    def lost(self) -> int:
        """The number of packets without a reply, except for those in flight."""
        return len(self._unanswered)

    @property
    def recovered(self) -> bool:
        """Whether replies came at the end, whatever was lost before."""
        end = range(max(1, self.sent - 3 * self.in_flight), self.sent + 1)
        return not set(end) <= set(self.missing)

    @property
    def gap(self) -> float:
        """The longest time without a reply, in seconds."""
        longest = run = 0
        for before, number in zip((0, *self._unanswered), self._unanswered, strict=False):
            run = run + 1 if number == before + 1 else 1
            longest = max(longest, run)
        return longest / self.per_second


class Fleet:
    """The lab's machines and the operator's commands."""

    # The longest round trip of a working path.
    round_trip_seconds = 0.5
    # The interface of pings to peers; empty: by the routes.
    ping_interface = INTERFACE

    def __init__(self, lab: Lab, inventory: Path) -> None:
        self.lab = lab
        self.inventory = inventory
        # What the roll-out printed, and the arguments and environments of all processes meanwhile.
        self.rollout_output = ""
        self.rollout_processes: frozenset[bytes] = frozenset()

    def __getitem__(self, name: str) -> Node:
        return self.lab.node(name)

    @property
    def controller(self) -> Node:
        return self["control"]

    @property
    def redis_cli(self) -> str:
        """The command of a node that connects to the controller."""
        tls = "--tls --cacert /etc/jaywalk/controller-ca.pem"
        return f"redis-cli {tls} -h {self.controller.address} -p {TLS_PORT}"

    def controller_address(self, user: str, password: str) -> ControllerAddress:
        """The controller's address for this host."""
        ca = self.inventory.parent / "controller-ca.pem"
        ca.write_text(self.controller.run("cat /etc/jaywalk-ca/ca.pem").stdout, encoding="ascii")
        text = f"rediss://{self.controller.address}:{TLS_PORT}"
        return ControllerAddress.parse(text, user, password, TlsFiles(str(ca)))

    @property
    def secrets(self) -> dict[str, Any]:
        """The operator's group_vars."""
        loaded: dict[str, Any] = yaml.safe_load(
            (self.inventory.parent / "group_vars" / "all.yml").read_text(encoding="utf-8")
        )
        return loaded

    def play(
        self, *arguments: str, playbook: str = "site.yml", check: bool = True, root: Path = ROOT
    ) -> Play:
        """Run a playbook of the collection in ``root`` as an operator does; fail if a host fails."""
        command = [
            "ansible-playbook",
            "-i",
            str(self.inventory),
            str(Path("playbooks", playbook)),
            *arguments,
        ]
        environment = dict(os.environ, ANSIBLE_NOCOLOR="1", ANSIBLE_FORCE_COLOR="0")
        done = processes.run(command, root, environment, PLAY_SECONDS)
        play = Play(done.stdout, done.returncode)
        if check and (done.returncode or any(bad for _, bad in play.recap.values())):
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-8000:]}")
        return play

    def status(self, name: str) -> dict[str, Any]:
        """The node's own `jaywalk status`."""
        loaded: dict[str, Any] = json.loads(self[name].run("jaywalk status --json", check=False).stdout)
        return loaded

    def address(self, name: str) -> str:
        """The node's address in the mesh."""
        return str(self.status(name)["addresses"][0])

    def peers_of(self, name: str) -> set[str]:
        """The names of the peers on a node's interface."""
        return _present_peers(self.status(name))

    def faults(self) -> list[str]:
        """Return the reasons why the mesh is incomplete, a sentence each; empty if it is complete.

        A complete mesh has each member at the controller's position, with exactly the other members on its
        interface. The interface alone proves nothing: its peers may be from before the controller lost data.
        """
        shown = self.controller.run(f"jaywalk-supervisor zone show {ZONE} --json", check=False)
        if shown.rc:
            return [f"control cannot show the zone: {(shown.stdout + shown.stderr).strip()}"]
        zone = json.loads(shown.stdout)
        position = f"{zone['epoch']}-{zone['rev']}"
        return [fault for name in MEMBERS for fault in _faults(name, self.status(name), position)]

    def wait_until_complete(self) -> None:
        """Wait until the mesh is complete; fail with its faults after the longest promised recovery."""
        becomes([], self.faults, RECOVERY_SECONDS)

    def wait_until_in_order(self, name: str) -> None:
        """Wait until a member's own status is in order; fail with its reasons."""
        becomes([], lambda: self.status(name)["reasons"], RECOVERY_SECONDS)

    def has_logged(self, name: str, text: str, unit: str = UNIT) -> bool:
        """Return whether a unit has logged the text since its last start."""
        invocation = f"$(systemctl show -P InvocationID {unit})"
        journal = self[name].run(f"journalctl _SYSTEMD_INVOCATION_ID={invocation} -o cat")
        return text in journal.stdout

    def traces(self, name: str) -> set[str]:
        """Return all objects of a machine that could be ours: interfaces, routes, units, users, files."""
        return set(self[name].run(TRACES, timeout=60).stdout.splitlines())

    @contextmanager
    def ping(self, source: str, target: str, per_second: int = 50) -> Iterator[PingCount]:
        """Ping a node of the mesh through the tunnel while the block runs."""
        with self.ping_address(source, self.address(target), per_second, self.ping_interface) as count:
            yield count

    @contextmanager
    def ping_address(
        self, source: str, address: str, per_second: int = 50, interface: str = INTERFACE
    ) -> Iterator[PingCount]:
        """Ping an address while the block runs; without an interface, by the routes."""
        option = f"-I {interface}" if interface else ""
        count = PingCount(per_second, math.ceil(per_second * self.round_trip_seconds))
        running = self[source].start_background(f"ping -n -i {1 / per_second} {option} {address}")
        eventually(lambda: "PING" in running.stdout or not running.running, "the ping begins")
        try:
            yield count
        finally:
            # Count every packet of the block: wait for the reply to a later one.
            goal = max(_answered(running.stdout), default=0) + count.in_flight
            deadline = Deadline(2 * self.round_trip_seconds)
            while max(_answered(running.stdout), default=0) < goal and not deadline.passed:
                time.sleep(0.05)
            count.read(running.stop().stdout, goal)


@contextmanager
def rolled_out_fleet() -> Iterator[Fleet]:
    """Boot a controller and three members, and roll the mesh out; remove them at the end of the block.

    JAYWALK_FLEET_TEST_KEEP keeps them running.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    directory = Path(os.environ.get("JAYWALK_FLEET_TEST_DIR", "/var/tmp/jaywalk-fleet-test") + worker)
    prefix = os.environ.get("JAYWALK_FLEET_TEST_PREFIX", "jt")
    lab = lab_of_this_run(directory, prefix + worker)
    keep = "JAYWALK_FLEET_TEST_KEEP" in os.environ
    if not keep:
        lab.down()
    try:
        lab.up(["control", *MEMBERS])
        # Nodes of many tests join by hand, and no machine of a locked zone would take them.
        variables = {**playbook_variables.variables(ROOT), "jaywalk_lock": False}
        fleet = Fleet(lab, lab.write_inventory(directory / "inventory", variables=variables))
        with ProcessSampler() as sampler:
            fleet.rollout_output = fleet.play("-vvvv", "--diff").output
        fleet.rollout_processes = frozenset(sampler.seen)
        yield fleet
    finally:
        lab.close() if keep else lab.down()


def _answered(output: str) -> set[int]:
    """Return the numbers of the pings with a reply."""
    return {int(number) for number in _ANSWER.findall(output)}


def _present_peers(status: dict[str, Any]) -> set[str]:
    """Return the names of the peers on a status's interface."""
    return {peer["name"] for peer in status["peers"] if peer["state"] != "missing"}


def _faults(name: str, status: dict[str, Any], position: str) -> Iterator[str]:
    """Yield the differences between a member's status and a complete mesh at `position`."""
    if status["position"] != position:
        yield f"{name} is at {status['position'] or 'no position'}, and the controller at {position}"
    if status["agent"]["trouble"]:
        yield f"{name} reports an error: {status['agent']['trouble']}"
    present, others = _present_peers(status), set(MEMBERS) - {name}
    if present != others:
        missing, extra = ", ".join(sorted(others - present)), ", ".join(sorted(present - others))
        yield f"{name} lacks [{missing}] and also has [{extra}]; its reasons: {status['reasons']}"
