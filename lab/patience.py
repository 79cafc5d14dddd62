# SPDX-License-Identifier: GPL-3.0-or-later
"""Deadlines that follow the work: the busier this host is, the longer a wait may take."""

from __future__ import annotations

import os
import time
from pathlib import Path

MOST = 20.0
"""A host that is busier still gives no more time."""
STAT = Path("/proc/stat")


def slowness(processors: int = os.cpu_count() or 1) -> float:
    """How many times longer than on an idle host the same work takes now: 1 to `MOST`."""
    return min(MOST, max(1.0, max(os.getloadavg()[0], _running()) / processors))


def _running() -> int:
    """How many threads run or wait for a processor now; the load of the last minute follows slowly."""
    try:
        lines = STAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("procs_running ")), 0)


class Deadline:
    """A time that passes `seconds` after now on an idle host, and later on a busy one."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun = time.monotonic()
        self._slowness = 1.0

    @property
    def waited(self) -> float:
        """Seconds since the begin."""
        return time.monotonic() - self._begun

    @property
    def left(self) -> float:
        """Seconds until it passes, as busy as the host was at its worst since the begin."""
        self._slowness = max(self._slowness, slowness())
        return max(0.0, self._seconds * self._slowness - self.waited)

    @property
    def passed(self) -> bool:
        return self.left <= 0
