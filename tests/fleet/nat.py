# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh across the lab's streets: controller and relays in the open, and two spokes that move about."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab import playbook_variables
from lab.fleet import Lab
from lab.topology import INTERNET, Topology
from tests.fleet.fleet import ROOT, UNIT, Fleet, eventually

RELAYS = ("relay1", "relay2")
SPOKES = ("anna", "ben")
NAT_SITES = ROOT / "lab" / "nat_sites.yml"
TRIES = "until ping -n -q -c 1 -W 0.3 {address}; do sleep 0.05; done; date +%s.%N"
PATIENCE = 60.0

KINDS = {
    "open": (INTERNET, INTERNET),
    "forwarded": ("forward1", "forward2"),
    "cone": ("cone1", "cone2"),
    "firewall": ("firewall1", "firewall2"),
    "symmetric": ("symmetric1", "symmetric2"),
}
"""Each kind of place, with the streets of it for the first spoke and for the second."""
FILTERS = ("cone", "firewall", "symmetric")
"""Kinds that let only the very address and port in that was spoken to."""


@dataclass(frozen=True)
class Pair:
    """Where the two spokes live, and what their path must come to."""

    name: str
    first: str
    second: str
    direct: bool


def _apart(one: str, other: str) -> Pair:
    """Two kinds of place; from behind a symmetric NAT, who filters by port can never be met."""
    hidden = "symmetric" in (one, other)
    possible = not hidden or not (one in FILTERS and other in FILTERS)
    return Pair(f"{one}-{other}", KINDS[one][0], KINDS[other][1], possible)


PAIRS = [_apart(one, other) for one, other in itertools.combinations_with_replacement(KINDS, 2)] + [
    Pair("symmetric-symmetric-ipv6", "dual1", "dual2", direct=True),
    Pair("same-cone", "cone1", "cone1", direct=True),
    Pair("same-symmetric", "symmetric1", "symmetric1", direct=True),
    Pair("same-isolated", "hotel", "hotel", direct=False),
    Pair("same-isolated-hairpin", "campus", "campus", direct=True),
]
"""Every pair of kinds; and behind one router, by the local network, by a relay, by a hairpin."""


@dataclass(frozen=True)
class Meeting:
    """How two spokes came together, timed from the start of the second one's agent."""

    first_reply: float
    settled: float
    """Seconds until the path was what it must come to."""
    peer: dict[str, Any]
    """What `jaywalk status` then says of the first spoke on the second."""


class NatFleet(Fleet):
    """The machines of `lab/nat_sites.yml`, with a mesh."""

    ping_interface = ""

    def peer(self, source: str, target: str) -> dict[str, Any]:
        """What a node says of another one."""
        return next(each for each in self.status(source)["peers"] if each["name"] == target)

    def path(self, source: str, target: str) -> str:
        """How a node's packets come to another one: direct, relayed or none."""
        return str(next((e["path"] for e in self.status(source)["peers"] if e["name"] == target), "none"))

    def place(self, first: str, second: str) -> None:
        """Puts both spokes into streets, out of the zone, as if they had never been there."""
        with ThreadPoolExecutor(len(SPOKES)) as pool:
            list(pool.map(self._take_out, SPOKES))
        for name, street in zip(SPOKES, (first, second), strict=True):
            self.lab.move(name, street)

    def _take_out(self, name: str) -> None:
        self[name].run(f"systemctl stop {UNIT}; jaywalk leave")

    def meet(self, pair: Pair) -> Meeting:
        """Has the first spoke join, then the second, and waits until their path is what it must come to."""
        self.place(pair.first, pair.second)
        first, second = SPOKES
        self[first].run(f"systemctl start {UNIT}", timeout=PATIENCE)
        address = self.address(first)
        trying = self[second].start_background(f"({TRIES.format(address=address)}) | tail -n 1")
        begun = time.time()
        self[second].run(f"systemctl start {UNIT}", timeout=PATIENCE)
        replied = float(trying.wait(PATIENCE).stdout)
        wanted = "direct" if pair.direct else "relayed"
        self.wait_path(wanted)
        return Meeting(replied - begun, time.time() - begun, self.peer(second, first))

    def wait_path(self, wanted: str, timeout: float = PATIENCE) -> None:
        """Waits until both spokes say that their path is `wanted`, with a ping to keep it in use."""
        one, other = SPOKES
        address = self.address(one)
        ping = self[other].start_background(f"ping -n -q -i 0.5 {address}")

        def settled() -> bool:
            return self.path(other, one) == wanted == self.path(one, other)

        try:
            eventually(settled, f"{one} and {other} are {wanted}", timeout)
        finally:
            ping.stop()

    def together(self, first: str, second: str, path: str) -> None:
        """Puts both spokes into streets, with a path that must come up."""
        self.meet(Pair(f"{first}-{second}", first, second, path == "direct"))


@contextmanager
def nat_fleet(lab: Lab) -> Iterator[NatFleet]:
    """The streets that ship with the lab, and a mesh rolled out on all machines in them."""
    lab.down()
    topology = Topology.parse(NAT_SITES.read_text(encoding="utf-8"))
    try:
        lab.up(topology.machines, topology=topology)
        # Tests there change what nodes may do by hand.
        variables = {**playbook_variables.variables(ROOT), "jaywalk_lock": False}
        inventory = lab.write_inventory(lab.directory / "inventory", variables=variables)
        for relay in RELAYS:
            _set_variables(inventory.parent, relay, {"jaywalk_relay": True})
        made = NatFleet(lab, inventory)
        made.play()
        yield made
    finally:
        lab.down()


def _set_variables(inventory: Path, name: str, variables: dict[str, Any]) -> None:
    folder = inventory / "host_vars"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
