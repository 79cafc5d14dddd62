# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker full of bare readers: as many sockets and threads, an XREAD, hiredis, and no more."""

from __future__ import annotations

import time

import hiredis

from tests.bench.raw import connected, packed
from tests.bench.worker import Crowd, serve

BLOCK_MS = 4000
"""As long as an agent blocks in one XREAD."""
BUFFER = 65536


class BareReader:
    """Reads on from the last id that it saw, with a pause after each answer as agents make it."""

    def __init__(self, stream: str, way: list[str], pause: float) -> None:
        self.at = 0.0
        self.stats = 0
        self._stream, self._way, self._pause = stream, way, pause
        self._ready = False

    def run(self) -> None:
        connection = connected(self._way)
        reader = hiredis.Reader()
        self._ready = True
        last: bytes | str = "0-0"
        while True:
            words = ("XREAD", "COUNT", "500", "BLOCK", BLOCK_MS, "STREAMS", self._stream, last)
            connection.sendall(packed(*words))
            while (answer := reader.gets()) is False:
                reader.feed(connection.recv(BUFFER))
            if answer:
                entries = answer[0][1]
                last = entries[-1][0]
                self.stats += len(entries)
                self.at = time.monotonic()
                time.sleep(self._pause)

    def stands(self, seen: int = 0) -> bool:
        return self._ready and self.stats >= seen


class Bare(Crowd):
    def start(self, first: int, count: int, stream: str, way: list[str], pause: float) -> int:
        """Connects readers that wait for the first entry of ``stream``."""
        return self._start(BareReader(stream, way, pause) for _ in range(count))


if __name__ == "__main__":
    serve(Bare())
