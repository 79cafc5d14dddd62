# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions and answers inside the tunnel: small datagrams on one interface, sealed like all in it."""

from __future__ import annotations

import ctypes
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaywalk.runner import NAMESPACES

PORT = 51819
"""UDP, on the mesh address of each node; whoever cannot be asked there counts as one without an agent."""
QUESTION, ANSWER = b"jaywalk?", b"jaywalk!"
SIZE = 36
ROOM = 1 << 20
"""Bytes for what comes in: answers of a thousand peers that were asked at once; a datagram takes 768."""
SO_RCVBUFFORCE = 33
"""socket(7); beyond net.core.rmem_max, by CAP_NET_ADMIN."""
CLONE_NEWNET = 0x40000000
MOST = 256
"""Datagrams taken in at a time, so that nobody can keep an agent busy with questions."""


@contextmanager
def inside(netns: str) -> Iterator[None]:
    """Has this thread open its sockets in the network namespace ``netns``; "" is where it is anyway."""
    if not netns:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
    here, there = Path("/proc/thread-self/ns/net"), Path(NAMESPACES, netns)
    with here.open("rb") as home, there.open("rb") as away:
        _enter(libc, away.fileno())
        try:
            yield
        finally:
            _enter(libc, home.fileno())


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Heartbeat:
    """A socket bound to one interface, so that questions take no other way and answers come by none.

    ``address`` is this node's in the mesh.  Raises ``OSError`` while it or the interface is not there.
    """

    def __init__(self, interface: str, address: str) -> None:
        self._mark = secrets.token_bytes(8)
        self.socket = socket.socket(
            socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        )
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
            # Before it is bound: sockets of other interfaces have the same address and port.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
            self.socket.bind((address, PORT))
        except OSError:
            self.socket.close()
            raise

    def ask(self, host: str) -> None:
        self._send(QUESTION + self._mark, host)

    def heard(self) -> Iterator[tuple[str, bool]]:
        """The hosts that asked something, which is answered (True), or answered us (False)."""
        for _ in range(MOST):
            try:
                data, where = self.socket.recvfrom(SIZE + 1)
            except OSError:
                return
            host = where[0]
            if len(data) != SIZE:
                continue
            if data.startswith(QUESTION):
                self._send(ANSWER + data[len(QUESTION) : 16], host)
                yield host, True
            elif data.startswith(ANSWER + self._mark):
                yield host, False

    def close(self) -> None:
        self.socket.close()

    def _send(self, data: bytes, host: str) -> None:
        try:
            self.socket.sendto(data.ljust(SIZE, b"\0"), (host, PORT))
        except OSError:
            # No endpoint, no route, a full queue: the silence that follows says all.
            return
