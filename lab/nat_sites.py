# SPDX-License-Identifier: GPL-3.0-or-later
"""The running NAT sites of a lab: their routers, the internet between them, and changes of both."""

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

from lab import addressing, detached, host, naming, network, router, switch
from lab.deadline import Deadline
from lab.errors import LabError
from lab.records import Interface, write_atomically
from lab.settings import switch_socket
from lab.topology import INTERNET, NETWORK, Topology, check_delay, host_address6

# Command -> Debian package: what NAT sites need in addition to `host.TOOLS`.
TOOLS = {"ethtool": "ethtool", "nft": "nftables", "conntrack": "conntrack"}
SWITCH_START_SECONDS = 10.0


def _free_address(subnet: ipaddress.IPv4Network, taken: Iterable[Interface], netns: str) -> tuple[str, str]:
    """Return the first free address of a network, and its gateway."""
    used = [interface.ip for interface in taken if interface.netns == netns]
    address = addressing.host_address(subnet, addressing.free_host_number(subnet, used))
    return str(address), str(addressing.host_address(subnet, addressing.GATEWAY_NUMBER).ip)


class NatSites:
    """The NAT sites of one lab; `nat_sites.json` in the lab's folder describes them."""

    def __init__(self, directory: Path, prefix: str) -> None:
        self._file = directory / "nat_sites.json"
        self._log = directory / "switch.log"
        self._prefix = prefix

    @property
    def exist(self) -> bool:
        """Whether the lab has NAT sites."""
        return self._file.exists()

    @property
    def topology(self) -> Topology:
        """The current topology; raises LabError where the lab has no NAT sites."""
        if not self.exist:
            raise LabError("the lab has no NAT sites: start it with python -m lab up --nat-sites FILE")
        return Topology.from_record(json.loads(self._file.read_text(encoding="utf-8")))

    def ensure(self, topology: Topology | None = None) -> None:
        """Create the missing parts of the given topology, or of the lab's own."""
        host.require(TOOLS)
        if topology is not None:
            if not self.exist:
                self._save(topology)
            elif not self.topology.has_same_description(topology):
                raise LabError("the lab has other NAT sites already: take it down first")
        topology = self.topology
        if not network.netns_exists(naming.internet_netns(self._prefix)):
            router.create_internet(self._prefix)
        for site in topology.sites.values():
            if not network.netns_exists(naming.router_netns(self._prefix, site.name)):
                router.create(self._prefix, site)
        self._ensure_switch(topology.delay_ms)

    def interface(self, place: str, taken: Iterable[Interface]) -> Interface:
        """Return an interface in a site or on the internet, with the first address there not in `taken`."""
        if place == INTERNET:
            netns = naming.internet_netns(self._prefix)
            return Interface(None, *_free_address(NETWORK, taken, netns), netns)
        site, netns = self.topology.site(place), naming.router_netns(self._prefix, place)
        address, gateway = _free_address(site.network, taken, netns)
        interface = Interface(router.LAN_BRIDGE, address, gateway, netns, isolated=site.isolated)
        if not site.lan6:
            return interface
        number = int(interface.ip) - int(site.network.network_address)
        address6 = host_address6(site.lan6, number)
        gateway6 = host_address6(site.lan6, addressing.GATEWAY_NUMBER).ip
        return dataclasses.replace(interface, address6=str(address6), gateway6=str(gateway6))

    def site_of(self, interface: Interface) -> str:
        """Return the site of an interface, or `INTERNET`."""
        for name in self.topology.sites:
            if interface.netns == naming.router_netns(self._prefix, name):
                return name
        return INTERNET

    def port_of(self, interface: Interface, machine: str) -> str:
        """Return the port of the switch at which a machine's packets arrive."""
        site = self.site_of(interface)
        return naming.bridge_port(machine, 0) if site == INTERNET else naming.router_port(site)

    def renumber(self, site: str, address: str | None = None) -> ipaddress.IPv4Address:
        """Change the public address of a site's router, by default to a fresh one."""
        topology = self.topology.renumbered(site, address)
        router.renumber(self._prefix, topology.site(site))
        self._save(topology)
        return ipaddress.IPv4Address(topology.site(site).wan)

    def forget(self, site: str) -> None:
        """Remove the mappings of a site's router."""
        router.forget(self._prefix, self.topology.site(site))

    def block(self, one: str, other: str, *, blocked: bool = True) -> None:
        """Drop all frames between two ports of the switch without an error, or forward them again."""
        self._send({"block" if blocked else "unblock": [one, other]})

    def delay(self, delay_ms: float) -> None:
        """Set the round trip between any two public addresses."""
        check_delay(delay_ms)
        self._send({"delay_ms": delay_ms})

    def remove(self) -> None:
        """Remove the routers, the internet and the switch, as far as they exist."""
        netns = naming.internet_netns(self._prefix)
        if network.netns_exists(netns):
            for pid in host.run(["ip", "netns", "pids", netns]).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            host.run(["ip", "netns", "del", netns])
        for path in Path("/run/netns").glob(naming.router_netns(self._prefix, "*")):
            host.run(["ip", "netns", "del", path.name])

    def _save(self, topology: Topology) -> None:
        write_atomically(self._file, json.dumps(topology.as_record(), indent=1) + "\n")

    def _send(self, commands: switch.Commands) -> None:
        switch.send(switch_socket(self._prefix), commands)

    def _ensure_switch(self, delay_ms: float) -> None:
        with contextlib.suppress(LabError):
            return self._send({})
        netns = naming.internet_netns(self._prefix)
        arguments = [str(switch_socket(self._prefix)), str(delay_ms)]
        enter_netns = ["nsenter", f"--net=/run/netns/{netns}"]
        detached.start("lab.switch", arguments, netns, self._log, enter_netns)
        deadline = Deadline(SWITCH_START_SECONDS)
        while True:
            try:
                return self._send({})
            except LabError as error:
                if deadline.passed:
                    log = self._log.read_text(encoding="utf-8", errors="replace")[-500:]
                    raise LabError(f"the lab's switch does not start: {log or error}") from error
            time.sleep(0.02)
