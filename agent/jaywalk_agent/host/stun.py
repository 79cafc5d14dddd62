# SPDX-License-Identifier: GPL-3.0-or-later
"""What STUN servers that an operator names see of this machine (RFC 5389): a label, never an endpoint.

A mesh needs none of them: what open peers see is right by construction.  All are asked at once from one
socket; whatever they answer, or if they do not, it is over after ``DEADLINE`` seconds.  Of which kind a NAT
is tells pystun3 (:mod:`.nat_kind`), and where it cannot, the ports that two servers see.
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
DEADLINE = 1.5
FIRST_REPEAT = 0.25
MOST_SERVERS = 8
COOKIE = 0x2112A442
BINDING, SUCCESS = 0x0001, 0x0101
MAPPED, XOR_MAPPED = 0x0001, 0x0020
_HEADER = struct.Struct("!HHI12s")


def ask(servers: Sequence[str]) -> dict[str, str]:
    """What each server (``HOST[:PORT]``) says: an endpoint, or in words why it says none."""
    ids = {secrets.token_bytes(12): server for server in servers[:MOST_SERVERS]}
    said = dict.fromkeys(ids.values(), "does not answer")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        waiting = dict(ids)
        places = {number: _place(server, said) for number, server in ids.items()}
        until, pause = time.monotonic() + DEADLINE, FIRST_REPEAT
        while waiting and (left := until - time.monotonic()) > 0:
            for number in waiting:
                if (place := places[number]) is not None:
                    link.sendto(_HEADER.pack(BINDING, 0, COOKIE, number), place)
            _hear(link, min(pause, left), waiting, said, places)
            pause *= 2
    return said


def _place(server: str, said: dict[str, str]) -> tuple[str, int] | None:
    try:
        host, _, digits = server.partition(":")
        port = validation.port(digits or PORT, "STUN server's port")
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)
        return str(found[0][4][0]), int(found[0][4][1])
    except (InvalidValue, OSError, UnicodeError) as error:
        said[server] = f"cannot be found ({error})"
        return None


def _hear(
    link: socket.socket,
    pause: float,
    waiting: dict[bytes, str],
    said: dict[str, str],
    places: dict[bytes, tuple[str, int] | None],
) -> None:
    until = time.monotonic() + pause
    while waiting and (left := until - time.monotonic()) > 0:
        if not select.select([link], [], [], left)[0]:
            return
        data, place = link.recvfrom(2048)
        number = data[8:20]
        if number in waiting and places[number] == place:
            said[waiting.pop(number)] = mapped(data) or "answers, but not with an address"
            continue
        for server in (waiting[each] for each in waiting if places[each] == place):
            said[server] = "answers, but not as a STUN server does"


def mapped(data: bytes) -> str:
    """The endpoint in a server's answer; empty where there is none to be believed."""
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[0] != SUCCESS:
        return ""
    found: dict[int, str] = {}
    at = _HEADER.size
    while at + 4 <= len(data):
        kind, length = struct.unpack_from("!HH", data, at)
        if kind in (MAPPED, XOR_MAPPED) and length == 8 and at + 12 <= len(data):
            found[kind] = _endpoint(data[at + 4 : at + 12], kind == XOR_MAPPED)
        at += 4 + (length + 3) // 4 * 4
    return found.get(XOR_MAPPED) or found.get(MAPPED, "")


def _endpoint(value: bytes, hidden: bool) -> str:
    family, port, address = struct.unpack("!xBHI", value)
    if hidden:
        port, address = port ^ COOKIE >> 16, address ^ COOKIE
    try:
        return validation.endpoint(f"{ipaddress.IPv4Address(address)}:{port}") if family == 1 else ""
    except InvalidValue:
        return ""


def examine(servers: Sequence[str], own: Sequence[str]) -> tuple[bool, str]:
    """Whether peers can be met, as far as STUN tells, and sentences; ``own`` are our addresses."""
    said = ask(servers)
    well, sentence = label(said, own)
    places = {server: _place(server, {}) for server, each in said.items() if _is_endpoint(each)}
    kinds = nat_kind.ask((server, *place) for server, place in places.items() if place is not None)
    told = [f"{server} says {nat_kind.WORDS[kind.label]}" for server, kind in kinds.items() if kind.label]
    untold = [f"{server} {kind.reason}" for server, kind in kinds.items() if kind.reason]
    if told:
        well &= not any(kind.label == nat_kind.SYMMETRIC for kind in kinds.values())
        return well, f"{sentence}. Its kind: {', '.join(told)}"
    return well, f"{sentence}. Of its kind no server tells more: {', '.join(untold)}" if untold else sentence


def label(said: dict[str, str], own: Sequence[str]) -> tuple[bool, str]:
    """Whether peers can be met, as far as the servers' addresses tell, and a sentence."""
    seen = {server: each for server, each in said.items() if _is_endpoint(each)}
    silent = "; ".join(f"{server} {each}" for server, each in said.items() if server not in seen)
    beside = f" ({silent})" if silent else ""
    if not seen:
        return False, f"no STUN server tells where this node is: {silent}"
    hosts = {ip.host_of(each) for each in seen.values()}
    if len(hosts) > 1:
        names = ", ".join(f"{server} says {each}" for server, each in seen.items())
        return False, f"the servers contradict each other, or there are several ways out: {names}{beside}"
    if hosts <= set(own):
        return True, f"no NAT: {', '.join(seen)} see this machine's own address{beside}"
    if len(set(seen.values())) > 1:
        return False, f"a symmetric NAT at {hosts.pop()}: each server sees another port{beside}"
    if len(seen) == 1:
        return (
            True,
            f"a NAT at {hosts.pop()}; a second server would tell if it has one port for all{beside}",
        )
    return True, f"a NAT at {hosts.pop()} that shows all servers one port, so that peers can be met{beside}"


def _is_endpoint(text: str) -> bool:
    try:
        return bool(validation.endpoint(text))
    except InvalidValue:
        return False
