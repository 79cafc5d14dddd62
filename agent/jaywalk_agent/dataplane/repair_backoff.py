# SPDX-License-Identifier: GPL-3.0-or-later
"""How soon an interface may be repaired again, and whether somebody keeps on undoing it.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds from one repair of an interface to the next one, at least."""
AT_ONCE = 2.0
"""A repair that held for this many seconds, and for twice the pause before it, was not undone on purpose."""
CALM = 60.0
"""Seconds without a repair after which nobody is undoing it any more."""
UNDONE_AT_ONCE, UNDONE = 3, 20
"""So many repairs of one kind in a row that were undone at once, or had no :data:`CALM` between them, are a
program's work and no accident."""
NEVER = float("-inf")


@dataclass
class RepairBackoff:
    """The repairs of one interface, on the clock of its user (seconds, monotonic)."""

    last: float = NEVER
    pause: float = 0.0
    first: float = NEVER
    count: int = 0
    """Repairs of one kind since ``first``, with less than :data:`CALM` between any two."""
    undone: int = 0
    """How many tries in a row were undone at once."""
    found: Sequence[str] = ()
    """What the last repair put right."""
    complaint: str = ""
    """A sentence about whoever keeps undoing them; empty while nobody does."""

    @property
    def next(self) -> float:
        """The moment from which on it may be repaired again."""
        return self.last + self.pause

    def tried(self, now: float, undone: bool = True) -> None:
        """Takes note of a try; ``undone``: it is for the same reason as the one before."""
        at_once = now - self.last < max(AT_ONCE, 2 * self.pause)
        if undone and at_once:
            self.undone, self.pause = self.undone + 1, min(2 * self.pause, LONGEST_PAUSE)
        else:
            self.undone, self.pause = 0, FIRST_PAUSE
        self.last = now

    def repaired(self, name: str, found: Sequence[str], now: float) -> None:
        """Takes note of a repair, and of what it had to put right."""
        if self.calm(now):
            self.complaint = ""
        if self.calm(now) or found != self.found:
            self.first, self.count = now, 0
        self.count += 1
        self.tried(now, undone=found == self.found)
        self.found = found
        if (self.undone >= UNDONE_AT_ONCE or self.count >= UNDONE) and not self.complaint:
            self.complaint = (
                f"something keeps changing {name}: {', '.join(found)}, {self.count} times in "
                f"{now - self.first:.0f} s; the agent restores it, later each time where it is undone at "
                f"once ({LONGEST_PAUSE:.0f} s at most): find what does it (try 'ip monitor') and stop it"
            )

    def calm(self, now: float) -> bool:
        """Whether the last repair held."""
        return now - self.last >= max(CALM, 2 * self.pause)
