# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes that may go into a tunnel: not one that the machine has already, not one to a peer's endpoint."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..core import ip
from ..core.errors import CommandFailed, InvalidValue
from ..core.runner import Runner


@dataclass(frozen=True)
class Route:
    """A route of the machine's main table; ``device`` is empty for one that leads nowhere or many ways."""

    prefix: str
    device: str


def other_routes(runner: Runner, interface: str) -> list[Route]:
    """The main table's routes that do not lead into ``interface``."""
    found = []
    for family, default in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        for each in json.loads(_shown(runner, family) or "[]"):
            if each.get("dev") != interface:
                # Of any kind: a machine may route multicast or loopback in its main table.
                prefix = default if each["dst"] == "default" else str(ipaddress.ip_network(each["dst"]))
                found.append(Route(prefix, each.get("dev", "")))
    return found


def _shown(runner: Runner, family: str) -> str:
    argv = ["ip", "-json", family, "route", "show"]
    done = runner.run(argv)
    # A kernel without IPv6 says so, and has no such route.
    if done.returncode != 0 and (family == "-4" or "not supported" not in done.stderr):
        raise CommandFailed(argv, done.returncode, done.stderr)
    return done.stdout if done.returncode == 0 else ""


def devices_to(runner: Runner, hosts: Sequence[str]) -> dict[str, str]:
    """The interface that the kernel sends a packet to each host by; a host to which no way leads is left out.

    One call of ``ip`` asks for all of them.  The rules of the machine count, too (ip-rule(8)).
    """
    if not hosts:
        return {}
    lines = "".join(f"route get {host}\n" for host in hosts)
    # It fails for each host without a way, and answers for the others.
    shown = runner.run(["ip", "-force", "-json", "-batch", "-"], lines).stdout
    found: dict[str, str] = {}
    decoder = json.JSONDecoder()
    position = shown.find("[")
    while position >= 0:
        answers, end = decoder.raw_decode(shown, position)
        found |= {str(each["dst"]): str(each.get("dev", "")) for each in answers if "dst" in each}
        position = shown.find("[", end)
    return found


def needed(prefixes: Iterable[str], addresses: Iterable[str]) -> frozenset[str]:
    """The prefixes that need a route of their own: those that no interface address already brings.

    A second route beside the kernel's own would hide behind it, and to delete it would delete that one.
    """
    own = [ipaddress.ip_interface(each).network for each in (*addresses, "fe80::/64")]
    return frozenset(
        prefix
        for prefix in prefixes
        if not any(within(ipaddress.ip_network(prefix), network) for network in own)
    )


def refuse_taken(wanted: Iterable[str], taken: Sequence[Route]) -> None:
    """Raises ``InvalidValue`` where the machine already routes one of ``wanted`` another way."""
    devices = {route.prefix: route.device for route in taken}
    for prefix in sorted(set(wanted) & set(devices)):
        way = f"by {devices[prefix]}" if devices[prefix] else "another way"
        raise InvalidValue(
            f"the machine already routes {prefix} {way}, so that nothing would go into the tunnel",
            "remove that route, or leave this prefix out of the tunnel",
        )


def refuse_loops(wanted: Iterable[str], taken: Sequence[Route], endpoints: Mapping[str, str]) -> None:
    """Raises ``InvalidValue`` where a tunnel's own packets to an endpoint (peer: endpoint) would enter it."""
    into = ip.networks(wanted)
    other = ip.networks(route.prefix for route in taken)
    for key, endpoint in endpoints.items():
        host = ipaddress.ip_address(ip.host_of(endpoint))
        inner = [network for network in into if network.version == host.version and host in network]
        outer = [network for network in other if network.version == host.version and host in network]
        longest = max(inner, key=_length, default=None)
        if longest is not None and _length(longest) > max(map(_length, outer), default=-1):
            raise InvalidValue(
                f"the route {longest} would lead the packets for endpoint {endpoint} of peer {key} into the"
                " tunnel itself",
                "leave that prefix out, or give the machine a more specific route to the endpoint",
            )


def _length(network: ip.Network) -> int:
    return network.prefixlen


def within(inner: ip.Network, outer: ip.Network) -> bool:
    """Whether all of ``inner`` lies in ``outer``."""
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False
