# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes on one path, their replies, and the silence after which the path is dead."""

from __future__ import annotations

from dataclasses import dataclass

NEVER = float("-inf")
# The interval on a path that carries traffic, and while a probe is unanswered.
ACTIVE_PROBE_SECONDS = 2.0
# The interval on a path without traffic: 33 probes a second for a thousand peers.
IDLE_PROBE_SECONDS = 30.0
# The interval to a peer that WireGuard reaches by itself.
PLAIN_PROBE_SECONDS = 15.0
# The least time between two probes to any of those peers: at most 33 a second, however many there are.
PLAIN_PROBE_SPACING_SECONDS = 0.03
# A path is dead after three probes without a reply, and a margin for the last one.
DEAD_AFTER_SECONDS = 2.2 * ACTIVE_PROBE_SECONDS


@dataclass
class Liveness:
    """The probes on one path.  Times are in seconds on the caller's clock.

    ``unanswered`` is the time of the first probe since the last reply, or None.
    """

    asked: float = NEVER
    answered: float = NEVER
    unanswered: float | None = None

    def due(self, now: float, pause: float) -> bool:
        """Whether to probe again, if a reply is valid for ``pause`` seconds."""
        waiting = self.unanswered is not None and not self.dead(now)
        return now - self.asked >= (min(ACTIVE_PROBE_SECONDS, pause) if waiting else pause)

    def ask(self, now: float) -> None:
        self.asked = now
        if self.unanswered is None:
            self.unanswered = now

    def answer(self, now: float) -> None:
        """Records a reply, or another proof that the path works in both directions."""
        self.answered, self.unanswered = now, None

    def wake(self) -> None:
        """Makes the next probe due."""
        self.asked = NEVER

    def silent(self, now: float) -> float:
        """The age of the oldest unanswered probe in seconds, or 0."""
        return 0.0 if self.unanswered is None else now - self.unanswered

    def dead(self, now: float) -> bool:
        return self.silent(now) > DEAD_AFTER_SECONDS

    def alive(self, now: float) -> bool:
        """Whether there was a reply, and none is overdue."""
        return self.answered > NEVER and not self.dead(now)
