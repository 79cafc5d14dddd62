# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the audit of zones and of the API's tokens, in the order of time."""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue
from jaywalk.zone import codec
from jaywalk.zone.record_fields import FIELDS
from jaywalk.zone.redis_keys import REMOVED_ZONES, TOKENS_AUDIT, ZoneKeys

from ..state.wrong_type import members
from ..store.store import Store

PAGE = 500
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGE = re.compile(r"([0-9]{1,6})([smhd])")
# Names of the fields of a lease, whose records have a letter for each.
_NAMES = {field.letter: field.name for field in FIELDS}
# Fields that say nothing about who may do what; the digest of a token is of no use to a reader.
_OMITTED = ("seq", "digest")


@dataclass(frozen=True)
class AuditRecord:
    """One change: ``zone`` is empty for a token; ``before`` and ``after`` are None without a record.

    ``entry_id`` is the entry's id in Redis, which grows: milliseconds since 1970, a hyphen, and a number.
    """

    entry_id: str
    zone: str
    who: str
    action: str
    record: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    @classmethod
    def from_entry(cls, zone: str, entry_id: str, fields: Mapping[str, str]) -> AuditRecord:
        """Reads an entry of a stream; what does not parse is kept as text."""
        who, action, record = (fields.get(name, "") for name in ("who", "action", "record"))
        before, after = (_parsed(fields.get(name, "")) for name in ("before", "after"))
        return cls(entry_id, zone, who, action, record, before, after)

    @property
    def order(self) -> tuple[int, int]:
        """The time in milliseconds since 1970, and the number within it."""
        milliseconds, _, number = self.entry_id.partition("-")
        return int(milliseconds), int(number)

    @property
    def time(self) -> str:
        """The time by the controller's clock, in ISO 8601."""
        moment = datetime.fromtimestamp(self.order[0] / 1000, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def to_json(self) -> dict[str, Any]:
        """The record as the API and ``--json`` show it."""
        return {
            "time": self.time,
            "id": self.entry_id,
            "zone": self.zone,
            "who": self.who,
            "action": self.action,
            "record": self.record,
            "before": self.before,
            "after": self.after,
        }

    def to_line(self) -> str:
        """The record as one line, whatever it contains."""
        before, after = self.before or {}, self.after or {}
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        changes = [f"{name}: {_shown(before.get(name))} -> {_shown(after.get(name))}" for name in names]
        parts = (self.time, self.zone or "-", self.who, self.action, self.record, "; ".join(changes))
        return _one_line("  ".join(part for part in parts if part))


def streams(store: Store, zone: str = "") -> dict[str, str]:
    """Returns the name of each audit's stream, with its zone: of one zone, or of all, removed ones included.

    The audit of the tokens has an empty zone.
    """
    zones = {zone} if zone else {*store.zones(), *members(store.redis, REMOVED_ZONES)}
    found = {} if zone else {TOKENS_AUDIT: ""}
    for name in sorted(zones):
        found |= dict.fromkeys((ZoneKeys(name).audit, ZoneKeys(name).node_audit), name)
    return found


def read(store: Store, zone: str = "", since: float = 0.0) -> Iterator[AuditRecord]:
    """Yields the records since a time, in seconds since 1970; the oldest first."""
    start = _start(since)
    found = [_page_by_page(store, key, name, start) for key, name in streams(store, zone).items()]
    yield from heapq.merge(*found, key=lambda record: record.order)


class Follower:
    """Reads what is new in the audit since the last reading."""

    def __init__(self, store: Store, zone: str = "", since: float = 0.0) -> None:
        self._store = store
        self._zone = zone
        self._from = _start(since)
        self._last: dict[str, str] = {}

    def new(self) -> Sequence[AuditRecord]:
        """Returns the records since the last call, or since the start; the oldest first."""
        found: list[AuditRecord] = []
        for key, name in streams(self._store, self._zone).items():
            start = f"({self._last[key]}" if key in self._last else self._from
            records = list(_page_by_page(self._store, key, name, start))
            if records:
                self._last[key] = records[-1].entry_id
            found += records
        return sorted(found, key=lambda record: record.order)


def since_time(text: str, now: float) -> float:
    """Returns a time of the audit in seconds since 1970; raises ``InvalidValue``."""
    if age := _AGE.fullmatch(text):
        return now - int(age[1]) * UNIT_SECONDS[age[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidValue(
            f"the time {validation.shown(text)} does not parse",
            "give one like 2026-11-29T12:00:00Z, 2h or 7d",
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _start(since: float) -> str:
    """Returns the first id of a stream's entries at or after a time."""
    return str(max(0, int(since * 1000)))


def _page_by_page(store: Store, key: str, zone: str, start: str) -> Iterator[AuditRecord]:
    while entries := store.redis.xrange(key, min=start, count=PAGE):
        for entry_id, fields in entries:
            yield AuditRecord.from_entry(zone, entry_id, fields)
        start = f"({entries[-1][0]}"


def _parsed(text: str) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        values: dict[str, Any] = codec.parsed(text, dict, "the record")
    except InvalidValue:
        return {"text": text}
    named = {_NAMES.get(name) or name: _unpacked(value) for name, value in values.items()}
    return {name: value for name, value in named.items() if name not in _OMITTED}


def _unpacked(value: object) -> object:
    """Returns the value of a zone's field, which may be JSON in a text."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _shown(value: object) -> str:
    return "none" if value in (None, "", []) else value if isinstance(value, str) else json.dumps(value)


def _one_line(text: str) -> str:
    """Returns ``text`` without a character that ends a line or acts on a terminal."""
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)
