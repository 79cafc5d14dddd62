# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's links: bridges in a namespace of their own, a veth pair per interface, one pair for this host.

The `..._batch` functions are pure and return batches for ip(8); the other functions apply them. The
host's own namespace gets nothing but one interface and its connected route.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab import addressing, host, naming, switch
from lab.errors import CommandFailed, LabError
from lab.records import Interface, LabSpec, MachineSpec
from lab.settings import switch_socket

FIRST_BRIDGE, SECOND_BRIDGE = "br1", "br2"


def create_bridge_batch(bridge: str) -> list[str]:
    """Create a bridge that forwards at once, without spanning tree and multicast snooping."""
    return [f"link add {bridge} type bridge stp_state 0 mcast_snooping 0", f"link set {bridge} up"]


def lab_batch(network: ipaddress.IPv4Network) -> list[str]:
    """In the lab's namespace: create the bridge, and a router without a default route that answers so."""
    return [
        "link set lo up",
        *create_bridge_batch(FIRST_BRIDGE),
        f"addr add {addressing.host_address(network, addressing.GATEWAY_NUMBER)} dev {FIRST_BRIDGE}",
        "route add unreachable default",
        f"link set host master {FIRST_BRIDGE} up",
    ]


def host_batch(prefix: str, network: ipaddress.IPv4Network) -> list[str]:
    """In the host's namespace: create the host's interface in the lab."""
    interface = naming.host_interface(prefix)
    return [
        f"link add {interface} type veth peer name host netns {naming.lab_netns(prefix)}",
        f"addr add {addressing.host_address(network, addressing.HOST_NUMBER)} dev {interface}",
        f"link set {interface} up",
    ]


def port_batch(spec: MachineSpec, number: int) -> list[str]:
    """In the lab's namespace: create a veth pair to a machine, in a bridge unless the machine is cut off."""
    port = naming.bridge_port(spec.name, number)
    address = naming.mac(spec.prefix, spec.name, number)
    netns = naming.machine_netns(spec.prefix, spec.name)
    joined = [] if spec.cut else join_bridge_batch(port, spec.interfaces[number])
    return [
        f"link add {port} type veth peer name eth{number} address {address} netns {netns}",
        *joined,
        f"link set {port} up",
    ]


def join_bridge_batch(port: str, interface: Interface) -> list[str]:
    """At the other end of an interface: attach its port to its bridge, if it has one."""
    isolated = [f"link set {port} type bridge_slave isolated on"] if interface.isolated else []
    return [f"link set {port} master {interface.bridge}", *isolated] if interface.bridge else []


def interface_batch(interface: Interface, number: int) -> list[str]:
    """In the machine's namespace: set the interface's addresses and default routes."""
    address6 = [f"addr add {interface.address6} dev eth{number} nodad"] if interface.address6 else []
    gateways = [gateway for gateway in (interface.gateway, interface.gateway6) if gateway]
    routes = [f"route add default via {gateway}" for gateway in gateways]
    return [f"addr add {interface.address} dev eth{number}", *address6, f"link set eth{number} up", *routes]


def peer_netns(prefix: str, interface: Interface) -> str:
    """Return the namespace of an interface's other end."""
    return interface.netns or naming.lab_netns(prefix)


def run_in(netns: str, command: Sequence[str], stdin: str = "") -> None:
    """Run a command of this host in a namespace; raise CommandFailed if it fails."""
    host.run(["nsenter", f"--net=/run/netns/{netns}", *command], stdin=stdin)


def sysctl(netns: str, *settings: str) -> None:
    """Set kernel parameters of a namespace; each setting is `name=value`."""
    run_in(netns, ["sysctl", "-qw", *settings])


def disable_checksum_offload(netns: str, interface: str) -> None:
    """Let an interface send complete checksums, since no kernel at the other end completes them."""
    run_in(netns, ["ethtool", "-K", interface, "tx", "off"])


def ip(batch: Sequence[str], netns: str | None = None) -> None:
    """Apply a batch in a namespace; raise CommandFailed at the first line that fails."""
    option = ["-n", netns] if netns else []
    host.run(["ip", *option, "-batch", "-"], stdin="\n".join(batch) + "\n")


def netns_exists(name: str) -> bool:
    """Return whether ip-netns(8) has a namespace of that name."""
    return Path("/run/netns", name).exists()


@contextlib.contextmanager
def new_netns(name: str) -> Iterator[None]:
    """Create a namespace for the block to configure; remove it again if the block fails."""
    host.run(["ip", "netns", "add", name])
    try:
        yield
    except LabError:
        host.run(["ip", "netns", "del", name])
        raise


def routed_networks() -> list[ipaddress.IPv4Network]:
    """Return the IPv4 networks that this host has routes to."""
    routes = json.loads(host.run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]")
    texts = (route["dst"] for route in routes)
    return [ipaddress.IPv4Network(text, strict=False) for text in texts if text[0].isdigit()]


def create_lab(spec: LabSpec) -> None:
    """Create the lab's namespace, its bridge and this host's interface: all of it or nothing."""
    netns, network = naming.lab_netns(spec.prefix), ipaddress.IPv4Network(spec.network)
    host.run(["ip", "netns", "add", netns])
    try:
        ip(host_batch(spec.prefix, network))
        ip(lab_batch(network), netns)
        # Only a forwarding router answers "unreachable"; without it a machine's packets to outside time out.
        sysctl(netns, "net.ipv4.ip_forward=1")
    except LabError:
        remove_lab(spec.prefix)
        raise


def remove_lab(prefix: str) -> None:
    """Remove what create_lab created, even where it failed half-way."""
    host.run(["ip", "link", "del", naming.host_interface(prefix)], check=False)
    if netns_exists(naming.lab_netns(prefix)):
        host.run(["ip", "netns", "del", naming.lab_netns(prefix)])


def ensure_second_bridge(prefix: str) -> None:
    """Create the second bridge if it is missing: it connects machines and nothing else."""
    netns = naming.lab_netns(prefix)
    if SECOND_BRIDGE not in host.run(["ip", "-n", netns, "-o", "link", "show", "type", "bridge"]):
        ip(create_bridge_batch(SECOND_BRIDGE), netns)


def add_interface(spec: MachineSpec, number: int) -> None:
    """Create a machine's interface of that number in its namespace."""
    interface, netns = spec.interfaces[number], naming.machine_netns(spec.prefix, spec.name)
    ip(port_batch(spec, number), peer_netns(spec.prefix, interface))
    if interface.netns:
        disable_checksum_offload(netns, f"eth{number}")
    ip(interface_batch(interface, number), netns)


def create_machine_network(spec: MachineSpec) -> None:
    """Create a machine's network for a boot: no interface, route or rule of the last boot remains."""
    remove_machine_network(spec)
    netns = naming.machine_netns(spec.prefix, spec.name)
    host.run(["ip", "netns", "add", netns])
    ip(["link set lo up"], netns)
    for number in range(len(spec.interfaces)):
        add_interface(spec, number)


def remove_machine_network(spec: MachineSpec) -> None:
    """Remove a machine's interfaces and namespace, as far as they exist."""
    for number, interface in enumerate(spec.interfaces):
        # Explicitly: the kernel removes a namespace's own end in the background, too late for a reboot.
        port = naming.bridge_port(spec.name, number)
        host.run(["ip", "-n", peer_netns(spec.prefix, interface), "link", "del", port], check=False)
    netns = naming.machine_netns(spec.prefix, spec.name)
    if netns_exists(netns):
        host.run(["ip", "netns", "del", netns])


def move(spec: MachineSpec, interface: Interface) -> None:
    """Move a running machine's first interface to another namespace, bridge and address."""
    port, netns = naming.bridge_port(spec.name, 0), peer_netns(spec.prefix, interface)
    ip([f"link set {port} netns {netns}"], peer_netns(spec.prefix, spec.interfaces[0]))
    ip([*join_bridge_batch(port, interface), f"link set {port} up"], netns)
    machine = naming.machine_netns(spec.prefix, spec.name)
    # Down and up: this clears the machine's neighbour table, as an unplugged cable does.
    ip(["addr flush dev eth0", "link set eth0 down", *interface_batch(interface, 0)], machine)


def apply_cut(spec: MachineSpec) -> None:
    """Detach a running machine's ports from their bridges if it is cut off; attach them otherwise."""
    for number, interface in enumerate(spec.interfaces):
        port = naming.bridge_port(spec.name, number)
        if interface.bridge is None:
            switch.send(switch_socket(spec.prefix), {"cut" if spec.cut else "heal": port})
            continue
        batch = [f"link set {port} nomaster"] if spec.cut else join_bridge_batch(port, interface)
        try:
            ip(batch, peer_netns(spec.prefix, interface))
        except CommandFailed:
            if netns_exists(naming.machine_netns(spec.prefix, spec.name)):
                raise
