# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks routes into a tunnel: none that the machine has already, none to a peer's endpoint."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core import ip
from ..core.errors import CommandFailed, InvalidValue
from ..core.runner import Runner
from .interface import LINK_LOCAL


@dataclass(frozen=True)
class Route:
    """A route of the machine's main table; ``device`` is empty for a blackhole or a multipath route."""

    prefix: str
    device: str


def other_routes(runner: Runner, interface: str) -> list[Route]:
    """The main table's routes that do not lead into ``interface``."""
    found = []
    for family, default in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        for route in shown(runner, family):
            if route.get("dev") != interface:
                # Of any kind: a machine may route multicast or loopback in its main table.
                prefix = default if route["dst"] == "default" else str(ipaddress.ip_network(route["dst"]))
                found.append(Route(prefix, route.get("dev", "")))
    return found


def shown(runner: Runner, family: str, *selector: str) -> list[dict[str, Any]]:
    """The routes of one IP version (``-4`` or ``-6``) that ``ip route show`` lists for ``selector``."""
    argv = ["ip", "-json", family, "route", "show", *selector]
    done = runner.run(argv)
    if done.returncode == 0:
        return list(json.loads(done.stdout or "[]"))
    if family == "-6" and "not supported" in done.stderr:
        return []  # a kernel without IPv6
    raise CommandFailed(argv, done.returncode, done.stderr)


def devices_to(runner: Runner, hosts: Sequence[str]) -> dict[str, str]:
    """The interface by which the kernel sends a packet to each host; hosts without a route are left out.

    One call of ``ip`` looks up all of them.  The rules of the machine count, too (ip-rule(8)).
    """
    if not hosts:
        return {}
    lines = "".join(f"route get {host}\n" for host in hosts)
    # It fails for each host without a route, and answers for the others.
    output = runner.run(["ip", "-force", "-json", "-batch", "-"], lines).stdout
    found: dict[str, str] = {}
    decoder = json.JSONDecoder()
    position = output.find("[")
    while position >= 0:
        answers, end = decoder.raw_decode(output, position)
        found |= {str(route["dst"]): str(route.get("dev", "")) for route in answers if "dst" in route}
        position = output.find("[", end)
    return found


def needed(prefixes: Iterable[str], addresses: Iterable[str]) -> frozenset[str]:
    """The prefixes that need a route of their own: those outside of the networks of the addresses.

    A second route beside the kernel's own would have no effect, and its deletion would delete the kernel's.
    """
    own = [ipaddress.ip_interface(address).network for address in (*addresses, LINK_LOCAL)]
    return frozenset(
        prefix
        for prefix in prefixes
        if not any(within(ipaddress.ip_network(prefix), network) for network in own)
    )


def check_not_taken(desired: Iterable[str], taken: Sequence[Route]) -> None:
    """Raises ``InvalidValue`` if the machine already routes one of ``desired`` another way."""
    devices = {route.prefix: route.device for route in taken}
    for prefix in sorted(set(desired) & set(devices)):
        path = f"by {devices[prefix]}" if devices[prefix] else "another way"
        raise InvalidValue(
            f"the machine already routes {prefix} {path}, so that nothing would go into the tunnel",
            "remove that route, or leave this prefix out of the tunnel",
        )


def check_no_loops(desired: Iterable[str], taken: Sequence[Route], endpoints: Mapping[str, str]) -> None:
    """Raises ``InvalidValue`` if a tunnel's own packets to an endpoint (peer: endpoint) would enter it."""
    into = ip.networks(desired)
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
