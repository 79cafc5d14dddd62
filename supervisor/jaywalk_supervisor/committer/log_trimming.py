# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps ``{zone}:events`` within bytes and days; each commit keeps it within a number of entries.

An agent that stands further back takes a snapshot, as it does for any gap.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import redis

from jaywalk.zone.retention import RELEASE_SECONDS

from ..state.zone_state import ZoneState

# Memory of a zone's log in Redis. It holds 60,000 single joins, or 270 commits of a storm with 256 each.
LOG_BYTES = 16 * 1024 * 1024
# How long an event stays: a day longer than a node may need it to tell a removal from a loss.
LOG_SECONDS = RELEASE_SECONDS + 86_400.0
# How exactly it is known when what was committed.
MARK_SECONDS = 3600.0
# The share of the bound to which a log is cut, so that it is not cut at each commit.
ROOM = 0.75
ATTEMPTS = 5
# Logs that are looked at between two looks for new zones.
LOOKS = 10


@dataclass
class _Known:
    """``written`` bytes since the log was last measured, and where it ended at some times."""

    written: int = LOG_BYTES
    marks: deque[tuple[float, int, int]] = field(default_factory=deque)


class LogTrimmer:
    """What one supervisor knows of the logs of its zones; ``now`` is a clock that nobody sets."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def wrote(self, zone: str, size: int) -> None:
        """Notes that a commit added about ``size`` bytes."""
        if zone in self._known:
            self._known[zone].written += size

    def tend(self, client: Any, states: list[ZoneState], now: float) -> None:
        """Cuts the logs that are too large or too old, among those of ``states``."""
        names = {state.zone.name for state in states}
        self._known = {zone: known for zone, known in self._known.items() if zone in names}
        looks = 0
        for state in states:
            known = self._known.setdefault(state.zone.name, _Known())
            self._cut_old(client, state, known, now)
            if known.written >= LOG_BYTES / 8 and looks < LOOKS:
                looks += 1
                known.written = 0
                with suppress(redis.ResponseError):  # a managed server that does not let us measure
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
    """Cuts a log that takes more than ``LOG_BYTES`` of Redis's memory; raises redis-py's errors."""
    for _attempt in range(ATTEMPTS):
        size, length = client.memory_usage(events, samples=0) or 0, client.xlen(events)
        if size <= LOG_BYTES or length <= 1:
            return
        client.xtrim(events, maxlen=max(1, int(length * ROOM * LOG_BYTES / size)), approximate=True)
