# SPDX-License-Identifier: GPL-3.0-or-later
"""The emulated internet between NAT sites: a learning switch in userspace that delays each frame.

    python -m lab.switch SOCKET DELAY_MS

It runs in the internet's namespace, forwards between all interfaces there, and accepts commands at
SOCKET: one JSON object per connection, such as {"block": ["p-a", "w-home"]}; the reply is "ok". A kernel
bridge has no delay, and not every kernel has netem. Linux only: packet(7).
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lab.deadline import Deadline
from lab.errors import LabError
from lab.naming import UPLINK

ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
ARP_ETHERTYPE = b"\x08\x06"
# What the kernel may hold until the next read.
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
# Frames in delivery; the switch drops what exceeds this, as any router does.
MAX_QUEUED_FRAMES = 8192
# Frames to read before the switch sends those that are due.
RECEIVE_BATCH_FRAMES = 256
# A command arrives within this time.
COMMAND_TIMEOUT_SECONDS = 1.0
# The switch replies to a command within this time, on an idle host.
REPLY_TIMEOUT_SECONDS = 5.0

Commands = Mapping[str, Any]


class ForwardingTable:
    """The port of each address, the blocked pairs and the delay. Pure."""

    def __init__(self, delay_seconds: float) -> None:
        """Create an empty table; `delay_seconds` is one way."""
        self.delay_seconds = delay_seconds
        self._ports: dict[bytes, str] = {}
        self._blocked: set[frozenset[str]] = set()
        self._cut: set[str] = set()

    def apply(self, commands: Commands) -> None:
        """Block and unblock a pair of ports, cut and heal a port, set the round trip in ms."""
        for command, value in commands.items():
            match command:
                case "block":
                    self._blocked.add(frozenset(value))
                case "unblock":
                    self._blocked.discard(frozenset(value))
                case "cut":
                    self._cut.add(value)
                case "heal":
                    self._cut.discard(value)
                case "delay_ms":
                    self.delay_seconds = value / 2000
                case _:
                    raise ValueError(f"unknown command {command!r}")

    def learn(self, frame: bytes, port: str) -> None:
        """Store the port of a frame's source address."""
        self._ports[frame[6:12]] = port

    def targets(self, frame: bytes, source: str, ports: Callable[[], list[str]]) -> list[str]:
        """Return the ports to send a frame to; calls `ports` only where it needs the list of all.

        A blocked pair still exchanges ARP: an unreachable peer then causes silence, not an error.
        """
        if source in self._cut:
            return []
        learned = None if frame[0] & 1 else self._ports.get(frame[:6])
        candidates = [learned] if learned else ports()
        return [port for port in candidates if port != source and self._passes(frame, source, port)]

    def _passes(self, frame: bytes, source: str, target: str) -> bool:
        if target in self._cut:
            return False
        return frozenset((source, target)) not in self._blocked or frame[12:14] == ARP_ETHERTYPE


def ports() -> list[str]:
    """Return the interfaces that are ports of the switch."""
    return [name for _, name in socket.if_nameindex() if name not in ("lo", UPLINK)]


class Switch:
    """The loop around a table: receive frames, queue them in the order of their due time, send them."""

    def __init__(self, table: ForwardingTable, control: socket.socket) -> None:
        self._table = table
        self._control = control
        self._queue: deque[tuple[float, bytes, str]] = deque()
        self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._packets.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._packets.setblocking(False)

    def run(self) -> None:
        """Forward frames until the process ends."""
        while True:
            wait = max(0.0, self._queue[0][0] - time.monotonic()) if self._queue else None
            ready, _, _ = select.select([self._packets, self._control], [], [], wait)
            if self._packets in ready:
                self._receive()
            self._send_due()
            if self._control in ready:
                handle_command(self._control, self._table)

    def _receive(self) -> None:
        due = time.monotonic() + self._table.delay_seconds
        for _ in range(RECEIVE_BATCH_FRAMES):
            try:
                frame, (port, *_) = self._packets.recvfrom(65536)
            except OSError:  # none left, or an interface went down
                return
            if port not in ("lo", UPLINK) and len(self._queue) < MAX_QUEUED_FRAMES:
                self._table.learn(frame, port)
                self._queue.append((due, frame, port))

    def _send_due(self) -> None:
        now = time.monotonic()
        while self._queue and self._queue[0][0] <= now:
            _, frame, source = self._queue.popleft()
            for port in self._table.targets(frame, source, ports):
                with contextlib.suppress(OSError):  # full, down or gone: the frame is lost, as on a real link
                    self._packets.sendto(frame, (port, 0))


def handle_command(control: socket.socket, table: ForwardingTable) -> None:
    """Accept one connection at the control socket, apply its command and reply."""
    connection, _ = control.accept()
    with connection:
        connection.settimeout(COMMAND_TIMEOUT_SECONDS)
        try:
            table.apply(json.loads(connection.makefile().readline()))
            connection.sendall(b"ok\n")
        except (OSError, ValueError, TypeError, AttributeError) as error:
            with contextlib.suppress(OSError):
                connection.sendall(f"{error}\n".encode())


def send(path: Path, commands: Commands) -> None:
    """Send commands to the running switch; raise LabError if it refuses them or does not reply."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(Deadline(REPLY_TIMEOUT_SECONDS).left)
            connection.connect(str(path))
            connection.sendall(json.dumps(commands).encode() + b"\n")
            reply = connection.makefile().readline().strip()
    except OSError as error:
        raise LabError(f"the lab's switch does not answer at {path} ({error}): take the lab up") from error
    if reply != "ok":
        raise LabError(f"the lab's switch refuses {dict(commands)}: {reply}")


def main(path: Path, delay_ms: float) -> None:
    """Run the switch until the process ends."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(path))
        path.chmod(0o600)
        control.listen()
        Switch(ForwardingTable(delay_ms / 2000), control).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
