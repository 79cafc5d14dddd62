# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each zone stood last: tells a Redis that was put back while it runs from what others committed.

A Redis that is emptied and filled again, or that copies an older one (``REPLICAOF``), keeps its run id, and
would give revisions out twice.  So a supervisor remembers where each zone stood, longer than its connections
last, and opens a new epoch where a zone went back or forked.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress

from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.zone.events import Event, Fork
from jaywalk.zone.marks import Head

from ..state.zone_state import ZoneState
from ..store.store import Store

log = logging.getLogger(__name__)

# At a zone whose keys come back one after the other, before it is served however much they still change.
MAX_CHECKS = 3


class RedisRolledBack(JaywalkError):
    """A zone stands in another history than it did: Redis was put back to an older copy."""

    def __init__(self, zone: str, known: Head, head: Head) -> None:
        super().__init__(
            f"zone {zone} stood at {known} and stands at {head}: Redis was put back to an older copy"
        )


class Heads:
    """What one supervisor knows of where its zones stand."""

    def __init__(self) -> None:
        self._known: dict[str, Head] = {}
        # Zones that went back or were gone, with what was there at each look since.
        self._returning: dict[str, list[object]] = {}

    def record(self, zone: str, head: Head) -> None:
        """Remembers where a zone stands now; what is older than the known one tells nothing."""
        known = self._known.get(zone)
        if known is None or not head.is_before(known):
            self._known[zone] = head

    def mark_missing(self, zone: str) -> None:
        """The zone is gone, or another one: should it come back, its keys may do so one after the other."""
        if zone in self._known:
            self._returning[zone] = []

    @property
    def returning(self) -> Collection[str]:
        """The zones that went back or were gone, and are not served again yet."""
        return self._returning.keys()

    def changed(self, store: Store, zones: Collection[str]) -> list[str]:
        """Those of ``zones`` that do not stand where they stood, by one look at Redis."""
        heads = store.heads(zones)
        return [zone for zone in zones if heads[zone] != self._known.get(zone)]

    def check(self, store: Store, zone: str) -> None:
        """Records the zone's position; raises ``RedisRolledBack``, or ``ZoneGone`` if the zone is gone."""
        head = store.head(zone)
        if self._differs(store, zone, head):
            raise RedisRolledBack(zone, self._known[zone], head)
        self.record(zone, head)

    def _differs(self, store: Store, zone: str, head: Head) -> bool:
        """Whether ``head`` is not of the history that we know, and nobody opened a new epoch since.

        A log that was trimmed beyond where we stood does not say so.
        """
        known = self._known.get(zone)
        if known is None or head.epoch > known.epoch:
            return False
        if head.place <= known.place:
            return head.is_before(known)
        entry = store.entry_after(zone, known)
        try:
            with suppress(InvalidValue):
                if entry is not None:
                    Event.from_entry(*entry).follows(known)
        except Fork:
            return True
        return False

    def is_settled(self, store: Store, zone: str) -> bool:
        """Whether a zone may be served; where Redis was put back, a new epoch begins first.

        One that comes back is looked at again as long as its keys are still coming.
        """
        head, known = store.head(zone), self._known.get(zone)
        differs = self._differs(store, zone, head)
        looks = self._returning.setdefault(zone, []) if differs else self._returning.get(zone, [])
        if zone in self._returning and known is not None and head.epoch <= known.epoch:
            looks.append((head, store.sizes(zone)))
            if len(looks) < MAX_CHECKS and looks[-1:] != looks[-2:-1]:
                return False
        self._returning.pop(zone, None)
        if differs and known is not None and store.bump(zone, over=known.epoch):
            log.warning(
                "Redis was put back to an older copy while it ran: zone %s stood at %s and came back at %s; "
                "it has a new epoch, and nodes whose joins were lost join again",
                zone,
                known,
                head,
            )
        return True


def loaded(store: Store, zone: str, before: ZoneState | None = None) -> ZoneState:
    """The zone as it stands, with revisions behind those of all its records; raises as ``Store.load``.

    Where only a part of its keys was put back, records may be newer than its meta data.
    """
    state = store.load(zone, before)
    newest = max((peer.rev for peer in state.peers.values()), default=0)
    if newest > state.rev and store.bump(zone, over=state.epoch):
        log.warning(
            "zone %s stands at %s and holds a record of revision %d: only some of its keys were put back; "
            "it has a new epoch",
            zone,
            state.head,
            newest,
        )
        state = store.load(zone, before)
    return state
