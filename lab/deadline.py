# SPDX-License-Identifier: GPL-3.0-or-later
"""Deadlines that extend with this host's load, so that a wait on a busy host fails no earlier."""

from __future__ import annotations

import os
import time
from pathlib import Path

# The limit, however busy the host is.
MAX_SLOWNESS = 20.0
STAT = Path("/proc/stat")


def slowness(processors: int = os.cpu_count() or 1) -> float:
    """Estimate how many times longer than on an idle host work takes now: 1 to `MAX_SLOWNESS`."""
    return min(MAX_SLOWNESS, max(1.0, max(os.getloadavg()[0], _runnable_threads()) / processors))


def _runnable_threads() -> int:
    """Return how many threads run or wait for a processor now; the load average follows slowly."""
    try:
        lines = STAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("procs_running ")), 0)


class Deadline:
    """A deadline `seconds` from now on an idle host, and later on a busy one."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._start = time.monotonic()
        self._slowness = 1.0

    @property
    def waited(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds until the deadline, by the highest load since the start."""
        self._slowness = max(self._slowness, slowness())
        return max(0.0, self._seconds * self._slowness - self.waited)

    @property
    def passed(self) -> bool:
        return self.left <= 0
