# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine's own name and addresses, and the endpoint at which peers reach it."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import ip, validation
from ..core.errors import InvalidValue
from ..core.ip import Address, host_prefix, is_address, join_endpoint

# Per IP version, of possibly thousands of hosts.
MAX_HOSTS_TRIED = 64
MACHINE_ID = Path("/etc/machine-id")
_DECLARED = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:]+))(?::([0-9]+))?")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?")


@dataclass
class DeclaredEndpoint:
    """The endpoint that the operator set: an address or a DNS name, and a port.

    ``problem`` says why a name has no address now; its last address stays in use.
    """

    host: str
    port: int
    problem: str = ""
    _last: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str, listen_port: int) -> DeclaredEndpoint:
        """Parses ADDRESS, NAME, ADDRESS:PORT, [IPV6]:PORT or NAME:PORT; default port is ``listen_port``."""
        if is_address(text):
            return cls(validation.address(text, "local endpoint"), listen_port)
        parts = _DECLARED.fullmatch(text)
        bracketed, host, digits = parts.groups() if parts else ("", "", "")
        port = validation.port(digits, "local endpoint's port") if digits else listen_port
        if bracketed or (host and _is_like_an_address(host)):
            return cls(validation.address(bracketed or host, "local endpoint"), port)
        if host and _NAME.fullmatch(host):
            return cls(host, port)
        raise InvalidValue(
            f"the local endpoint {validation.shown(text)} does not parse",
            "give ADDRESS, NAME, ADDRESS:PORT, [IPV6]:PORT or NAME:PORT",
        )

    def endpoint(self, known: str = "") -> str:
        """The current endpoint, or empty; resolves a name, which may block.

        ``known`` is the last known address of the name.
        """
        if is_address(self.host):
            return join_endpoint(self.host, self.port)
        found = _usable_addresses(self.host)
        self._last = self._last or known
        # Of several addresses the one that peers know; some servers rotate them in each response.
        if found and self._last not in found:
            self._last = found[0]
        self.problem = "" if found else self._lost()
        return join_endpoint(self._last, self.port) if self._last else ""

    def _lost(self) -> str:
        stays = (
            f"its last address {self._last} stays" if self._last else "this node's own addresses stand for it"
        )
        return f"the name {self.host} of the local endpoint has no address that peers can reach: {stays}"


def _is_like_an_address(text: str) -> bool:
    """Whether the text is meant as an address: no name ends in a number (RFC 3696, section 2)."""
    return text.rstrip(".").rpartition(".")[2].isdigit()


def _usable_addresses(name: str) -> list[str]:
    """The addresses of ``name`` that other machines may reach, in the resolver's order."""
    try:
        found = socket.getaddrinfo(name, 9, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return []
    addresses = dict.fromkeys(str(info[4][0]) for info in found)
    return [
        address
        for address in addresses
        if "%" not in address and _of_a_network(ipaddress.ip_address(address))
    ]


def host_label() -> str:
    """This machine's name as a DNS label; derived from its machine-id if it has no name."""
    label = (
        re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().split(".")[0].lower()).strip("-")[:63].rstrip("-")
    )
    return label if label and label not in validation.PLACEHOLDER_NAMES else _nameless()


def _nameless() -> str:
    """A name with a hash of the machine-id, which itself is confidential (machine-id(5))."""
    try:
        number = MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        number = ""
    return f"node-{hashlib.sha256(f'jaywalk {number}'.encode()).hexdigest()[:6]}" if number else "node"


def endpoint_fields(controller_host: str, listen_port: int, declared: str = "") -> dict[str, Any]:
    """The fields of a request for this node's endpoint: the operator's ``declared`` one, else its own.

    The endpoint is empty if this node has no address; its peers then wait for its first packet.
    """
    if declared:
        return {"endpoint": declared, "fixed": True}
    first, *others = own_addresses(controller_host) or [""]
    return {"endpoint": join_endpoint(first, listen_port) if first else "", "local": tuple(others)}


def own_addresses(controller_host: str) -> list[str]:
    """This machine's source addresses, without duplicates.

    The one towards the controller comes first, then those of the default routes.
    """
    sources = (source_address(target) for target in (controller_host, *ip.DEFAULT_ROUTE_TARGETS) if target)
    found = [address for address in sources if address and _of_a_network(ipaddress.ip_address(address))]
    return list(dict.fromkeys(found))


def ip_versions(hosts: Iterable[str]) -> frozenset[int]:
    """The IP versions with a route to ``hosts`` or a default route.

    Both if there is none, since a machine without a network may soon have one.
    """
    left: dict[int, list[str]] = {4: [], 6: []}
    for host in (*ip.DEFAULT_ROUTE_TARGETS, *hosts):
        some = left[ipaddress.ip_address(host).version]
        if len(some) < MAX_HOSTS_TRIED:
            some.append(host)
    found = {version for version, some in left.items() if any(_is_way(host) for host in some)}
    return frozenset(found) or frozenset(left)


def _is_way(host: str) -> bool:
    source = source_address(host)
    return bool(source) and _of_a_network(ipaddress.ip_address(source))


def source_address(target: str) -> str:
    """The source address for packets to ``target``; sends no packet."""
    try:
        family, kind, _proto, _name, where = socket.getaddrinfo(target, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)
            return str(probe.getsockname()[0])
    except (OSError, UnicodeError):
        return ""


def host_prefixes(host: str) -> list[str]:
    """The addresses of ``host`` as prefixes; none if it does not resolve or is this machine."""
    if not host:
        return []
    try:
        found = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return []
    addresses = {ipaddress.ip_address(str(info[4][0])) for info in found}
    return sorted(host_prefix(str(address)) for address in addresses if _of_a_network(address))


def _of_a_network(address: Address) -> bool:
    return not address.is_loopback and not address.is_link_local
