# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a zone's log as it grows, and stores its entries with the times of the reads."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import redis

from .history import History
from .snapshot import ZoneSnapshot

Fields = Mapping[str, str]


@dataclass(frozen=True)
class Entry:
    """An event that Redis committed after the monotonic time ``after``, and not after ``at``."""

    position: str
    fields: Fields
    after: float = -math.inf
    at: float = math.inf
    era: int = 0


@dataclass
class Reading:
    """The log from its first event on, as read by one connection in one era.

    It is complete up to the monotonic time ``through``.
    """

    era: int
    entries: list[Entry] = field(default_factory=list)
    through: float = -math.inf

    @property
    def is_whole(self) -> bool:
        """Whether it begins with the creation of the zone, not with a restored zone without its log."""
        return not self.entries or self.entries[0].position.endswith("-1")

    def is_prefix_of(self, other: Reading) -> bool:
        """Return whether ``other`` starts with all entries of this one."""
        length = len(self.entries)
        return length <= len(other.entries) and all(
            (own.position, own.fields) == (entry.position, entry.fields)
            for own, entry in zip(self.entries, other.entries[:length], strict=True)
        )


class LogReader:
    """Finds entries that are rewritten or lost although they must stay; has a reading per connection."""

    def __init__(self, connect: Callable[[], redis.Redis], zone: str, history: History) -> None:
        self.seen: dict[str, Entry] = {}
        self.readings: list[Reading] = []
        self.faults: list[str] = []
        self._connect, self._events, self._history = connect, f"{{{zone}}}:events", history
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            with suppress(redis.RedisError, OSError), self._connect() as client:
                era = self._history.era
                # After a loss, a new reading starts at the zone's new server.
                if era % 2 == 0:
                    self._read(client, self.begin_reading(era))

    def _read(self, client: redis.Redis, reading: Reading) -> None:
        last = "0"
        while not self._stop.is_set():
            began = time.monotonic()
            answer: Any = client.xread({self._events: last}, block=300)
            if self._history.era != reading.era:
                return  # the era of these entries is unknown
            entries = dict(answer).get(self._events, []) if answer else []
            self.add_entries(reading, entries, began, time.monotonic())
            last = entries[-1][0] if entries else last

    def begin_reading(self, era: int) -> Reading:
        """Begin a reading; an earlier one of the same era bounds the commit times of its new entries."""
        before = self.readings[-1] if self.readings else None
        through = before.through if before is not None and before.era == era else -math.inf
        self.readings.append(Reading(era, through=through))
        return self.readings[-1]

    def add_entries(
        self, reading: Reading, entries: Sequence[tuple[str, Fields]], began: float, at: float
    ) -> None:
        """Add the entries of a read that began at ``began`` and ended at ``at``."""
        for position, fields in entries:
            entry = Entry(position, fields, reading.through, at, reading.era)
            known = self.seen.get(position)
            if known is not None and known.fields != fields and self._may_differ(known, reading):
                known = None
            if known is not None and known.fields != fields:
                self.faults.append(
                    f"the revision {position} was used twice: {dict(known.fields)}, then {dict(fields)}"
                )
            elif known is not None:
                entry = replace(known, era=max(known.era, reading.era))
            self.seen[position] = entry
            reading.entries.append(entry)
        reading.through = max(reading.through, began)

    def _may_differ(self, known: Entry, reading: Reading) -> bool:
        """Return whether a revision may be reused: after an (undetectable) rollback of a running Redis."""
        return self._history.forks and known.era != reading.era

    def lost_events(self, snapshot: ZoneSnapshot) -> Iterator[str]:
        """Yield the events of this era that are no longer in the log."""
        present = {entry for entry, _ in snapshot.events}
        for position, entry in self.seen.items():
            if entry.era == self._history.era and position not in present:
                yield f"the event {position} is gone although Redis lost nothing since"

    def distinct_readings(self) -> list[Reading]:
        """Return the readings that are not the start of a later one."""
        readings = [reading for reading in self.readings if reading.entries]
        return [
            reading
            for number, reading in enumerate(readings)
            if not any(reading.is_prefix_of(later) for later in readings[number + 1 :])
        ]

    def longest_of(self, era: int) -> Reading | None:
        """Return the most complete reading of an era."""
        readings = [reading for reading in self.readings if reading.era == era and reading.entries]
        return max(readings, key=lambda reading: (reading.through, len(reading.entries)), default=None)
