# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP connection through the tunnel that must outlive whatever happens meanwhile; runs on the machines."""

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
asked = []
signal.signal(signal.SIGINT, lambda *_: asked.append(1))
connection = socket.create_connection((sys.argv[1], %d), timeout=120)
connection.settimeout(None)
sent = 0
while not asked:
    connection.sendall(b"x" * 1400)
    sent += 1400
    time.sleep(0.01)
connection.shutdown(socket.SHUT_WR)
print(sent)
"""


@dataclass
class ByteCount:
    """What went in at one end and came out at the other; filled when its block ends."""

    sent: int = 0
    received: int = 0


@contextmanager
def stream(fleet: Fleet, source: str, target: str) -> Iterator[ByteCount]:
    """One connection from a node to another, about 100 kB a second while the block runs."""
    count = ByteCount()
    python = "python3 -u -c"
    receiver = fleet[target].start_background(f"{python} {shlex.quote(_RECEIVER % PORT)}")
    listening = f"ss -Hltn 'sport = {PORT}' | grep -q ."
    eventually(lambda: fleet[target].run(listening, check=False).rc == 0, "the receiver listens")
    sender = fleet[source].start_background(f"{python} {shlex.quote(_SENDER % PORT)} {fleet.address(target)}")
    try:
        yield count
    finally:
        ended = sender.stop(timeout=30)
        assert ended.rc == 0, ended.stderr
        count.sent = int(ended.stdout)
        count.received = int(receiver.wait(60).stdout)
