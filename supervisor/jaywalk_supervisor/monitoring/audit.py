# SPDX-License-Identifier: GPL-3.0-or-later
"""A slow look at all records in Redis, for those that were spoilt, or mended, without a commit.

A supervisor decides over its own copy of a zone and reads a zone's hashes once, so that it would learn of
such a record only at its next start.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from jaywalk.core.errors import InvalidValue
from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.zone.models import Lease, Peer

from ..state.unreadable import read
from ..state.zone_state import ZoneState
from ..store.store import Store, ZoneGone
from . import request_log
from .health import Health

PERIOD_SECONDS = 5.0
ZONES = 10
# Zones and records, about, that one look takes: 10 ms of work, so that nobody's join waits for it.
RECORDS = 500


class RecordMonitor:
    """Has logs and health name the records that cannot be read, and looks for such from time to time."""

    def __init__(self, health: Health, repeats: RepeatFilter) -> None:
        self._health = health
        self._repeats = repeats
        self._audit = Audit()

    def tell(self, state: ZoneState) -> None:
        """Says what is the case in ``state`` now."""
        marks = list(state.unreadable.values())
        if marks:
            request_log.log_unreadable_records(state.zone.name, marks, self._repeats)
            self._health.unreadable[state.zone.name] = marks
        else:
            self._health.unreadable.pop(state.zone.name, None)

    def look(self, store: Store, states: dict[str, ZoneState]) -> list[str]:
        """Reads zones of ``states`` anew of which somebody spoilt or mended a record without a commit.

        Returns those that cannot be read as a whole.
        """
        broken = []
        for zone in self._audit.changed(store, states):
            try:
                states[zone] = store.reload(states[zone])
            except (InvalidValue, ZoneGone):
                broken.append(zone)
            else:
                self.tell(states[zone])
        return broken


class Audit:
    """Where the look at all zones stands."""

    def __init__(self) -> None:
        self._order: list[str] = []
        self._cursors: dict[str, tuple[int, int]] = {}
        self._looked = -PERIOD_SECONDS

    def changed(self, store: Store, states: Mapping[str, ZoneState]) -> list[str]:
        """As :meth:`look`, once in ``PERIOD_SECONDS``; nothing in between."""
        now = time.monotonic()
        if now - self._looked < PERIOD_SECONDS:
            return []
        self._looked = now
        return self.look(store, states)

    def look(self, store: Store, states: Mapping[str, ZoneState]) -> list[str]:
        """The zones, of the next few, whose records are not as readable as ``states`` has them."""
        found, read_records = [], 0
        for _turn in range(min(ZONES, len(states))):
            zone = self._next(states)
            if zone is None or read_records >= RECORDS:
                break
            differs, count = self._look_at(store, states[zone])
            read_records += count
            if differs:
                found.append(zone)
        return found

    def _next(self, states: Mapping[str, ZoneState]) -> str | None:
        while not self._order or self._order[-1] not in states:
            if not self._order:
                self._order = sorted(states, reverse=True)
                self._cursors = {zone: at for zone, at in self._cursors.items() if zone in states}
            else:
                self._order.pop()
        return self._order.pop()

    def _look_at(self, store: Store, state: ZoneState) -> tuple[bool, int]:
        """Whether a page of a zone, or a record known to be unreadable, differs; and how many it read."""
        keys, marked = state.keys, list(state.unreadable)
        cursors = self._cursors.get(state.zone.name, (0, 0))
        with store.redis.pipeline(transaction=False) as pipe:
            pipe.hscan(keys.peers, cursors[0], count=RECORDS).hscan(keys.leases, cursors[1], count=RECORDS)
            if marked:
                pipe.hmget(keys.peers, marked).hmget(keys.leases, marked)
            (at_peers, peers), (at_leases, leases), *texts = pipe.execute()
        self._cursors[state.zone.name] = (int(at_peers), int(at_leases))
        spoilt = any(_is_spoilt_peer(state, *each) for each in peers.items())
        spoilt = spoilt or any(_is_spoilt_lease(state, *each) for each in leases.items())
        known = zip(marked, *texts, strict=True) if texts else ()
        mended = any(_differs(state, key, peer, lease) for key, peer, lease in known)
        return spoilt or mended, len(peers) + len(leases)


def _is_spoilt_peer(state: ZoneState, key: str, text: str) -> bool:
    try:
        Peer.from_wire(key, text, state.zone)
    except InvalidValue:
        return key not in state.unreadable
    return False


def _is_spoilt_lease(state: ZoneState, key: str, text: str) -> bool:
    try:
        Lease.from_wire(key, text)
    except InvalidValue:
        return key not in state.unreadable
    return False


def _differs(state: ZoneState, key: str, peer: str | None, lease: str | None) -> bool:
    """Whether the records of a marked key are other ones than those that were marked."""
    mark = read(state.zone, key, peer, lease)[2]
    was = state.unreadable[key]
    return mark is None or (mark.hashes, mark.reason) != (was.hashes, was.reason)
