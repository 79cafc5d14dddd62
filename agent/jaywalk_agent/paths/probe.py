# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions and answers inside the tunnel: datagrams on one interface, sealed like all in it.

A question comes from any port and has any size from ``SIZE`` up; its answer goes back to that port and is
as large, or as large as the answering interface lets out.  A version before that answered questions of
``SIZE`` bytes only, and to ``PORT`` only: to ``jaywalk ping`` it looks like a node without an agent.
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

PORT = 51819
"""UDP, on the mesh address of each node; whoever cannot be asked there counts as one without an agent."""
QUESTION, ANSWER = b"jaywalk?", b"jaywalk!"
SIZE = 36
"""Bytes of the smallest question: its kind, the asker's mark (8 bytes), zeros."""
MARK = slice(len(QUESTION), len(QUESTION) + 8)
HEADERS = {4: 28, 6: 48}
"""Bytes of the IP and UDP headers before a question, by IP version."""
SIOCGIFMTU = 0x8921
IPV6_MTU_DISCOVER, IPV6_DONTFRAG = 23, 62
IP_MTU_DISCOVER, PMTUDISC_PROBE = 10, 3
"""ip(7), ipv6(7): never in fragments, whatever the kernel thinks of the path's MTU."""
RECVERR = {socket.AF_INET: (0, 11), socket.AF_INET6: (41, 25)}
"""IP_RECVERR and IPV6_RECVERR (ip(7)) with their levels: have ICMP errors reported."""
MSG_ERRQUEUE = 0x2000
EXTENDED_ERROR = struct.Struct("=IB")
"""The start of a sock_extended_err: the error, and its origin."""
FROM_ICMP = (2, 3)
WIREGUARD_BYTES, PADDING = 32, 16
"""Of a data message around what it carries, which is padded."""
ROOM = 1 << 20
"""Bytes for what comes in: answers of a thousand peers that were asked at once; a datagram takes 768."""
SO_RCVBUFFORCE = 33
"""socket(7); beyond net.core.rmem_max, by CAP_NET_ADMIN."""
MOST = 256
"""Datagrams taken in at a time, so that nobody can keep an agent busy with questions."""


class Heard(Enum):
    """What a datagram was."""

    QUESTION = "question"
    """It is answered already."""
    ANSWER = "answer"
    REFUSAL = "refusal"
    """The peer's kernel says that no agent listens there (ICMP port unreachable): the tunnel works."""


class ProbeSocket:
    """A socket bound to one interface, so that questions take no other way and answers come by none.

    ``address`` is this node's in the mesh.  Raises ``OSError`` while it or the interface is not there.
    """

    def __init__(self, interface: str, address: str) -> None:
        self._mark = secrets.token_bytes(8)
        self._interface = interface
        self.socket = socket.socket(
            socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        )
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
            # Before it is bound: sockets of other interfaces have the same address and port.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            never_fragment(self.socket)
            self.socket.setsockopt(*RECVERR[self.socket.family], 1)
            self.socket.bind((address, PORT))
        except OSError:
            self.socket.close()
            raise

    def ask(self, host: str) -> None:
        self._send(QUESTION + self._mark, (host, PORT))

    def heard(self) -> Iterator[tuple[str, Heard, int]]:
        """Who was heard, what it was, and how many bytes WireGuard took for it; questions are answered."""
        yield from ((host, Heard.REFUSAL, 0) for host in self._refusals())
        for _ in range(MOST):
            try:
                data, where = self.socket.recvfrom(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                continue  # the error of an earlier question, which stands in the queue of errors, too
            if len(data) < SIZE:
                continue
            if data.startswith(QUESTION):
                self._answer(data, where)
                yield where[0], Heard.QUESTION, self._sealed(data)
            elif data.startswith(ANSWER + self._mark):
                yield where[0], Heard.ANSWER, self._sealed(data)

    def _refusals(self) -> Iterator[str]:
        while True:
            try:
                _, errors, _, where = self.socket.recvmsg(SIZE, 512, MSG_ERRQUEUE)
            except OSError:
                return
            for level, kind, data in errors:
                if (level, kind) == RECVERR[self.socket.family] and len(data) >= EXTENDED_ERROR.size:
                    number, origin = EXTENDED_ERROR.unpack_from(data)
                    if number == errno.ECONNREFUSED and origin in FROM_ICMP:
                        yield where[0]

    def _sealed(self, data: bytes) -> int:
        inner = len(data) + HEADERS[6 if self.socket.family == socket.AF_INET6 else 4]
        return -(-inner // PADDING) * PADDING + WIREGUARD_BYTES

    def close(self) -> None:
        self.socket.close()

    def _answer(self, question: bytes, where: tuple[Any, ...]) -> None:
        data = ANSWER + question[MARK]
        if not self._send(data.ljust(len(question), b"\0"), where):
            self._send(data.ljust(self._largest(), b"\0"), where)

    def _largest(self) -> int:
        """Bytes of the largest datagram that the interface lets out whole."""
        request = struct.pack("16sI", self._interface.encode(), 0) + bytes(12)
        mtu: int = struct.unpack_from("16xI", fcntl.ioctl(self.socket, SIOCGIFMTU, request))[0]
        return max(SIZE, mtu - HEADERS[6 if self.socket.family == socket.AF_INET6 else 4])

    def _send(self, data: bytes, where: tuple[Any, ...]) -> bool:
        """Sends a datagram; returns False where it is too large for the interface."""
        for _ in range(2):
            try:
                self.socket.sendto(data.ljust(SIZE, b"\0"), where)
            except ConnectionRefusedError:
                continue  # of an earlier question; nothing was sent
            except OSError as error:
                # No endpoint, no route, a full queue: the silence that follows says all.
                return error.errno != errno.EMSGSIZE
            break
        return True


def never_fragment(sock: socket.socket) -> None:
    """Has a socket send all in one piece or not at all; where the platform has no way to it, as it may."""
    if not sys.platform.startswith("linux"):
        return
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
