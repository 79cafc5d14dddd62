# SPDX-License-Identifier: GPL-3.0-or-later
"""How soon an interface may be repaired again, and whether somebody keeps undoing the repairs.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# The least time from one repair of an interface to the next.
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 1.0, 60.0
# A repair that held for this time, and for twice the pause before it, was not undone on purpose.
AT_ONCE_SECONDS = 2.0
# After this time without a repair nobody undoes it any more.
CALM_SECONDS = 60.0
# So many equal repairs in a row that were undone at once, or were never CALM_SECONDS apart, are the work of a
# program and no accident.
MAX_UNDONE_AT_ONCE, MAX_REPAIRS = 3, 20
NEVER = float("-inf")


@dataclass
class RepairBackoff:
    """The repairs of one interface, on the clock of the caller (seconds, monotonic).

    ``count`` are equal repairs since ``first``, never :data:`CALM_SECONDS` apart.  ``undone`` are attempts in
    a row that were undone at once.  ``found`` are the changes that the last repair restored.  ``complaint``
    is a sentence about a program that keeps undoing the repairs, or empty.
    """

    last: float = NEVER
    pause: float = 0.0
    first: float = NEVER
    count: int = 0
    undone: int = 0
    found: Sequence[str] = ()
    complaint: str = ""

    @property
    def next(self) -> float:
        """The time from which on the interface may be repaired again."""
        return self.last + self.pause

    def tried(self, now: float, undone: bool = True) -> None:
        """Records an attempt; ``undone``: it is for the same reason as the previous one."""
        at_once = now - self.last < max(AT_ONCE_SECONDS, 2 * self.pause)
        if undone and at_once:
            self.undone, self.pause = self.undone + 1, min(2 * self.pause, MAX_PAUSE_SECONDS)
        else:
            self.undone, self.pause = 0, FIRST_PAUSE_SECONDS
        self.last = now

    def repaired(self, name: str, found: Sequence[str], now: float) -> None:
        """Records a repair, and the changes that it restored."""
        if self.calm(now):
            self.complaint = ""
        if self.calm(now) or found != self.found:
            self.first, self.count = now, 0
        self.count += 1
        self.tried(now, undone=found == self.found)
        self.found = found
        if (self.undone >= MAX_UNDONE_AT_ONCE or self.count >= MAX_REPAIRS) and not self.complaint:
            self.complaint = (
                f"something keeps changing {name}: {', '.join(found)}, {self.count} times in "
                f"{now - self.first:.0f} s; the agent restores it, later each time where it is undone at "
                f"once ({MAX_PAUSE_SECONDS:.0f} s at most): find what does it (try 'ip monitor') and stop it"
            )

    def calm(self, now: float) -> bool:
        """Whether the last repair held."""
        return now - self.last >= max(CALM_SECONDS, 2 * self.pause)
