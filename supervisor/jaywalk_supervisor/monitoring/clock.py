# SPDX-License-Identifier: GPL-3.0-or-later
"""The one clock that all supervisors of a controller share: Redis's own.

What a zone keeps are times, and they are written and compared by whichever supervisor leads.  So all of them
read Redis's ``TIME``, and carry it on by a clock of their machine that nobody sets.  This machine's wall
clock decides nothing; where it is far off, so may be whatever else this machine says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .health import Health

log = logging.getLogger(__name__)

# A difference between Redis's clock and ours, beyond what the answer took, that no drift explains.
JUMP_SECONDS = 5.0
# How far this machine's wall clock may be from Redis's: logs of several machines still agree by then.
SKEW_SECONDS = 60.0
# Between two turns: the process was halted, or the machine suspended, and heard nobody meanwhile.
GAP_SECONDS = 10.0


def elapsed() -> float:
    """Seconds by a clock that nobody sets, and that goes on while the machine is suspended where there is
    such a clock.
    """
    boot_clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_clock is None else time.clock_gettime(boot_clock)


class SharedClock:
    """Redis's time at each moment, by looks at it and by ``carrier`` in between; for one thread.

    It outlives connections and servers, so that a server with another time counts as a jump.  Small
    corrections never put it back, jumps do.
    """

    def __init__(self, carrier: Callable[[], float] = elapsed, wall: Callable[[], float] = time.time) -> None:
        self._carrier = carrier
        self._wall = wall
        self._ahead: float | None = None
        self._latest = 0.0
        # How far this machine's wall clock was ahead of Redis's at the last look, in seconds.
        self.skew = 0.0

    def now(self) -> float:
        """Redis's time in seconds since 1970; this machine's before the first look."""
        if self._ahead is None:
            return self._wall()
        self._latest = max(self._latest, self._carrier() + self._ahead)
        return self._latest

    def look(self, redis_time: Callable[[], float]) -> float:
        """Asks for Redis's time; returns by how many seconds it jumped since the last look, else 0.

        ``redis_time`` may take a while: somewhere within it the answer was true.
        """
        begun = self._carrier()
        told = redis_time()
        earliest, latest = told - self._carrier(), told - begun
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
    """A committer's clock, with what its log and its health say about it."""

    def __init__(self, health: Health, clock: SharedClock | None = None) -> None:
        self._health = health
        self._clock = clock or SharedClock()
        self._last_turn: float | None = None

    def now(self) -> float:
        """As :meth:`SharedClock.now`."""
        return self._clock.now()

    def look(self, redis_time: Callable[[], float]) -> float:
        """As :meth:`SharedClock.look`; says a jump, and where this machine's own clock is off."""
        jump = self._clock.look(redis_time)
        if jump:
            log.warning(
                "the controller's clock jumped by %+.0f seconds: nodes count as silent, and quarantines as "
                "over, by the time that really went by",
                jump,
            )
        self._compare()
        return jump

    def was_suspended(self) -> bool:
        """Whether this process was halted since it last asked here."""
        at, before = elapsed(), self._last_turn
        self._last_turn = at
        away = before is not None and at - before > GAP_SECONDS
        if away and before is not None:
            log.warning(
                "this supervisor stood still for %.0f seconds, and heard no node meanwhile", at - before
            )
        return away

    def start_session(self) -> None:
        """A new session begins: what went before is no gap."""
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
                "%s: others lead while they can, and what is decided here goes by the controller's clock",
                skew_text(skew),
            )
        self._health.clock_error = skew_text(skew)


def skew_text(skew: float) -> str:
    """What is wrong where this machine's clock is ``skew`` seconds ahead of Redis's."""
    direction = "ahead of" if skew > 0 else "behind"
    return (
        f"this machine's clock is {abs(skew):.0f} seconds {direction} the controller's: "
        "set the one that is wrong"
    )
