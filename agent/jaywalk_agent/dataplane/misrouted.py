# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds peers and networks whose packets this machine does not send into the tunnel, by a route or a rule.

A route or a rule of the machine's owner takes precedence and stays; this module only reports it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaywalk.core.runner import Runner
from jaywalk.wireguard import describe, routes
from jaywalk.wireguard.interface import Interface, is_relays


@dataclass(frozen=True)
class Misrouted:
    """Sentences about packets that do not enter the tunnel: for peers, and for networks behind them."""

    peers: str = ""
    prefixes: str = ""


def find(runner: Runner, desired: Interface, names: Mapping[str, str]) -> Misrouted:
    """Looks up the kernel's route to each peer and network of ``desired``, in one call of ``ip``."""
    targets = list(_targets(desired))
    devices = routes.devices_to(runner, [host for _, _, host in targets])
    peers: list[tuple[str, str]] = []
    prefixes: list[tuple[str, str]] = []
    for key, prefix, host in targets:
        device = devices.get(host, "")
        if device == desired.name or is_relays(desired.name, device):
            continue
        shown = f"by {device}" if device else "nowhere"
        is_address = ipaddress.ip_network(prefix).num_addresses == 1
        found = peers if is_address else prefixes
        found.append((f"{describe.peer_name(key, names)} ({host if is_address else prefix} {shown})", host))
    return Misrouted(
        _sentence(desired.name, "peers", peers), _sentence(desired.name, "networks behind", prefixes)
    )


def _targets(desired: Interface) -> Iterator[tuple[str, str, str]]:
    """Yields a key, a prefix that is routed for it, and a host in that prefix."""
    for key in sorted(desired.peers):
        for prefix in desired.peers[key].allowed_ips:
            network = ipaddress.ip_network(prefix)
            if network.version == 4 or desired.ipv6:
                yield key, prefix, str(network[min(1, network.num_addresses - 1)])


def _sentence(interface: str, what: str, found: Sequence[tuple[str, str]]) -> str:
    if not found:
        return ""
    shown = describe.listed([sentence for sentence, _ in found])
    return (
        f"this machine sends the packets for these {what} elsewhere than into {interface}: {shown}. "
        f"See 'ip route get {found[0][1]}' and 'ip rule'"
    )
