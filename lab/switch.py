# SPDX-License-Identifier: GPL-3.0-or-later
"""The internet of a lab with streets: a learning switch in userspace that delivers each frame late.

    python -m lab.switch SOCKET DELAY_MS

It runs in the internet's namespace, forwards between all interfaces there, and takes orders over
SOCKET: one JSON object a connection, such as {"block": ["p-a", "w-home"]}, answered by "ok". A kernel
bridge has no delay, and netem is no part of every kernel. Linux only: packet(7).
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

from lab.errors import LabError
from lab.patience import Deadline
from lab.plan import UPLINK

ETH_P_ALL = 3
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23
ARP = b"\x08\x06"
BUFFER = 4 * 1024 * 1024
"""Bytes that may wait in the kernel until we look."""
BACKLOG = 8192
"""Frames on their way at most; what comes beyond is dropped, as in any router."""
BURST = 256
"""Frames taken in before those that are due go out."""
HARDLY = 1.0
"""Seconds that an order may take."""

Orders = Mapping[str, Any]


class Table:
    """Who is where, who may not reach whom, and how long it takes. Pure."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        """Seconds, one way."""
        self._ports: dict[bytes, str] = {}
        self._blocked: set[frozenset[str]] = set()
        self._cut: set[str] = set()

    def obey(self, orders: Orders) -> None:
        """Take orders: block and unblock a pair of ports, cut and heal a port, set the round trip in ms."""
        for verb, value in orders.items():
            match verb:
                case "block":
                    self._blocked.add(frozenset(value))
                case "unblock":
                    self._blocked.discard(frozenset(value))
                case "cut":
                    self._cut.add(value)
                case "heal":
                    self._cut.discard(value)
                case "delay_ms":
                    self.delay = value / 2000
                case _:
                    raise ValueError(f"unknown order {verb!r}")

    def learn(self, frame: bytes, port: str) -> None:
        """Remember where the sender of a frame is now."""
        self._ports[frame[6:12]] = port

    def targets(self, frame: bytes, source: str, ports: Callable[[], list[str]]) -> list[str]:
        """The ports that a frame leaves by; `ports` is asked for all of them where it must be known.

        A pair is blocked for all but ARP: who cannot be reached shows by silence, not by an error.
        """
        if source in self._cut:
            return []
        known = None if frame[0] & 1 else self._ports.get(frame[:6])
        wanted = [known] if known else ports()
        return [port for port in wanted if port != source and self._passes(frame, source, port)]

    def _passes(self, frame: bytes, source: str, target: str) -> bool:
        if target in self._cut:
            return False
        return frozenset((source, target)) not in self._blocked or frame[12:14] == ARP


def ports() -> list[str]:
    """The interfaces that are the switch's."""
    return [name for _, name in socket.if_nameindex() if name not in ("lo", UPLINK)]


class Switch:
    """The loop around a table: frames in, a queue in the order of their time, frames out."""

    def __init__(self, table: Table, control: socket.socket) -> None:
        self._table = table
        self._control = control
        self._waiting: deque[tuple[float, bytes, str]] = deque()
        self._wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._wire.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._wire.setblocking(False)

    def run(self) -> None:
        """Forward until somebody ends us."""
        while True:
            wait = max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None
            ready, _, _ = select.select([self._wire, self._control], [], [], wait)
            if self._wire in ready:
                self._take_in()
            self._send_due()
            if self._control in ready:
                answer(self._control, self._table)

    def _take_in(self) -> None:
        due = time.monotonic() + self._table.delay
        for _ in range(BURST):
            try:
                frame, (port, *_) = self._wire.recvfrom(65536)
            except OSError:  # none left, or an interface went down
                return
            if port not in ("lo", UPLINK) and len(self._waiting) < BACKLOG:
                self._table.learn(frame, port)
                self._waiting.append((due, frame, port))

    def _send_due(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            _, frame, source = self._waiting.popleft()
            for port in self._table.targets(frame, source, ports):
                with contextlib.suppress(OSError):  # full, down or gone: the frame is lost, as frames are
                    self._wire.sendto(frame, (port, 0))


def answer(control: socket.socket, table: Table) -> None:
    """Take one order from whoever is waiting at the control socket."""
    connection, _ = control.accept()
    with connection:
        connection.settimeout(HARDLY)
        try:
            table.obey(json.loads(connection.makefile().readline()))
            connection.sendall(b"ok\n")
        except (OSError, ValueError, TypeError, AttributeError) as error:
            with contextlib.suppress(OSError):
                connection.sendall(f"{error}\n".encode())


def tell(path: Path, orders: Orders) -> None:
    """Give the running switch orders and wait until it took them; LabError if it does not."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(Deadline(5).left)
            connection.connect(str(path))
            connection.sendall(json.dumps(orders).encode() + b"\n")
            said = connection.makefile().readline().strip()
    except OSError as error:
        raise LabError(f"the streets' switch does not answer at {path} ({error}): take the lab up") from error
    if said != "ok":
        raise LabError(f"the streets' switch refuses {dict(orders)}: {said}")


def main(path: Path, delay_ms: float) -> None:
    """Serve until the lab goes down."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(path))
        path.chmod(0o600)
        control.listen()
        Switch(Table(delay_ms / 2000), control).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
