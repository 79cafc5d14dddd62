# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock that all supervisors of a controller share: Redis's clock.

A zone's records contain times, which the leading supervisor writes and compares, whichever it is.  So all
supervisors read Redis's ``TIME`` and carry it forward by a monotonic clock of their machine.  No decision
uses this machine's wall clock; a supervisor whose wall clock is far off reports that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .health import Health

log = logging.getLogger(__name__)

# A change of the difference between Redis's clock and ours, beyond the answer's duration, that is no drift.
JUMP_SECONDS = 5.0
# Limit of the difference between this machine's wall clock and Redis's: below it, logs of several machines
# still agree.
SKEW_SECONDS = 60.0
# Between two checks: a longer gap means that the process or the machine was suspended, and received nothing.
GAP_SECONDS = 10.0


def elapsed() -> float:
    """Returns the seconds of a monotonic clock, one that includes suspension if the system has it."""
    boot_clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_clock is None else time.clock_gettime(boot_clock)


class SharedClock:
    """Redis's time at any moment: read by :meth:`update` and carried forward by ``carrier``; for one thread.

    It outlives connections and servers, so that a server with another time counts as a jump.  Small
    corrections never set it back; jumps do.
    """

    def __init__(self, carrier: Callable[[], float] = elapsed, wall: Callable[[], float] = time.time) -> None:
        self._carrier = carrier
        self._wall = wall
        self._ahead: float | None = None
        self._latest = 0.0
        # Seconds by which this machine's wall clock was ahead of Redis's at the last update.
        self.skew = 0.0

    def now(self) -> float:
        """Returns Redis's time in seconds since 1970; this machine's time before the first update."""
        if self._ahead is None:
            return self._wall()
        self._latest = max(self._latest, self._carrier() + self._ahead)
        return self._latest

    def update(self, redis_time: Callable[[], float]) -> float:
        """Reads Redis's time; returns the seconds by which it jumped since the last update, or 0.

        ``redis_time`` may take a while: its answer was correct at some moment within that time.
        """
        begun = self._carrier()
        answer = redis_time()
        earliest, latest = answer - self._carrier(), answer - begun
        before = self._ahead
        if before is None:
            self._ahead = (earliest + latest) / 2
        else:
            self._ahead = min(max(before, earliest), latest)
        jump = 0.0 if before is None else self._ahead - before
        if abs(jump) < JUMP_SECONDS:
            jump = 0.0
        else:
            self._latest = 0.0
        self.skew = self._wall() - self.now()
        return jump


class Timekeeper:
    """A committer's clock; reports jumps and a wrong wall clock in the log and in the health."""

    def __init__(self, health: Health, clock: SharedClock | None = None) -> None:
        self._health = health
        self._clock = clock or SharedClock()
        self._last_turn: float | None = None

    def now(self) -> float:
        """As :meth:`SharedClock.now`."""
        return self._clock.now()

    def update(self, redis_time: Callable[[], float]) -> float:
        """As :meth:`SharedClock.update`; logs a jump and a wrong clock of this machine."""
        jump = self._clock.update(redis_time)
        if jump:
            log.warning(
                "the controller's clock jumped by %+.0f seconds: the silence of nodes and quarantines are "
                "measured by the time that really passed",
                jump,
            )
        self._compare()
        return jump

    def was_suspended(self) -> bool:
        """Whether this process was suspended since the last call."""
        at, before = elapsed(), self._last_turn
        self._last_turn = at
        suspended = before is not None and at - before > GAP_SECONDS
        if suspended and before is not None:
            log.warning(
                "this supervisor was suspended for %.0f seconds and received no requests",
                at - before,
            )
        return suspended

    def start_session(self) -> None:
        """Starts a new session: the time before it does not count as a suspension."""
        self._last_turn = None

    @property
    def is_off(self) -> bool:
        """Whether this machine's own clock is far from Redis's."""
        return bool(self._health.clock_error)

    def _compare(self) -> None:
        skew = self._health.clock_skew = self._clock.skew
        if abs(skew) <= SKEW_SECONDS:
            if self._health.clock_error:
                log.warning("this machine's clock agrees with the controller's again")
            self._health.clock_error = ""
            return
        if not self._health.clock_error:
            log.error(
                "%s: other supervisors lead if they can, and decisions use the controller's clock",
                skew_text(skew),
            )
        self._health.clock_error = skew_text(skew)


def skew_text(skew: float) -> str:
    """Describes that this machine's clock is ``skew`` seconds ahead of Redis's."""
    direction = "ahead of" if skew > 0 else "behind"
    return (
        f"this machine's clock is {abs(skew):.0f} seconds {direction} the controller's: "
        "set the one that is wrong"
    )
