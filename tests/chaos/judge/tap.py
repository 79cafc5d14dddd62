# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a zone's log as it grows, and remembers what it said and when."""

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
from .picture import Picture

Fields = Mapping[str, str]


@dataclass(frozen=True)
class Entry:
    """An event that was committed after the monotonic time ``after``, and at ``at`` or before."""

    position: str
    fields: Fields
    after: float = -math.inf
    at: float = math.inf
    era: int = 0


@dataclass
class Reading:
    """The log from its first event on, as one connection told it in one era.

    It is complete up to the monotonic time ``through``.
    """

    era: int
    entries: list[Entry] = field(default_factory=list)
    through: float = -math.inf

    @property
    def is_whole(self) -> bool:
        """Whether it begins with the zone, and not with one that was put back without its log."""
        return not self.entries or self.entries[0].position.endswith("-1")

    def goes_on(self, other: Reading) -> bool:
        """Whether ``other`` holds all of this one."""
        length = len(self.entries)
        return length <= len(other.entries) and all(
            (mine.position, mine.fields) == (theirs.position, theirs.fields)
            for mine, theirs in zip(self.entries, other.entries[:length], strict=True)
        )


class Tap:
    """Says when an entry is rewritten or gone that must stay; keeps a reading for each connection."""

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
                # What is seen after a loss is seen anew, from whoever has the zone then.
                if era % 2 == 0:
                    self._read(client, self.begin(era))

    def _read(self, client: redis.Redis, reading: Reading) -> None:
        last = "0"
        while not self._stop.is_set():
            began = time.monotonic()
            answer: Any = client.xread({self._events: last}, block=300)
            if self._history.era != reading.era:
                return  # of which era this is nobody knows
            entries = dict(answer).get(self._events, []) if answer else []
            self.take(reading, entries, began, time.monotonic())
            last = entries[-1][0] if entries else last

    def begin(self, era: int) -> Reading:
        """A new reading; what of the same era was told before bounds when its new entries were committed."""
        before = self.readings[-1] if self.readings else None
        through = before.through if before is not None and before.era == era else -math.inf
        self.readings.append(Reading(era, through=through))
        return self.readings[-1]

    def take(self, reading: Reading, entries: Sequence[tuple[str, Fields]], began: float, at: float) -> None:
        """Takes in what a read told that began and ended then."""
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
        """Whether a revision may be used anew: only a copy of a running Redis tells nobody that it is one."""
        return self._history.forks and known.era != reading.era

    def lost(self, picture: Picture) -> Iterator[str]:
        """What was in the log in this era and is not any more."""
        there = {entry for entry, _ in picture.events}
        for position, entry in self.seen.items():
            if entry.era == self._history.era and position not in there:
                yield f"the event {position} is gone although Redis lost nothing since"

    def distinct(self) -> list[Reading]:
        """The readings that say something which no later one says."""
        readings = [each for each in self.readings if each.entries]
        return [
            each
            for number, each in enumerate(readings)
            if not any(each.goes_on(later) for later in readings[number + 1 :])
        ]

    def last_of(self, era: int) -> Reading | None:
        """The reading that knows most of an era."""
        of_it = [each for each in self.readings if each.era == era and each.entries]
        return max(of_it, key=lambda each: (each.through, len(each.entries)), default=None)
