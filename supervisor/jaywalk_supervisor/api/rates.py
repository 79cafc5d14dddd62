# SPDX-License-Identifier: GPL-3.0-or-later
"""Token buckets: how many requests each client may send."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Requests of one address or one token: a script with one request after another does not come near it.
REQUESTS_PER_SECOND = 100.0
REQUESTS_AT_ONCE = 500
# Limit of remembered clients; the one that was silent for longest is forgotten first.
MAX_CLIENTS = 10_000


class TokenBuckets:
    """One bucket for each client: ``burst`` requests at once, and ``rate`` more each second; thread-safe."""

    def __init__(
        self,
        rate: float = REQUESTS_PER_SECOND,
        burst: int = REQUESTS_AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        # Of each client: what its bucket held at its last request, and the time of that.
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> float:
        """Takes one request from a client's bucket; returns 0, or the seconds until it may send one."""
        with self._lock:
            now = self._clock()
            held, since = self._buckets.pop(client, (float(self._burst), now))
            held = min(self._burst, held + (now - since) * self._rate)
            wait = 0.0 if held >= 1 else (1 - held) / self._rate
            self._buckets[client] = (held if wait else held - 1, now)
            if len(self._buckets) > MAX_CLIENTS:
                del self._buckets[next(iter(self._buckets))]
            return wait
