# SPDX-License-Identifier: GPL-3.0-or-later
"""A faulty server in the place of a Redis: it accepts the handshake, and then sends slowly or too much."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from jaywalk.controller.address import ControllerAddress

# Handles a command, by its first word, after the handshake of a connection.
Behaviour = Callable[[socket.socket, str], None]
HANDSHAKE_COMMANDS = ("AUTH", "CLIENT", "HELLO", "SELECT", "PING")
OK = b"+OK\r\n"


def sends(reply: bytes) -> Behaviour:
    """Reply with ``reply``."""
    return lambda link, _word: link.sendall(reply)


def trickles(pause: float, reply: bytes = b"$100000\r\n" + b"x" * 100000) -> Behaviour:
    """Reply with ``reply``, a byte at a time."""

    def behaviour(link: socket.socket, _word: str) -> None:
        for byte in reply:
            link.sendall(bytes([byte]))
            time.sleep(pause)

    return behaviour


class FaultyServer:
    """A server on loopback; ``connections`` counts its connections."""

    def __init__(self, behaviour: Behaviour, greets: bool) -> None:
        self._behaviour = behaviour
        self._greets = greets
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._links: list[socket.socket] = []
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> ControllerAddress:
        host, port = self._listener.getsockname()
        return ControllerAddress(host, port)

    def close(self) -> None:
        """Close all connections, which ends their threads."""
        for sock in (self._listener, *self._links):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                self.connections += 1
                self._links.append(link)
                threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with suppress(OSError, ValueError), link.makefile("rb") as lines:  # a client may speak TLS
            while header := lines.readline():
                words = []
                for _ in range(int(header[1:])):
                    words.append(lines.read(int(lines.readline()[1:]) + 2)[:-2].decode())
                if self._greets and words[0] in HANDSHAKE_COMMANDS:
                    link.sendall(b"+PONG\r\n" if words[0] == "PING" else OK)
                else:
                    self._behaviour(link, words[0])


@contextmanager
def faulty_server(behaviour: Behaviour, greets: bool = True) -> Iterator[FaultyServer]:
    """Run the server until the block ends."""
    server = FaultyServer(behaviour, greets)
    try:
        yield server
    finally:
        server.close()
