# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker with plain readers as the baseline: the same sockets and threads, an XREAD and hiredis."""

from __future__ import annotations

import time

import hiredis

from tests.bench.raw import connect_raw, pack_command
from tests.bench.worker import Worker, serve

# The time for which an agent blocks in one XREAD.
BLOCK_MS = 4000
BUFFER_BYTES = 65536


class BareReader:
    """Reads from the last entry that it received, with a pause after each reply, as agents do."""

    def __init__(self, stream: str, address: list[str], pause: float) -> None:
        self.at = 0.0
        self.received = 0
        self._stream, self._address, self._pause = stream, address, pause
        self._ready = False

    def run(self) -> None:
        connection = connect_raw(self._address)
        reader = hiredis.Reader()
        self._ready = True
        last: bytes | str = "0-0"
        while True:
            command = ("XREAD", "COUNT", "500", "BLOCK", BLOCK_MS, "STREAMS", self._stream, last)
            connection.sendall(pack_command(*command))
            while (answer := reader.gets()) is False:
                reader.feed(connection.recv(BUFFER_BYTES))
            if answer:
                entries = answer[0][1]
                last = entries[-1][0]
                self.received += len(entries)
                self.at = time.monotonic()
                time.sleep(self._pause)

    def has_reached(self, received: int = 0) -> bool:
        return self._ready and self.received >= received


class BareReaders(Worker):
    def start(self, first: int, count: int, stream: str, address: list[str], pause: float) -> int:
        """Start readers, which wait for the first entry of ``stream``."""
        return self._start(BareReader(stream, address, pause) for _ in range(count))


if __name__ == "__main__":
    serve(BareReaders())
