# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine knows of its own place in the network: its name, and where its peers reach it."""

from __future__ import annotations

import ipaddress
import re
import socket

from .values import Address, host_prefix, join_endpoint

ELSEWHERE = "192.0.2.1"
"""An address of the documentation range (RFC 5737): its route is the default route."""


def host_label() -> str:
    """This machine's name as a DNS label."""
    label = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")
    return label[:63].rstrip("-") or "node"


def own_endpoint(controller_host: str, listen_port: int) -> str:
    """Where peers reach this machine: the address that faces the controller, else that of the default route.

    Empty where it has no address to offer; its peers then wait for it to speak first.
    """
    for target in (controller_host, ELSEWHERE):
        source = source_address(target)
        if source and _of_a_network(ipaddress.ip_address(source)):
            return join_endpoint(source, listen_port)
    return ""


def source_address(target: str) -> str:
    """The address from which this machine would speak to ``target``; no packet is sent."""
    try:
        family, kind, _proto, _name, where = socket.getaddrinfo(target, 9, type=socket.SOCK_DGRAM)[0]
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
