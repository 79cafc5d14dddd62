# SPDX-License-Identifier: GPL-3.0-or-later
"""Is somebody there?  Questions on one path, their answers, and when silence means that it is dead."""

from __future__ import annotations

from dataclasses import dataclass

NEVER = float("-inf")
BUSY_PAUSE = 2.0
"""Seconds between two questions on a path that carries traffic, and while one is not answered."""
IDLE_PAUSE = 30.0
"""Seconds between two questions on a path without traffic: 33 a second for a thousand peers."""
OPEN_PAUSE = 15.0
"""Seconds between two questions to a peer that WireGuard reaches by itself."""
OPEN_PACE = 0.03
"""Seconds from one question to the next over all of those, however many they are: at most 33 a second."""
PATIENCE = 2.2 * BUSY_PAUSE
"""Seconds without an answer after which a path is dead: three questions, and a little for the last."""


@dataclass
class Pulse:
    """The questions on one path.  Times are in seconds on the caller's clock."""

    asked: float = NEVER
    answered: float = NEVER
    unanswered: float | None = None
    """When the first question was asked that nobody has answered since."""

    def due(self, now: float, pause: float) -> bool:
        """Whether to ask again, where an answer is good for ``pause`` seconds."""
        waiting = self.unanswered is not None and not self.dead(now)
        return now - self.asked >= (min(BUSY_PAUSE, pause) if waiting else pause)

    def ask(self, now: float) -> None:
        self.asked = now
        if self.unanswered is None:
            self.unanswered = now

    def answer(self, now: float) -> None:
        """Takes an answer in, or another proof that the path works both ways."""
        self.answered, self.unanswered = now, None

    def wake(self) -> None:
        """Makes the next question due."""
        self.asked = NEVER

    def silent(self, now: float) -> float:
        """For how many seconds the oldest open question has waited."""
        return 0.0 if self.unanswered is None else now - self.unanswered

    def dead(self, now: float) -> bool:
        return self.silent(now) > PATIENCE

    def alive(self, now: float) -> bool:
        """Whether there was an answer, and none is overdue."""
        return self.answered > NEVER and not self.dead(now)
