# SPDX-License-Identifier: GPL-3.0-or-later
"""Tells by how much somebody set this node's clock: a board without one of its own starts in 1970."""

from __future__ import annotations

import time
from collections.abc import Callable

JUMP_SECONDS = 5.0
"""A change that no slow correction explains."""


def elapsed() -> float:
    """Seconds by a clock that nobody sets; where there is one, one that goes on while the machine sleeps."""
    boot_clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_clock is None else time.clock_gettime(boot_clock)


class WallClock:
    """This node's clock against one that nobody sets."""

    def __init__(self, wall: Callable[[], float] = time.time, carrier: Callable[[], float] = elapsed) -> None:
        self._wall = wall
        self._carrier = carrier
        self._ahead = wall() - carrier()

    def look(self) -> tuple[float, float]:
        """The time now, and by how many seconds the clock was set since the last look."""
        now = self._wall()
        before, self._ahead = self._ahead, now - self._carrier()
        jump = self._ahead - before
        return now, jump if abs(jump) >= JUMP_SECONDS else 0.0
