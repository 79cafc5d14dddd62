# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits ``{zone}:events`` in bytes and age; each commit also limits its number of entries.

An agent whose position is no longer in the log reads the whole zone, as it does for any gap.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import redis

from jaywalk.zone.retention import RELEASE_SECONDS

from ..state.zone_state import ZoneState

# Memory of a zone's log in Redis. It holds 60,000 single joins, or 270 commits of 256 joins in a storm.
LOG_BYTES = 16 * 1024 * 1024
# Age limit of an event: a day longer than a node may need it to distinguish a removal from a loss.
LOG_SECONDS = RELEASE_SECONDS + 86_400.0
# Resolution of the recorded times of commits.
MARK_SECONDS = 3600.0
# A log is cut to this share of its limit, so that not each commit cuts it.
CUT_TO_SHARE = 0.75
ATTEMPTS = 5
# Limit of logs that are measured per refresh.
MAX_MEASURED = 10


@dataclass
class _Known:
    """Bytes ``written`` since the log was last measured, and (time, epoch, rev) of its end at some times."""

    written: int = LOG_BYTES
    marks: deque[tuple[float, int, int]] = field(default_factory=deque)


class LogTrimmer:
    """Trims the logs of one supervisor's zones; ``now`` is the time of a monotonic clock."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def record_written(self, zone: str, size: int) -> None:
        """Records that a commit added about ``size`` bytes."""
        if zone in self._known:
            self._known[zone].written += size

    def trim(self, client: Any, states: list[ZoneState], now: float) -> None:
        """Cuts the logs of ``states`` that are too large or too old."""
        names = {state.zone.name for state in states}
        self._known = {zone: known for zone, known in self._known.items() if zone in names}
        measured = 0
        for state in states:
            known = self._known.setdefault(state.zone.name, _Known())
            self._cut_old(client, state, known, now)
            if known.written >= LOG_BYTES / 8 and measured < MAX_MEASURED:
                measured += 1
                known.written = 0
                with suppress(redis.ResponseError):  # a managed server may refuse to measure
                    cut_to_size(client, state.keys.events)

    @staticmethod
    def _cut_old(client: Any, state: ZoneState, known: _Known, now: float) -> None:
        marks = known.marks
        if not marks or (now - marks[-1][0] >= MARK_SECONDS and marks[-1][1:] != (state.epoch, state.rev)):
            marks.append((now, state.epoch, state.rev))
        old = None
        while marks and now - marks[0][0] >= LOG_SECONDS:
            old = marks.popleft()
        if old is not None:
            client.xtrim(state.keys.events, minid=f"{old[1]}-{old[2] + 1}", approximate=False)


def cut_to_size(client: Any, events: str) -> None:
    """Cuts a log that uses more than ``LOG_BYTES`` of Redis's memory; raises redis-py's errors."""
    for _attempt in range(ATTEMPTS):
        size, length = client.memory_usage(events, samples=0) or 0, client.xlen(events)
        if size <= LOG_BYTES or length <= 1:
            return
        client.xtrim(events, maxlen=max(1, int(length * CUT_TO_SHARE * LOG_BYTES / size)), approximate=True)
