# SPDX-License-Identifier: GPL-3.0-or-later
"""What listens where a Redis should be: it greets like one, and then trickles, or announces too much."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from jaywalk.controller.address import ControllerAddress

Conduct = Callable[[socket.socket, str], None]
"""What it does on a connection once a command, whose first word is given, is no greeting."""
GREETINGS = ("AUTH", "CLIENT", "HELLO", "SELECT", "PING")
OK = b"+OK\r\n"


def sends(reply: bytes) -> Conduct:
    """Answers with ``reply``."""
    return lambda link, _word: link.sendall(reply)


def trickles(pause: float, reply: bytes = b"$100000\r\n" + b"x" * 100000) -> Conduct:
    """Answers with a byte of ``reply`` now and then."""

    def conduct(link: socket.socket, _word: str) -> None:
        for byte in reply:
            link.sendall(bytes([byte]))
            time.sleep(pause)

    return conduct


class OddServer:
    """One that listens on loopback; ``connections`` counts who came."""

    def __init__(self, conduct: Conduct, greets: bool) -> None:
        self._conduct = conduct
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
        """Ends all connections, and their threads with them."""
        for each in (self._listener, *self._links):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                self.connections += 1
                self._links.append(link)
                threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with suppress(OSError), link.makefile("rb") as lines:
            while header := lines.readline():
                words = []
                for _ in range(int(header[1:])):
                    words.append(lines.read(int(lines.readline()[1:]) + 2)[:-2].decode())
                if self._greets and words[0] in GREETINGS:
                    link.sendall(b"+PONG\r\n" if words[0] == "PING" else OK)
                else:
                    self._conduct(link, words[0])


@contextmanager
def odd_server(conduct: Conduct, greets: bool = True) -> Iterator[OddServer]:
    """Listens until the block ends."""
    server = OddServer(conduct, greets)
    try:
        yield server
    finally:
        server.close()
