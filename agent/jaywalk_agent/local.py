# SPDX-License-Identifier: GPL-3.0-or-later
"""What this machine knows of its own place in the network."""

from __future__ import annotations

import ipaddress
import socket

from jaywalk.values import Address, host_prefix, join_endpoint

from .settings import Settings

ELSEWHERE = "192.0.2.1"
"""An address of the documentation range (RFC 5737): its route is the default route."""


def own_endpoint(settings: Settings, controller_host: str) -> str:
    """Where peers reach this node: the operator's word, else the address that faces the controller.

    Empty where the machine has no address to offer; its peers then wait for it to speak first.
    """
    if settings.local_endpoint_ip:
        return join_endpoint(settings.local_endpoint_ip, settings.listen_port)
    for target in (controller_host, ELSEWHERE):
        source = source_address(target)
        if source and _of_a_network(ipaddress.ip_address(source)):
            return join_endpoint(source, settings.listen_port)
    return ""


def source_address(target: str) -> str:
    """The address from which this machine would speak to ``target``; no packet is sent."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(target, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)
            return str(probe.getsockname()[0])
    except (OSError, UnicodeError):
        return ""


def host_prefixes(host: str) -> list[str]:
    """The addresses of ``host`` as prefixes; none while it does not resolve, nor for this machine's own."""
    if not host:
        return []
    try:
        found = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return []
    addresses = {ipaddress.ip_address(str(each[4][0])) for each in found}
    return sorted(host_prefix(str(each)) for each in addresses if _of_a_network(each))


def _of_a_network(address: Address) -> bool:
    return not address.is_loopback and not address.is_link_local
