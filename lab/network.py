# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's cables: bridges in a namespace of their own, one veth a leg, one leg for this host.

The builders are pure and give batches for ip(8); the doers hand them over. The host's own
namespace gets nothing but the operator's leg and its connected route.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from lab import host, plan, switch
from lab.errors import CommandFailed, LabError
from lab.settings import switch_socket
from lab.spec import LabSpec, Leg, MachineSpec

FIRST_BRIDGE, SECOND_BRIDGE = "br1", "br2"


def bridge_batch(bridge: str) -> list[str]:
    """A bridge that forwards at once and does not think about multicast."""
    return [f"link add {bridge} type bridge stp_state 0 mcast_snooping 0", f"link set {bridge} up"]


def lab_batch(network: ipaddress.IPv4Network) -> list[str]:
    """Inside the lab's namespace: the bridge, and a router that knows no way out and says so."""
    return [
        "link set lo up",
        *bridge_batch(FIRST_BRIDGE),
        f"addr add {plan.place(network, plan.GATEWAY)} dev {FIRST_BRIDGE}",
        "route add unreachable default",
        f"link set host master {FIRST_BRIDGE} up",
    ]


def host_batch(prefix: str, network: ipaddress.IPv4Network) -> list[str]:
    """In the host's namespace: the operator's leg."""
    leg = plan.host_leg(prefix)
    return [
        f"link add {leg} type veth peer name host netns {plan.lab_netns(prefix)}",
        f"addr add {plan.place(network, plan.HOST)} dev {leg}",
        f"link set {leg} up",
    ]


def port_batch(spec: MachineSpec, number: int) -> list[str]:
    """In the lab's namespace: the cable of a machine's leg, plugged in unless the machine is cut off."""
    port = plan.bridge_port(spec.name, number)
    address = plan.mac(spec.prefix, spec.name, number)
    netns = plan.machine_netns(spec.prefix, spec.name)
    plugged = [] if spec.cut else plug_batch(port, spec.legs[number])
    return [
        f"link add {port} type veth peer name eth{number} address {address} netns {netns}",
        *plugged,
        f"link set {port} up",
    ]


def plug_batch(port: str, leg: Leg) -> list[str]:
    """At the other end of a leg: put its port into its bridge, if it has one."""
    isolated = [f"link set {port} type bridge_slave isolated on"] if leg.isolated else []
    return [f"link set {port} master {leg.bridge}", *isolated] if leg.bridge else []


def leg_batch(leg: Leg, number: int) -> list[str]:
    """In the machine's namespace: the leg's address, and the default route if it leads to one."""
    address6 = [f"addr add {leg.address6} dev eth{number} nodad"] if leg.address6 else []
    routes = [f"route add default via {gateway}" for gateway in (leg.gateway, leg.gateway6) if gateway]
    return [f"addr add {leg.address} dev eth{number}", *address6, f"link set eth{number} up", *routes]


def leg_netns(prefix: str, leg: Leg) -> str:
    """The namespace of a leg's other end."""
    return leg.netns or plan.lab_netns(prefix)


def inside(netns: str, command: Sequence[str], stdin: str = "") -> None:
    """Run a command of this host in a namespace; CommandFailed if it failed."""
    host.run(["nsenter", f"--net=/run/netns/{netns}", *command], stdin=stdin)


def sysctl(netns: str, *settings: str) -> None:
    """Set kernel parameters of a namespace, each as `name=value`."""
    inside(netns, ["sysctl", "-qw", *settings])


def whole_checksums(netns: str, interface: str) -> None:
    """Let an interface send frames as they are on a wire, since what reads them next is no kernel."""
    inside(netns, ["ethtool", "-K", interface, "tx", "off"])


def ip(batch: Sequence[str], netns: str | None = None) -> None:
    """Apply a batch in a namespace; CommandFailed at the first line that is refused."""
    inside = ["-n", netns] if netns else []
    host.run(["ip", *inside, "-batch", "-"], stdin="\n".join(batch) + "\n")


def netns_exists(name: str) -> bool:
    """Whether ip-netns(8) knows the name."""
    return Path("/run/netns", name).exists()


@contextlib.contextmanager
def new_netns(name: str) -> Iterator[None]:
    """Make a namespace, and furnish it in the block: all of it or nothing."""
    host.run(["ip", "netns", "add", name])
    try:
        yield
    except LabError:
        host.run(["ip", "netns", "del", name])
        raise


def routed() -> list[ipaddress.IPv4Network]:
    """The IPv4 networks that this host has routes to."""
    routes = json.loads(host.run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]")
    texts = (route["dst"] for route in routes)
    return [ipaddress.IPv4Network(text, strict=False) for text in texts if text[0].isdigit()]


def make_lab(spec: LabSpec) -> None:
    """Make the lab's namespace, its bridge and this host's leg: all of it or nothing."""
    netns, network = plan.lab_netns(spec.prefix), ipaddress.IPv4Network(spec.network)
    host.run(["ip", "netns", "add", netns])
    try:
        ip(host_batch(spec.prefix, network))
        ip(lab_batch(network), netns)
        # Only a forwarding router answers "unreachable"; else a machine's tries to get out hang.
        sysctl(netns, "net.ipv4.ip_forward=1")
    except LabError:
        remove_lab(spec.prefix)
        raise


def remove_lab(prefix: str) -> None:
    """Remove what make_lab made, as far as it got."""
    host.run(["ip", "link", "del", plan.host_leg(prefix)], check=False)
    if netns_exists(plan.lab_netns(prefix)):
        host.run(["ip", "netns", "del", plan.lab_netns(prefix)])


def ensure_second_bridge(prefix: str) -> None:
    """Make the second bridge if it is not there: it joins machines and nothing else."""
    netns = plan.lab_netns(prefix)
    if SECOND_BRIDGE not in host.run(["ip", "-n", netns, "-o", "link", "show", "type", "bridge"]):
        ip(bridge_batch(SECOND_BRIDGE), netns)


def attach(spec: MachineSpec, number: int) -> None:
    """Give a machine's namespace its leg of that number."""
    leg, netns = spec.legs[number], plan.machine_netns(spec.prefix, spec.name)
    ip(port_batch(spec, number), leg_netns(spec.prefix, leg))
    if leg.netns:
        whole_checksums(netns, f"eth{number}")
    ip(leg_batch(leg, number), netns)


def wire(spec: MachineSpec) -> None:
    """Give a machine a fresh network, as a boot does: no interface, route or rule of its last life stays."""
    unwire(spec)
    netns = plan.machine_netns(spec.prefix, spec.name)
    host.run(["ip", "netns", "add", netns])
    ip(["link set lo up"], netns)
    for number in range(len(spec.legs)):
        attach(spec, number)


def unwire(spec: MachineSpec) -> None:
    """Remove a machine's cables and namespace, as far as they are there."""
    for number, leg in enumerate(spec.legs):
        # By name and at once: a namespace's own end is cleared in the background, too late for a reboot.
        port = plan.bridge_port(spec.name, number)
        host.run(["ip", "-n", leg_netns(spec.prefix, leg), "link", "del", port], check=False)
    netns = plan.machine_netns(spec.prefix, spec.name)
    if netns_exists(netns):
        host.run(["ip", "netns", "del", netns])


def move(spec: MachineSpec, leg: Leg) -> None:
    """Pull a running machine's first cable out and plug it in at `leg`, with the address of there."""
    port, netns = plan.bridge_port(spec.name, 0), leg_netns(spec.prefix, leg)
    ip([f"link set {port} netns {netns}"], leg_netns(spec.prefix, spec.legs[0]))
    ip([*plug_batch(port, leg), f"link set {port} up"], netns)
    machine = plan.machine_netns(spec.prefix, spec.name)
    # Off and on: what the machine learned about its neighbours is gone, as with a cable that was out.
    ip(["addr flush dev eth0", "link set eth0 down", *leg_batch(leg, 0)], machine)


def plug(spec: MachineSpec) -> None:
    """Put a running machine's cables into their bridges, or silently out of them (the carrier stays)."""
    for number, leg in enumerate(spec.legs):
        port = plan.bridge_port(spec.name, number)
        if leg.bridge is None:
            switch.tell(switch_socket(spec.prefix), {"cut" if spec.cut else "heal": port})
            continue
        batch = [f"link set {port} nomaster"] if spec.cut else plug_batch(port, leg)
        try:
            ip(batch, leg_netns(spec.prefix, leg))
        except CommandFailed:
            if netns_exists(plan.machine_netns(spec.prefix, spec.name)):
                raise
