# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine's endpoint as an operator's STUN servers observe it (RFC 5389): a finding, never an endpoint.

A mesh needs no STUN server, since open peers observe the endpoints of the others.  One socket sends requests
to all servers at once, and the result is complete after ``DEADLINE_SECONDS``, whatever the servers reply.
pystun3 (:mod:`.nat_kind`) determines the kind of the NAT, or else the ports that two servers observe do.
"""

from __future__ import annotations

import ipaddress
import secrets
import select
import socket
import struct
import time
from collections.abc import Sequence

from jaywalk.core import ip, validation
from jaywalk.core.errors import InvalidValue

from . import nat_kind

PORT = 3478
DEADLINE_SECONDS = 1.5
# The interval of requests to a server that does not reply doubles with each.
FIRST_INTERVAL_SECONDS = 0.25
MAX_SERVERS = 8
MAGIC_COOKIE = 0x2112A442
BINDING_REQUEST, BINDING_SUCCESS = 0x0001, 0x0101
MAPPED_ADDRESS, XOR_MAPPED_ADDRESS = 0x0001, 0x0020
_HEADER = struct.Struct("!HHI12s")

SocketAddress = tuple[str, int]


def query(servers: Sequence[str]) -> dict[str, str]:
    """The endpoint that each server (``HOST[:PORT]``) returns, or the reason why it returns none."""
    transactions = {secrets.token_bytes(12): server for server in servers[:MAX_SERVERS]}
    results = dict.fromkeys(transactions.values(), "does not respond")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        waiting = dict(transactions)
        addresses = {number: _resolve(server, results) for number, server in transactions.items()}
        until, interval = time.monotonic() + DEADLINE_SECONDS, FIRST_INTERVAL_SECONDS
        while waiting and (left := until - time.monotonic()) > 0:
            for number in waiting:
                if (address := addresses[number]) is not None:
                    sock.sendto(_HEADER.pack(BINDING_REQUEST, 0, MAGIC_COOKIE, number), address)
            _receive(sock, min(interval, left), waiting, results, addresses)
            interval *= 2
    return results


def _resolve(server: str, results: dict[str, str]) -> SocketAddress | None:
    try:
        host, _, digits = server.partition(":")
        port = validation.port(digits or PORT, "STUN server's port")
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)
        return str(found[0][4][0]), int(found[0][4][1])
    except (InvalidValue, OSError, UnicodeError) as error:
        results[server] = f"cannot be found ({error})"
        return None


def _receive(
    sock: socket.socket,
    seconds: float,
    waiting: dict[bytes, str],
    results: dict[str, str],
    addresses: dict[bytes, SocketAddress | None],
) -> None:
    until = time.monotonic() + seconds
    while waiting and (left := until - time.monotonic()) > 0:
        if not select.select([sock], [], [], left)[0]:
            return
        data, sender = sock.recvfrom(2048)
        number = data[8:20]
        if number in waiting and addresses[number] == sender:
            results[waiting.pop(number)] = mapped_endpoint(data) or "responds without an address"
            continue
        for server in (waiting[known] for known in waiting if addresses[known] == sender):
            results[server] = "sends no valid STUN response"


def mapped_endpoint(data: bytes) -> str:
    """The endpoint in a server's response, or "" if the response is invalid or holds none."""
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[0] != BINDING_SUCCESS:
        return ""
    found: dict[int, str] = {}
    at = _HEADER.size
    while at + 4 <= len(data):
        kind, length = struct.unpack_from("!HH", data, at)
        if kind in (MAPPED_ADDRESS, XOR_MAPPED_ADDRESS) and length == 8 and at + 12 <= len(data):
            found[kind] = _endpoint(data[at + 4 : at + 12], kind == XOR_MAPPED_ADDRESS)
        at += 4 + (length + 3) // 4 * 4
    return found.get(XOR_MAPPED_ADDRESS) or found.get(MAPPED_ADDRESS, "")


def _endpoint(value: bytes, has_xor: bool) -> str:
    family, port, address = struct.unpack("!xBHI", value)
    if has_xor:
        port, address = port ^ MAGIC_COOKIE >> 16, address ^ MAGIC_COOKIE
    try:
        return validation.endpoint(f"{ipaddress.IPv4Address(address)}:{port}") if family == 1 else ""
    except InvalidValue:
        return ""


def examine(servers: Sequence[str], own: Sequence[str]) -> tuple[bool, str]:
    """Whether direct paths to peers are possible, as far as STUN shows, and a sentence.

    ``own`` are the addresses of this machine.
    """
    results = query(servers)
    good, sentence = finding(results, own)
    addresses = {server: _resolve(server, {}) for server, text in results.items() if _is_endpoint(text)}
    kinds = nat_kind.query((server, *found) for server, found in addresses.items() if found is not None)
    labels = {server: kind.label for server, kind in kinds.items() if kind.label}
    known = [f"{nat_kind.DESCRIPTIONS[label]} ({server})" for server, label in labels.items()]
    unknown = [f"{server} {kind.reason}" for server, kind in kinds.items() if kind.reason]
    if known:
        good &= nat_kind.SYMMETRIC not in labels.values()
        return good, f"{sentence}. The kind: {', '.join(known)}"
    return good, f"{sentence}. No server determines the kind: {', '.join(unknown)}" if unknown else sentence


def finding(results: dict[str, str], own: Sequence[str]) -> tuple[bool, str]:
    """Whether direct paths to peers are possible, as far as the endpoints show, and a sentence."""
    endpoints = {server: text for server, text in results.items() if _is_endpoint(text)}
    failures = "; ".join(f"{server} {text}" for server, text in results.items() if server not in endpoints)
    suffix = f" ({failures})" if failures else ""
    if not endpoints:
        return False, f"no STUN server returns an endpoint of this node: {failures}"
    hosts = {ip.host_of(endpoint) for endpoint in endpoints.values()}
    if len(hosts) > 1:
        names = ", ".join(f"{server} returns {endpoint}" for server, endpoint in endpoints.items())
        return False, f"the servers contradict each other, or there are several uplinks: {names}{suffix}"
    if hosts <= set(own):
        return True, f"no NAT: {', '.join(endpoints)} returned this machine's own address{suffix}"
    if len(set(endpoints.values())) > 1:
        return False, f"a symmetric NAT at {hosts.pop()}: each server observes another port{suffix}"
    if len(endpoints) == 1:
        return True, f"a NAT at {hosts.pop()}; only a second server shows if it is symmetric{suffix}"
    return True, f"a NAT at {hosts.pop()} with one port for all servers: direct paths are possible{suffix}"


def _is_endpoint(text: str) -> bool:
    try:
        return bool(validation.endpoint(text))
    except InvalidValue:
        return False
