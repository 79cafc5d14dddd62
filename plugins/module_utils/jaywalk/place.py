# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine knows of its own place in the network: its name, and where its peers reach it."""

from __future__ import annotations

import ipaddress
import re
import socket

from .values import host_prefix, join_endpoint

ELSEWHERE = "192.0.2.1"
"""An address of the documentation range (RFC 5737): its route is the default route."""


def host_label() -> str:
    """This machine's name as a DNS label."""
    label = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")
    return label[:63].rstrip("-") or "node"


def own_endpoint(controller_host: str, listen_port: int) -> str:
    """The address that faces the controller, else the one of the default route, with ``listen_port``.

    Empty where the machine has no address to offer; its peers then wait for it to speak first.
    """
    for target in (controller_host, ELSEWHERE):
        source = source_address(target)
        if source and not ipaddress.ip_address(source).is_loopback:
            return join_endpoint(source, listen_port)
    return ""


def source_address(target: str) -> str:
    """The address from which this machine would speak to ``target``; no packet is sent."""
    try:
        family, kind, _proto, _name, where = socket.getaddrinfo(target, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def controller_prefix(controller_host: str) -> list[str]:
    """The controller's address as a prefix, which no peer may announce; empty where it does not resolve."""
    try:
        where = socket.getaddrinfo(controller_host, 9, type=socket.SOCK_DGRAM)[0][4][0]
    except OSError:
        return []
    parsed = ipaddress.ip_address(str(where))
    return [] if parsed.is_loopback else [host_prefix(str(parsed))]
