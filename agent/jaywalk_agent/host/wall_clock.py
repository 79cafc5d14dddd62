# SPDX-License-Identifier: GPL-3.0-or-later
"""Detects that the wall clock was set; a board without a real-time clock starts in 1970."""

from __future__ import annotations

import time
from collections.abc import Callable

# A larger change than a gradual correction makes.
JUMP_SECONDS = 5.0


def elapsed() -> float:
    """Seconds of a monotonic clock, which counts suspended time where the platform has one that does."""
    boot_clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_clock is None else time.clock_gettime(boot_clock)


class WallClock:
    """Compares the wall clock with a monotonic one."""

    def __init__(self, wall: Callable[[], float] = time.time, carrier: Callable[[], float] = elapsed) -> None:
        self._wall = wall
        self._carrier = carrier
        self._ahead = wall() - carrier()

    def check(self) -> tuple[float, float]:
        """The time now, and by how many seconds the clock was set since the last call."""
        now = self._wall()
        before, self._ahead = self._ahead, now - self._carrier()
        jump = self._ahead - before
        return now, jump if abs(jump) >= JUMP_SECONDS else 0.0
