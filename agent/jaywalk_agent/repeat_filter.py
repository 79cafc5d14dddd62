# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps a sentence that repeats itself each minute out of the log for an hour.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

PERIOD_SECONDS = 3600.0
MAX_REMEMBERED = 1000
"""Sentences; beyond that the one that was logged first is forgotten, and is news again."""


class RepeatFilter:
    """What was logged, when, and how often it came since."""

    def __init__(self) -> None:
        self._logged: dict[str, tuple[float, int]] = {}

    def news(self, sentences: Iterable[str], now: float) -> list[str]:
        """The sentences to log at ``now`` (seconds, monotonic), with how often they were held back."""
        return [text for text in (self._passed(each, now) for each in sentences) if text]

    def _passed(self, sentence: str, now: float) -> str:
        since, count = self._logged.get(sentence, (now, 0))
        if sentence in self._logged and now - since < PERIOD_SECONDS:
            self._logged[sentence] = since, count + 1
            return ""
        self._logged.pop(sentence, None)
        self._logged[sentence] = now, 0
        if len(self._logged) > MAX_REMEMBERED:
            del self._logged[next(iter(self._logged))]
        return f"{sentence} ({count} more times since the last such line)" if count else sentence
