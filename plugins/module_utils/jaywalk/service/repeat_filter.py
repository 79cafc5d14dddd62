# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps log lines that repeat themselves, each minute for days, to one an hour with a count.  Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

PERIOD_SECONDS = 3600.0
# Subjects. Beyond that, the filter forgets the oldest one, whose next message is logged again.
MAX_REMEMBERED = 1000


class RepeatFilter:
    """What was logged about what, when, and how often it came since; times are in seconds, monotonic."""

    def __init__(self, max_remembered: int = MAX_REMEMBERED) -> None:
        self._max_remembered = max_remembered
        self._logged: dict[Hashable, tuple[Hashable, float, int]] = {}

    def suppressed_count(self, subject: Hashable, message: Hashable, now: float) -> int | None:
        """How often ``message`` was suppressed since it was last logged, if it should be logged at ``now``.

        None if it should not.  Another message about the same subject is logged at once.
        """
        before = self._logged.pop(subject, None)
        same = before is not None and before[0] == message
        count = before[2] if before is not None and same else 0
        if before is not None and same and now - before[1] < PERIOD_SECONDS:
            self._logged[subject] = message, before[1], count + 1
            return None
        self._logged[subject] = message, now, 0
        if len(self._logged) > self._max_remembered:
            del self._logged[next(iter(self._logged))]
        return count

    def forget(self, subject: Hashable) -> None:
        """Makes the next message about ``subject`` news."""
        self._logged.pop(subject, None)

    def news(self, sentences: Iterable[str], now: float) -> list[str]:
        """The sentences to log at ``now``, each with how often it was suppressed."""
        return [text for text in (self._passed(sentence, now) for sentence in sentences) if text]

    def _passed(self, sentence: str, now: float) -> str:
        count = self.suppressed_count(sentence, sentence, now)
        if count is None:
            return ""
        return f"{sentence} ({count} more times since the last such line)" if count else sentence
