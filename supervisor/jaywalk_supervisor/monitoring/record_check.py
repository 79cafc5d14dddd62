# SPDX-License-Identifier: GPL-3.0-or-later
"""Slow checks of all records in Redis for those that were corrupted, or repaired, without a commit.

A supervisor decides on its own copy of a zone and reads a zone's hashes once.  Without these checks it would
notice such a record only at its next start.
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
# Approximate limits of zones and records that one check reads: 10 ms of work, so that it delays no join.
MAX_ZONES = 10
MAX_RECORDS = 500


class RecordMonitor:
    """Reports unreadable records in the log and in the health, and checks for them from time to time."""

    def __init__(self, health: Health, repeats: RepeatFilter) -> None:
        self._health = health
        self._repeats = repeats
        self._record_check = RecordCheck()

    def report(self, state: ZoneState) -> None:
        """Reports the unreadable records of ``state``, or that there are none."""
        marks = list(state.unreadable.values())
        if marks:
            request_log.log_unreadable_records(state.zone.name, marks, self._repeats)
            self._health.unreadable[state.zone.name] = marks
        else:
            self._health.unreadable.pop(state.zone.name, None)

    def check(self, store: Store, states: dict[str, ZoneState]) -> list[str]:
        """Reloads zones of ``states`` of which a record was corrupted or repaired without a commit.

        Returns those that cannot be loaded at all.
        """
        broken = []
        for zone in self._record_check.changed(store, states):
            try:
                states[zone] = store.reload(states[zone])
            except (InvalidValue, ZoneGone):
                broken.append(zone)
            else:
                self.report(states[zone])
        return broken


class RecordCheck:
    """The progress of the checks through all zones."""

    def __init__(self) -> None:
        self._order: list[str] = []
        self._cursors: dict[str, tuple[int, int]] = {}
        self._checked_at = -PERIOD_SECONDS

    def changed(self, store: Store, states: Mapping[str, ZoneState]) -> list[str]:
        """As :meth:`check_next`, once in ``PERIOD_SECONDS``; returns nothing in between."""
        now = time.monotonic()
        if now - self._checked_at < PERIOD_SECONDS:
            return []
        self._checked_at = now
        return self.check_next(store, states)

    def check_next(self, store: Store, states: Mapping[str, ZoneState]) -> list[str]:
        """Checks the next few zones; returns those with records whose readability differs from ``states``."""
        found, read_records = [], 0
        for _turn in range(min(MAX_ZONES, len(states))):
            zone = self._next(states)
            if zone is None or read_records >= MAX_RECORDS:
                break
            differs, count = self._check_page(store, states[zone])
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

    def _check_page(self, store: Store, state: ZoneState) -> tuple[bool, int]:
        """Whether a page of a zone, or a known unreadable record, differs; and the number of records read."""
        keys, marked = state.keys, list(state.unreadable)
        cursors = self._cursors.get(state.zone.name, (0, 0))
        with store.redis.pipeline(transaction=False) as pipe:
            pipe.hscan(keys.peers, cursors[0], count=MAX_RECORDS)
            pipe.hscan(keys.leases, cursors[1], count=MAX_RECORDS)
            if marked:
                pipe.hmget(keys.peers, marked).hmget(keys.leases, marked)
            (at_peers, peers), (at_leases, leases), *texts = pipe.execute()
        self._cursors[state.zone.name] = (int(at_peers), int(at_leases))
        spoilt = any(_is_spoilt_peer(state, key, text) for key, text in peers.items())
        spoilt = spoilt or any(_is_spoilt_lease(state, key, text) for key, text in leases.items())
        known = zip(marked, *texts, strict=True) if texts else ()
        changed = any(_differs(state, key, peer, lease) for key, peer, lease in known)
        return spoilt or changed, len(peers) + len(leases)


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
    """Whether the records of a marked key changed since they were marked."""
    mark = read(state.zone, key, peer, lease)[2]
    was = state.unreadable[key]
    return mark is None or (mark.hashes, mark.reason) != (was.hashes, was.reason)
