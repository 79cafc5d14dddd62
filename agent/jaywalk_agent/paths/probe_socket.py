# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes and replies inside the tunnel: UDP datagrams on one interface.

A probe comes from any port and has at least ``SIZE`` bytes.  Its reply goes to that port and is as large as
the probe, or as the MTU of the replying interface allows.  Earlier versions answered probes of ``SIZE``
bytes only, and to ``PORT`` only: to ``jaywalk ping`` they look like nodes without an agent.
"""

from __future__ import annotations

import errno
import fcntl
import secrets
import socket
import struct
import sys
from collections.abc import Iterator
from enum import Enum
from typing import Any

from jaywalk.core.runner import Runner

from ..host.netns import open_socket

# UDP, on the mesh address of each node; a node that does not answer there counts as one without an agent.
PORT = 51819
PROBE, REPLY = b"jaywalk?", b"jaywalk!"
# The smallest probe in bytes: its kind, the cookie of the sender (8 bytes), zeros.
SIZE = 36
COOKIE = slice(len(PROBE), len(PROBE) + 8)
# The bytes of the IP and UDP headers before a probe, by IP version.
HEADERS = {4: 28, 6: 48}
SIOCGIFMTU = 0x8921
IPV6_MTU_DISCOVER, IPV6_DONTFRAG = 23, 62
# ip(7), ipv6(7): never fragment, whatever path MTU the kernel assumes.
IP_MTU_DISCOVER, PMTUDISC_PROBE = 10, 3
# IP_RECVERR and IPV6_RECVERR (ip(7)) with their levels: report ICMP errors.
RECVERR = {socket.AF_INET: (0, 11), socket.AF_INET6: (41, 25)}
MSG_ERRQUEUE = 0x2000
# The start of a sock_extended_err: the error, and its origin.
EXTENDED_ERROR = struct.Struct("=IB")
FROM_ICMP = (2, 3)
# The overhead of a data message of WireGuard, and the block size of its padding.
WIREGUARD_BYTES, PADDING_BYTES = 32, 16
# Holds the replies of a thousand peers that were probed at once; a datagram takes 768 bytes.
RECEIVE_BUFFER_BYTES = 1 << 20
# socket(7); exceeds net.core.rmem_max, with CAP_NET_ADMIN.
SO_RCVBUFFORCE = 33
# Datagrams handled per call, so that a flood of probes does not keep the agent busy.
MAX_DATAGRAMS = 256


class Received(Enum):
    """The kind of a datagram.

    A ``PROBE`` is answered already.  ``PORT_UNREACHABLE`` (ICMP) comes from the peer's kernel: no agent
    listens there, and the tunnel works.
    """

    PROBE = "probe"
    REPLY = "reply"
    PORT_UNREACHABLE = "port unreachable"


class ProbeSocket:
    """A socket bound to one interface, so that probes and replies use no other path.

    ``address`` is this node's mesh address, in the network namespace of ``runner``.  Raises ``OSError`` while
    it or the interface does not exist.
    """

    def __init__(self, interface: str, address: str, runner: Runner) -> None:
        self._cookie = secrets.token_bytes(8)
        self._interface = interface
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = open_socket(runner, family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
            # Before bind(2): sockets of other interfaces have the same address and port.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            never_fragment(self.socket)
            self.socket.setsockopt(*RECVERR[self.socket.family], 1)
            self.socket.bind((address, PORT))
        except OSError:
            self.socket.close()
            raise

    def send(self, host: str) -> None:
        self._send(PROBE + self._cookie, (host, PORT))

    def receive(self) -> Iterator[tuple[str, Received, int]]:
        """The sender, the kind and the size on the wire (bytes) of each datagram; answers probes."""
        yield from ((host, Received.PORT_UNREACHABLE, 0) for host in self._port_unreachable())
        for _ in range(MAX_DATAGRAMS):
            try:
                data, sender = self.socket.recvfrom(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                continue  # the error of an earlier probe, which is in the error queue, too
            if len(data) < SIZE:
                continue
            if data.startswith(PROBE):
                self._reply(data, sender)
                yield sender[0], Received.PROBE, self._wire_bytes(data)
            elif data.startswith(REPLY + self._cookie):
                yield sender[0], Received.REPLY, self._wire_bytes(data)

    def _port_unreachable(self) -> Iterator[str]:
        while True:
            try:
                _, errors, _, sender = self.socket.recvmsg(SIZE, 512, MSG_ERRQUEUE)
            except OSError:
                return
            for level, kind, data in errors:
                if (level, kind) == RECVERR[self.socket.family] and len(data) >= EXTENDED_ERROR.size:
                    number, origin = EXTENDED_ERROR.unpack_from(data)
                    if number == errno.ECONNREFUSED and origin in FROM_ICMP:
                        yield sender[0]

    def _wire_bytes(self, data: bytes) -> int:
        inner = len(data) + HEADERS[6 if self.socket.family == socket.AF_INET6 else 4]
        return -(-inner // PADDING_BYTES) * PADDING_BYTES + WIREGUARD_BYTES

    def close(self) -> None:
        self.socket.close()

    def _reply(self, probe: bytes, sender: tuple[Any, ...]) -> None:
        data = REPLY + probe[COOKIE]
        if not self._send(data.ljust(len(probe), b"\0"), sender):
            self._send(data.ljust(self._largest(), b"\0"), sender)

    def _largest(self) -> int:
        """Bytes of the largest datagram that the interface sends unfragmented."""
        request = struct.pack("16sI", self._interface.encode(), 0) + bytes(12)
        mtu: int = struct.unpack_from("16xI", fcntl.ioctl(self.socket, SIOCGIFMTU, request))[0]
        return max(SIZE, mtu - HEADERS[6 if self.socket.family == socket.AF_INET6 else 4])

    def _send(self, data: bytes, sender: tuple[Any, ...]) -> bool:
        """Sends a datagram; returns False if it is too large for the interface."""
        for _ in range(2):
            try:
                self.socket.sendto(data.ljust(SIZE, b"\0"), sender)
            except ConnectionRefusedError:
                continue  # of an earlier probe; nothing was sent
            except OSError as error:
                # No endpoint, no route, a full queue: the missing reply counts.
                return error.errno != errno.EMSGSIZE
            break
        return True


def never_fragment(sock: socket.socket) -> None:
    """Disables fragmentation on a socket, where the platform supports it."""
    if not sys.platform.startswith("linux"):
        return
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
