# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's seat in the fleet tests: plays, the nodes' own words, and pings that run meanwhile."""

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

from lab.fleet import Lab
from lab.node import Node
from lab.patience import Deadline
from tests import processes
from tests.waiting import becomes
from tests.waiting import eventually as eventually

ROOT = Path(__file__).resolve().parents[2]
MEMBERS = ("node1", "node2", "node3")
ZONE = "zone-blue"
UNIT = f"jaywalk-agent@{ZONE}"
INTERFACE = "wg0"
PLAY_SECONDS = 600
AGAIN_SECONDS = 90.0
"""Until a member is in order after Redis or a supervisor was away, or refused it, at most: an agent tries to
connect every 30 s, once more after as long where Redis had no users of the supervisor's yet, and it repeats
each minute what the zone or the kernel refused."""
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
    """How a run of ansible-playbook ended: what it printed, and per host (changed, unreachable + failed)."""

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
    """What a ping lost; filled when its block ends."""

    per_second: int
    on_the_way: int = 1
    """How many of the last may still have been on their way when the ping was ended."""
    sent: int = 0
    missing: tuple[int, ...] = ()
    judged: int = 0
    """The last whose answer was waited for."""

    def read(self, output: str, goal: int) -> None:
        """Counts what ping said; where an answer beyond `goal` came, no other was waited for in vain."""
        found = _SENT.search(output)
        assert found, f"ping said no sum: {output[-500:]}"
        self.sent = int(found.group(1))
        answered = _answered(output)
        self.missing = tuple(sorted(set(range(1, self.sent + 1)) - answered))
        last = max(answered, default=0)
        self.judged = last if last >= goal else self.sent - self.on_the_way

    @property
    def _unanswered(self) -> list[int]:
        return [number for number in self.missing if number <= self.judged]

    @property
    def lost(self) -> int:
        """How many got no answer, but for those on their way."""
        return len(self._unanswered)

    @property
    def recovered(self) -> bool:
        """Whether answers came at the end, whatever was lost before."""
        end = range(max(1, self.sent - 3 * self.on_the_way), self.sent + 1)
        return not set(end) <= set(self.missing)

    @property
    def gap(self) -> float:
        """The longest time without an answer, in seconds."""
        longest = run = 0
        for before, number in zip((0, *self._unanswered), self._unanswered, strict=False):
            run = run + 1 if number == before + 1 else 1
            longest = max(longest, run)
        return longest / self.per_second


class Fleet:
    """The lab's machines and the operator's commands."""

    round_trip = 0.5
    """Seconds at most that an answer takes when all is well."""
    through = INTERFACE
    """The interface by which peers are pinged; empty: whichever way the routes lead."""

    def __init__(self, lab: Lab, inventory: Path) -> None:
        self.lab = lab
        self.inventory = inventory

    def __getitem__(self, name: str) -> Node:
        return self.lab.node(name)

    @property
    def controller(self) -> Node:
        return self["control"]

    @property
    def secrets(self) -> dict[str, Any]:
        """What the operator put into group_vars."""
        loaded: dict[str, Any] = yaml.safe_load(
            (self.inventory.parent / "group_vars" / "all.yml").read_text(encoding="utf-8")
        )
        return loaded

    def play(self, *arguments: str, playbook: str = "site.yml", check: bool = True) -> Play:
        """Runs a playbook of the collection as an operator does."""
        command = [
            "ansible-playbook",
            "-i",
            str(self.inventory),
            str(Path("playbooks", playbook)),
            *arguments,
        ]
        environment = dict(os.environ, ANSIBLE_NOCOLOR="1", ANSIBLE_FORCE_COLOR="0")
        done = processes.run(command, ROOT, environment, PLAY_SECONDS)
        play = Play(done.stdout, done.returncode)
        if check and (done.returncode or any(bad for _, bad in play.recap.values())):
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-8000:]}")
        return play

    def status(self, name: str) -> dict[str, Any]:
        """The node's own word about its mesh."""
        loaded: dict[str, Any] = json.loads(self[name].run("jaywalk status --json", check=False).stdout)
        return loaded

    def address(self, name: str) -> str:
        """The node's address in the mesh."""
        return str(self.status(name)["addresses"][0])

    def peers_of(self, name: str) -> set[str]:
        """The names of the peers that a node's interface really has."""
        return _reached(self.status(name))

    def disorder(self) -> list[str]:
        """What keeps the mesh from being whole, a sentence each; none where it is.

        It is whole where each member is where the controller is, with all the others on its interface, and
        nobody else.  What an interface holds does not say so alone: it may be from before the controller
        lost something.
        """
        shown = self.controller.run(f"jaywalk-supervisor zone show {ZONE} --json", check=False)
        if shown.rc:
            return [f"control does not show the zone: {(shown.stdout + shown.stderr).strip()}"]
        zone = json.loads(shown.stdout)
        position = f"{zone['epoch']}-{zone['rev']}"
        return [each for name in MEMBERS for each in _disorder(name, self.status(name), position)]

    def wait_until_whole(self) -> None:
        """Fails with what is not in order when all that the product promises should be done."""
        becomes([], self.disorder, AGAIN_SECONDS)

    def wait_until_in_order(self, name: str) -> None:
        """Waits until a member itself says that it is; fails with its reasons."""
        becomes([], lambda: self.status(name)["reasons"], AGAIN_SECONDS)

    def said(self, name: str, words: str, unit: str = UNIT) -> bool:
        """Whether a unit said so since its last start."""
        run = f"$(systemctl show -P InvocationID {unit})"
        heard = self[name].run(f"journalctl _SYSTEMD_INVOCATION_ID={run} -o cat")
        return words in heard.stdout

    def traces(self, name: str) -> set[str]:
        """All that could be ours on a machine: interfaces, routes, rules, units, users and files."""
        return set(self[name].run(TRACES, timeout=60).stdout.splitlines())

    @contextmanager
    def ping(self, source: str, target: str, per_second: int = 50) -> Iterator[PingCount]:
        """Pings a node of the mesh through the tunnel while the block runs."""
        with self.ping_address(source, self.address(target), per_second, self.through) as count:
            yield count

    @contextmanager
    def ping_address(
        self, source: str, address: str, per_second: int = 50, interface: str = INTERFACE
    ) -> Iterator[PingCount]:
        """Pings an address while the block runs; whichever way the routes lead, if no interface is named."""
        through = f"-I {interface}" if interface else ""
        count = PingCount(per_second, math.ceil(per_second * self.round_trip))
        running = self[source].start_background(f"ping -n -i {1 / per_second} {through} {address}")
        eventually(lambda: "PING" in running.stdout or not running.running, "the ping begins")
        try:
            yield count
        finally:
            # All that were sent in the block are judged: as soon as one is answered that was sent later.
            goal = max(_answered(running.stdout), default=0) + count.on_the_way
            deadline = Deadline(2 * self.round_trip)
            while max(_answered(running.stdout), default=0) < goal and not deadline.passed:
                time.sleep(0.05)
            count.read(running.stop().stdout, goal)


def _answered(output: str) -> set[int]:
    """The numbers of the pings that were answered."""
    return {int(number) for number in _ANSWER.findall(output)}


def _reached(status: dict[str, Any]) -> set[str]:
    """The names of the peers that the interface of a status really has."""
    return {peer["name"] for peer in status["peers"] if peer["state"] != "missing"}


def _disorder(name: str, status: dict[str, Any], position: str) -> Iterator[str]:
    """What of a member's status differs from a whole mesh at `position`."""
    if status["position"] != position:
        yield f"{name} is at {status['position'] or 'no position'}, and the controller at {position}"
    if status["agent"]["trouble"]:
        yield f"{name} is in trouble: {status['agent']['trouble']}"
    reached, others = _reached(status), set(MEMBERS) - {name}
    if reached != others:
        lacking, more = ", ".join(sorted(others - reached)), ", ".join(sorted(reached - others))
        yield f"{name} lacks [{lacking}] and has besides [{more}]; zone reasons: {status['reasons']}"
