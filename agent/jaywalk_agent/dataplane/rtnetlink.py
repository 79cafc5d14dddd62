# SPDX-License-Identifier: GPL-3.0-or-later
"""Receives the kernel's events of links, addresses and routes of one network namespace (rtnetlink(7)).

:class:`Monitor` is the socket; :func:`parse` and :func:`differs` are pure.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jaywalk.core.ip import version_of
from jaywalk.core.runner import Runner
from jaywalk.wireguard.interface import Interface

from ..host.netns import open_socket

# Links, and addresses and routes of both IP versions (RTMGRP_LINK, RTMGRP_IPV4_IFADDR, ...).
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
# A machine that loads a routing table causes thousands of messages at a time.
BUFFER_BYTES = 1 << 20
# socket(7); beyond net.core.rmem_max, by CAP_NET_ADMIN.
SO_RCVBUFFORCE = 33
MESSAGE_BYTES = 1 << 16
# A flood of other programs' changes must not keep Monitor.receive from returning.
MESSAGES_PER_CALL = 4096

RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE, RTM_DELROUTE = 16, 17, 20, 21, 24, 25
NLM_F_REPLACE = 0x100
IFF_UP = 0x1
IFLA_IFNAME, IFLA_MTU = 3, 4
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF = 1, 4
RT_TABLE_MAIN, RTN_UNICAST, RTM_F_CLONED = 254, 1, 0x200
RT_TABLE_LOCAL, RTN_LOCAL = 255, 2

HEADER = struct.Struct("=IHHII")
LINK = struct.Struct("=BxHiII")
ADDRESS = struct.Struct("=BBBBI")
ROUTE = struct.Struct("=BBBBBBBBI")
ATTRIBUTE = struct.Struct("=HH")
NUMBER = struct.Struct("=I")


@dataclass(frozen=True)
class LinkEvent:
    """A link as it is now, or as it was when it was deleted (``gone``)."""

    index: int
    name: str
    up: bool
    mtu: int
    gone: bool = False


@dataclass(frozen=True)
class AddressEvent:
    """An address that was added to a link or deleted (``gone``); ``address`` has its prefix length."""

    index: int
    address: str
    gone: bool = False


@dataclass(frozen=True)
class RouteEvent:
    """A route that was added or deleted: in the main table, or a local route to an own address.

    ``replaces``: it replaced a route to the same prefix.
    """

    index: int
    prefix: str
    gone: bool = False
    replaces: bool = False


Event = LinkEvent | AddressEvent | RouteEvent


def parse(data: bytes) -> Iterator[Event]:
    """The events in one datagram of the kernel, without the kinds that the repair does not need."""
    while len(data) >= HEADER.size:
        length, kind, flags, _, _ = HEADER.unpack_from(data)
        if length < HEADER.size:
            return
        event = _event(kind, flags, data[HEADER.size : length])
        if event is not None:
            yield event
        data = data[_aligned(length) :]


def _event(kind: int, flags: int, body: bytes) -> Event | None:
    if kind in (RTM_NEWLINK, RTM_DELLINK):
        return _link(body, gone=kind == RTM_DELLINK)
    if kind in (RTM_NEWADDR, RTM_DELADDR):
        return _address(body, gone=kind == RTM_DELADDR)
    if kind in (RTM_NEWROUTE, RTM_DELROUTE):
        return _route(body, gone=kind == RTM_DELROUTE, replaces=bool(flags & NLM_F_REPLACE))
    return None


def _link(body: bytes, gone: bool) -> LinkEvent | None:
    family, _, index, flags, _ = LINK.unpack_from(body)
    if family != socket.AF_UNSPEC:
        # The kernel reports a port that leaves a bridge by the same message.
        return None
    found = dict(_attributes(body[LINK.size :]))
    name = found.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
    mtu = NUMBER.unpack(found[IFLA_MTU])[0] if IFLA_MTU in found else 0
    return LinkEvent(index, name, bool(flags & IFF_UP), mtu, gone)


def _address(body: bytes, gone: bool) -> AddressEvent | None:
    _, length, _, _, index = ADDRESS.unpack_from(body)
    found = dict(_attributes(body[ADDRESS.size :]))
    packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    return AddressEvent(index, f"{ipaddress.ip_address(packed)}/{length}", gone) if packed else None


def _route(body: bytes, gone: bool, replaces: bool) -> RouteEvent | None:
    family, length, _, _, table, _, _, kind, flags = ROUTE.unpack_from(body)
    known = ((RT_TABLE_MAIN, RTN_UNICAST), (RT_TABLE_LOCAL, RTN_LOCAL))
    if (table, kind) not in known or flags & RTM_F_CLONED:
        return None
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = dict(_attributes(body[ROUTE.size :]))
    host = ipaddress.ip_address(found.get(RTA_DST) or bytes(4 if family == socket.AF_INET else 16))
    index = NUMBER.unpack(found[RTA_OIF])[0] if RTA_OIF in found else 0
    return RouteEvent(index, f"{host}/{length}", gone, replaces)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(data)
        if length < ATTRIBUTE.size:
            return
        yield kind, data[ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return length + 3 & ~3


def differs(events: Sequence[Event], desired: Interface, index: int) -> bool:
    """Whether the events change something of ``desired``; ``index`` is that of its link, 0 for none."""
    # Only the last event of a link counts: a new link is down at first.
    links = {event.index: event for event in events if isinstance(event, LinkEvent)}
    if any(_link_differs(event, desired, index) for event in links.values()):
        return True
    own = [ipaddress.ip_interface(address) for address in desired.addresses]
    prefixes = desired.routes | {str(address.network) for address in own}
    prefixes |= {str(ipaddress.ip_network(address.ip)) for address in own}
    return any(
        _address_differs(event, desired, index)
        if isinstance(event, AddressEvent)
        else isinstance(event, RouteEvent) and event.prefix in prefixes and _is_lost(event, index)
        for event in events
    )


def _address_differs(event: AddressEvent, desired: Interface, index: int) -> bool:
    if event.index != index:
        return False
    if event.gone:
        return event.address in desired.addresses
    # A userspace interface gets a link-local address as soon as the kernel takes IPv6 there again; kernel
    # WireGuard gets none, and waits for the next full check.
    return not desired.ipv6 and version_of(event.address) == 6


def _is_lost(event: RouteEvent, index: int) -> bool:
    """Whether a route of ours was deleted, or replaced by another program's."""
    return event.index == index if event.gone else event.replaces and event.index != index


def _link_differs(event: LinkEvent, desired: Interface, index: int) -> bool:
    if event.gone:
        return event.index == index if index else event.name == desired.name
    if event.name != desired.name:
        # A renamed link keeps its index.
        return event.index == index
    other_mtu = desired.mtu is not None and event.mtu != desired.mtu
    return not event.up or event.index != index or other_mtu


class Monitor:
    """A socket that receives all changes in the network namespace of ``runner``.

    Raises ``OSError`` where there is no such namespace.
    """

    def __init__(self, runner: Runner) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        self.socket = open_socket(runner, socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            self.socket.bind((0, GROUPS))
        except OSError:
            self.socket.close()
            raise

    def receive(self) -> list[Event] | None:
        """The events since the last call; None if the kernel dropped some."""
        events: list[Event] = []
        for _ in range(MESSAGES_PER_CALL):
            try:
                events += parse(self.socket.recv(MESSAGE_BYTES))
            except BlockingIOError:
                return events
            except OSError:
                return None  # ENOBUFS
        return None

    def close(self) -> None:
        self.socket.close()
