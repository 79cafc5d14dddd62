# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP connection between two machines through the tunnel, which must survive the events of a test."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.fleet.fleet import Fleet, eventually

PORT = 5299

_RECEIVER = """
import socket
server = socket.create_server(("", %d))
connection, _ = server.accept()
received = 0
while piece := connection.recv(65536):
    received += len(piece)
print(received)
"""
_SENDER = """
import signal, socket, sys, time
stops = []
signal.signal(signal.SIGINT, lambda *_: stops.append(1))
connection = socket.create_connection((sys.argv[1], %d), timeout=120)
connection.settimeout(None)
sent = 0
while not stops:
    connection.sendall(b"x" * 1400)
    sent += 1400
    time.sleep(0.01)
connection.shutdown(socket.SHUT_WR)
print(sent)
"""


@dataclass
class ByteCount:
    """The bytes sent at one end and received at the other; complete at the end of its block."""

    sent: int = 0
    received: int = 0


@contextmanager
def stream(fleet: Fleet, source: str, target: str) -> Iterator[ByteCount]:
    """Keep a connection from a node to another while the block runs, with about 100 kB/s."""
    count = ByteCount()
    python = "python3 -u -c"
    receiver = fleet[target].start_background(f"{python} {shlex.quote(_RECEIVER % PORT)}")
    listening = f"ss -Hltn 'sport = {PORT}' | grep -q ."
    eventually(lambda: fleet[target].run(listening, check=False).rc == 0, "the receiver listens")
    sender = fleet[source].start_background(f"{python} {shlex.quote(_SENDER % PORT)} {fleet.address(target)}")
    try:
        yield count
    finally:
        result = sender.stop(timeout=30)
        assert result.rc == 0, result.stderr
        count.sent = int(result.stdout)
        count.received = int(receiver.wait(60).stdout)
