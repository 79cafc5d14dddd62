# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine knows of its own place in the network: its name, and where its peers reach it."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Any

from .values import Address, host_prefix, join_endpoint

ELSEWHERE = ("192.0.2.1", "2001:db8::1")
"""Addresses of the documentation ranges (RFC 5737, RFC 3849): their route is the default route."""


def host_label() -> str:
    """This machine's name as a DNS label."""
    label = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")
    return label[:63].rstrip("-") or "node"


def whereabouts(controller_host: str, listen_port: int, declared: str = "") -> dict[str, Any]:
    """What a request says of where peers reach this node: its operator's word ``declared``, else its own.

    The endpoint is empty where it has no address to offer; its peers then wait for it to speak first.
    """
    if declared:
        return {"endpoint": declared, "fixed": True}
    first, *others = own_addresses(controller_host) or [""]
    return {"endpoint": join_endpoint(first, listen_port) if first else "", "local": tuple(others)}


def own_addresses(controller_host: str) -> list[str]:
    """The addresses from which this machine speaks to others, none twice.

    The one that faces the controller comes first, then those of the default routes.
    """
    sources = (source_address(target) for target in (controller_host, *ELSEWHERE) if target)
    found = [each for each in sources if each and _of_a_network(ipaddress.ip_address(each))]
    return list(dict.fromkeys(found))


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
