# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks single values: each function returns the canonical spelling or raises ``InvalidValue``.

Both ends use them: the supervisor checks what a node sends, the agent checks what the supervisor sends.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from datetime import datetime, timezone

from .errors import InvalidValue
from .ip import Address, host_of, host_prefix, is_machines, join_endpoint, overlapping
from .text import printable

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MACHINE_MARK = re.compile(r"[0-9a-f]{8}")
_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_NETNS = re.compile(r"[A-Za-z0-9_.-]{1,64}")
# Names that have another meaning to ``wg show`` and sysctl.
_INTERFACE_WORDS = ("all", "default", "interfaces")
# Loopback and link-local (RFC 6890); a cloud serves each machine its secrets at 169.254.169.254.
_OF_EACH_MACHINE = tuple(
    ipaddress.ip_network(text) for text in ("127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10")
)
_ENDPOINT = re.compile(r"(?:\[([^\[\]]*)\]|([^:]*)):([0-9]{1,10})")
_TRUE = ("1", "t", "true", "yes", "on")
_FALSE = ("0", "f", "false", "no", "off")
# A longer number is out of every range, and takes time to parse.
_DIGITS = 10


def dns_label(text: object, what: str = "name") -> str:
    """A DNS label (RFC 1123): lower-case letters, digits and inner hyphens, at most 63."""
    if isinstance(text, str) and _DNS_LABEL.fullmatch(text):
        return text
    raise InvalidValue(
        f"the {what} {shown(text)} is no DNS label",
        "use 1 to 63 lower-case letters, digits and inner hyphens",
    )


# The host names of machines that nobody named.
PLACEHOLDER_NAMES = frozenset(
    {"localhost", "localdomain", "localhost-localdomain", "ip6-localhost", "ip6-loopback"}
)


def node_name(text: object) -> str:
    """A node's name in its zone: a DNS label that is not the name of an unnamed machine."""
    label = dns_label(text)
    if label in PLACEHOLDER_NAMES:
        raise InvalidValue(
            f"the name {label} is what any machine calls itself", "give this node a name of its own"
        )
    return label


def zone_name(text: object) -> str:
    """A zone's name is a DNS label."""
    return dns_label(text, "zone")


def machine_id(text: object) -> str:
    """The id that distinguishes two machines with the same key; empty for none."""
    if isinstance(text, str) and (not text or _MACHINE_MARK.fullmatch(text)):
        return text
    raise InvalidValue(f"the machine id {shown(text)} is invalid", "send 8 hex digits")


def interface_name(text: object) -> str:
    """A network interface's name that Linux accepts: at most 15 characters."""
    if isinstance(text, str) and _INTERFACE.fullmatch(text) and text not in _INTERFACE_WORDS:
        return text
    raise InvalidValue(
        f"the interface name {shown(text)} is not usable", "use 1 to 15 letters, digits, '_', '.' or '-'"
    )


def netns_name(text: object) -> str:
    """A network namespace's name, which is a file name (ip-netns(8))."""
    if isinstance(text, str) and _NETNS.fullmatch(text) and text not in (".", ".."):
        return text
    raise InvalidValue(
        f"the network namespace {shown(text)} is not usable",
        "use 1 to 64 letters, digits, '_', '.' or '-', as in 'ip netns add red'",
    )


def boolean(text: object, what: str) -> bool:
    """Parses what Go's strconv.ParseBool accepts, or yes, no, on, off; upper or lower case."""
    word = text.lower() if isinstance(text, str) else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise InvalidValue(
        f"{what} is neither true nor false", "give true or false (1 or 0, yes or no, on or off)"
    )


def port(value: object, what: str = "port") -> int:
    """A UDP or TCP port from 1 to 65535."""
    number = _integer(value)
    if number is None or not 1 <= number <= 65535:
        raise InvalidValue(f"the {what} {shown(value)} is out of range", "use 1 to 65535")
    return number


def keepalive(value: object) -> int:
    """Seconds between keepalives, 0 for none (wg(8))."""
    number = _integer(value)
    if number is None or not 0 <= number <= 65535:
        raise InvalidValue(f"the keepalive {shown(value)} is out of range", "use 0 to 65535 seconds")
    return number


MAX_SECONDS = 315_360_000  # ten years


def seconds(value: object, what: str) -> int:
    """A time span in whole seconds, up to ten years."""
    number = _integer(value)
    if number is None or not 0 <= number <= MAX_SECONDS:
        raise InvalidValue(f"the {what} {shown(value)} is out of range", f"use 0 to {MAX_SECONDS} seconds")
    return number


def iso_time(seconds: float) -> str:
    """A time (seconds since 1970) in ISO 8601: ``2026-11-22T15:47:03Z``."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def mtu(value: object, least: int = 1280) -> int:
    """An interface's MTU in bytes; 1280 is the minimum for IPv6 (RFC 8200, section 5)."""
    number = _integer(value)
    if number is None or not least <= number <= 65535:
        raise InvalidValue(f"the MTU {shown(value)} is out of range", f"use {least} to 65535 bytes")
    return number


def address(text: object, what: str = "address") -> str:
    """An IPv4 or IPv6 address that one host can have."""
    if isinstance(text, str) and _is_plain(text):
        return text
    try:
        parsed = ipaddress.ip_address(text if isinstance(text, str) else "")
    except ValueError:
        raise InvalidValue(f"the {what} {shown(text)} is no IP address", "give one like 10.20.0.30") from None
    if parsed.is_unspecified or parsed.is_multicast or "%" in str(parsed) or _embeds_ipv4(parsed):
        raise InvalidValue(f"the {what} {shown(text)} is no host's address", "give one like 10.20.0.30")
    return str(parsed)


def local_address(text: object) -> str:
    """An address at which a node's neighbours reach it: neither loopback nor link-local."""
    found = address(text, "local address")
    if overlapping(_OF_EACH_MACHINE, host_prefix(found)) is not None:
        raise InvalidValue(
            f"the local address {shown(text)} is one that each machine has", "give one of a network"
        )
    return found


def machine_address(text: object) -> str:
    """A local address that a machine on a network can have (:func:`.ip.is_machines`)."""
    found = local_address(text)
    if not is_machines(found):
        raise InvalidValue(
            f"the local address {shown(text)} is no machine's", "give one that peers can reach"
        )
    return found


def network(text: object, what: str = "prefix") -> str:
    """A prefix, normalised to its network: ``172.20.1.9/24`` is ``172.20.1.0/24``."""
    try:
        parsed = ipaddress.ip_network(text if isinstance(text, str) else "", strict=False)
    except ValueError:
        raise InvalidValue(f"the {what} {shown(text)} is no prefix", "give one like 172.20.1.0/24") from None
    first = parsed.network_address
    foreign = parsed.is_multicast or first.is_loopback or "%" in str(text)
    if foreign or (parsed.prefixlen and _embeds_ipv4(first)):
        raise InvalidValue(
            f"the {what} {shown(text)} cannot lie behind a peer", "give one like 172.20.1.0/24"
        )
    return str(parsed)


def child_prefix(text: object) -> str:
    """A prefix that a peer may announce: normalised, and never the default route or a half of it."""
    prefix = network(text, "child prefix")
    if prefix.endswith("/0"):
        raise InvalidValue(f"the child prefix {prefix} is the default route", "announce a smaller prefix")
    kept = overlapping(_OF_EACH_MACHINE, prefix)
    if kept is not None:
        raise InvalidValue(
            f"the child prefix {prefix} covers {kept}, which each machine has for itself",
            "announce a smaller prefix",
        )
    return prefix


def interface_address(text: object) -> str:
    """An address with its prefix length, as an interface carries it: ``10.20.0.1/20``."""
    try:
        parsed = ipaddress.ip_interface(text if isinstance(text, str) else "")
    except ValueError:
        raise InvalidValue(
            f"the address {shown(text)} does not parse", "give one like 10.20.0.1/20"
        ) from None
    host, length = str(parsed).split("/")
    return f"{address(host)}/{length}"


def endpoint(text: object) -> str:
    """Where a peer's WireGuard listens: ``192.0.2.1:51820`` or ``[2001:db8::1]:51820``."""
    parts = _ENDPOINT.fullmatch(text) if isinstance(text, str) else None
    if parts is None:
        bare = isinstance(text, str) and text.count(":") > 1 and "[" not in text
        fault = "has an IPv6 address without brackets" if bare else "does not parse"
        raise InvalidValue(
            f"the endpoint {shown(text)} {fault}", "give ADDRESS:PORT, with an IPv6 address in brackets"
        )
    bracketed, plain, digits = parts.groups()
    host = bracketed or plain or ""
    if not _is_plain(host):
        host = address(host, f"endpoint {shown(text)} with address")
    if host.startswith("127.") or host == "::1":
        raise InvalidValue(
            f"the endpoint {shown(text)} is a loopback address", "give one that peers can reach"
        )
    return join_endpoint(host, port(int(digits), "endpoint's port"))


def machine_endpoint(text: object) -> str:
    """An endpoint whose address a machine on a network can have (:func:`.ip.is_machines`)."""
    found = endpoint(text)
    if not is_machines(host_of(found)):
        raise InvalidValue(
            f"the endpoint {shown(text)} is no address of a machine on a network",
            "give one that peers can reach",
        )
    return found


def _is_plain(text: str) -> bool:
    """Whether this is certainly a host's address in canonical spelling.

    Nearly all are, each agent parses those of all peers, and ``ipaddress`` takes ten times as long.
    """
    family, foreign = (socket.AF_INET6, 0xFF) if ":" in text else (socket.AF_INET, 224)
    try:
        packed = socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return 0 < packed[0] < foreign and socket.inet_ntop(family, packed) == text


def _embeds_ipv4(parsed: Address) -> bool:
    """Whether this is IPv4-mapped or IPv4-compatible IPv6 (RFC 4291), which programs spell differently."""
    return parsed.version == 6 and not parsed.is_loopback and int(parsed) >> 32 in (0, 0xFFFF)


def _integer(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
        return int(value)
    return None


def shown(value: object) -> str:
    """``value`` as an error quotes it: printable, and no longer than a line."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or a deeply nested list
        text = type(value).__name__
    return f"'{printable(text[:80])}'" + ("..." if len(text) > 80 else "")
