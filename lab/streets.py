# SPDX-License-Identifier: GPL-3.0-or-later
"""The streets of a lab as they stand: routers, the internet between them, and what may happen there."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from lab import detached, host, network, plan, router, switch
from lab.errors import LabError
from lab.patience import Deadline
from lab.settings import switch_socket
from lab.spec import Leg, write_atomically
from lab.topology import INTERNET, NETWORK, Topology, check_delay, place6

TOOLS = {"ethtool": "ethtool", "nft": "nftables", "conntrack": "conntrack"}
"""Command -> Debian package: what streets take beyond a lab."""


def _ends(subnet: ipaddress.IPv4Network, taken: Iterable[Leg], netns: str) -> tuple[str, str]:
    """The first free address of a network and its gateway."""
    number = plan.free_place(subnet, [leg.ip for leg in taken if leg.netns == netns])
    return str(plan.place(subnet, number)), str(plan.place(subnet, plan.GATEWAY).ip)


class Streets:
    """The streets of one lab; what they are lies in `streets.json` in the lab's folder."""

    def __init__(self, directory: Path, prefix: str) -> None:
        self._file = directory / "streets.json"
        self._log = directory / "switch.log"
        self._prefix = prefix

    @property
    def exist(self) -> bool:
        """Whether the lab has streets."""
        return self._file.exists()

    @property
    def topology(self) -> Topology:
        """The streets as they are now; LabError where there are none."""
        if not self.exist:
            raise LabError("the lab has no streets: start it with python -m lab up --streets FILE")
        return Topology.of(json.loads(self._file.read_text(encoding="utf-8")))

    def ensure(self, topology: Topology | None = None) -> None:
        """Make what is missing of the streets: those described, or those that the lab has."""
        host.require(TOOLS)
        if topology is not None:
            if not self.exist:
                self._save(topology)
            elif not self.topology.alike(topology):
                raise LabError("the lab has other streets already: take it down first")
        topology = self.topology
        if not network.netns_exists(plan.internet_netns(self._prefix)):
            router.make_internet(self._prefix)
        for street in topology.streets.values():
            if not network.netns_exists(plan.router_netns(self._prefix, street.name)):
                router.make(self._prefix, street)
        self._ensure_switch(topology.delay_ms)

    def leg(self, place: str, taken: Iterable[Leg]) -> Leg:
        """A cable into a street or the internet, with the first address there that none of `taken` has."""
        if place == INTERNET:
            netns = plan.internet_netns(self._prefix)
            return Leg(None, *_ends(NETWORK, taken, netns), netns)
        street, netns = self.topology.street(place), plan.router_netns(self._prefix, place)
        address, gateway = _ends(street.network, taken, netns)
        leg = Leg(router.LAN_BRIDGE, address, gateway, netns, isolated=street.isolated)
        if not street.lan6:
            return leg
        number = int(leg.ip) - int(street.network.network_address)
        address6, gateway6 = place6(street.lan6, number), place6(street.lan6, plan.GATEWAY).ip
        return dataclasses.replace(leg, address6=str(address6), gateway6=str(gateway6))

    def street_of(self, leg: Leg) -> str:
        """The street that a leg is in, or `INTERNET`."""
        for name in self.topology.streets:
            if leg.netns == plan.router_netns(self._prefix, name):
                return name
        return INTERNET

    def port_of(self, leg: Leg, machine: str) -> str:
        """The port of the internet by which a machine's packets come there."""
        street = self.street_of(leg)
        return plan.bridge_port(machine, 0) if street == INTERNET else plan.router_port(street)

    def renumber(self, street: str, address: str | None = None) -> ipaddress.IPv4Address:
        """Give a street's router another public address, a fresh one by default."""
        topology = self.topology.renumbered(street, address)
        router.renumber(self._prefix, topology.street(street))
        self._save(topology)
        return ipaddress.IPv4Address(topology.street(street).wan)

    def forget(self, street: str) -> None:
        """Let a street's router lose its mappings."""
        router.forget(self._prefix, self.topology.street(street))

    def block(self, one: str, other: str, *, blocked: bool = True) -> None:
        """Let nothing pass between two ports of the internet, in silence, or let it pass again."""
        self._tell({"block" if blocked else "unblock": [one, other]})

    def delay(self, delay_ms: float) -> None:
        """Set the round trip between any two public addresses."""
        check_delay(delay_ms)
        self._tell({"delay_ms": delay_ms})

    def remove(self) -> None:
        """Remove routers, internet and switch, as far as they are there."""
        netns = plan.internet_netns(self._prefix)
        if network.netns_exists(netns):
            for pid in host.run(["ip", "netns", "pids", netns]).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            host.run(["ip", "netns", "del", netns])
        for path in Path("/run/netns").glob(plan.router_netns(self._prefix, "*")):
            host.run(["ip", "netns", "del", path.name])

    def _save(self, topology: Topology) -> None:
        write_atomically(self._file, json.dumps(topology.as_record(), indent=1) + "\n")

    def _tell(self, orders: switch.Orders) -> None:
        switch.tell(switch_socket(self._prefix), orders)

    def _ensure_switch(self, delay_ms: float) -> None:
        with contextlib.suppress(LabError):
            return self._tell({})
        netns = plan.internet_netns(self._prefix)
        arguments = [str(switch_socket(self._prefix)), str(delay_ms)]
        entered = ["nsenter", f"--net=/run/netns/{netns}"]
        detached.start("lab.switch", arguments, netns, self._log, entered)
        deadline = Deadline(10)
        while True:
            try:
                return self._tell({})
            except LabError as error:
                if deadline.passed:
                    said = self._log.read_text(encoding="utf-8", errors="replace")[-500:]
                    raise LabError(f"the streets' switch does not start: {said or error}") from error
            time.sleep(0.02)
