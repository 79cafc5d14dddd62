# SPDX-License-Identifier: GPL-3.0-or-later
"""The last known position of each zone: distinguishes a Redis that was rolled back from commits of others.

A Redis that is emptied and filled again, or that copies an older one (``REPLICAOF``), keeps its run id and
would use revisions twice.  So a supervisor remembers the position of each zone, also across connections, and
opens a new epoch if a zone went back or forked.
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

# Limit of checks of a zone whose keys are being restored one by one; then it is served even if they still
# change.
MAX_CHECKS = 3


class RedisRolledBack(JaywalkError):
    """A zone has another history than before: Redis was put back to an older copy."""

    def __init__(self, zone: str, known: Head, head: Head) -> None:
        super().__init__(f"zone {zone} was at {known} and is at {head}: Redis was put back to an older copy")


class Heads:
    """The last known positions of one supervisor's zones."""

    def __init__(self) -> None:
        self._known: dict[str, Head] = {}
        # Zones that went back or were gone, with their contents at each check since.
        self._returning: dict[str, list[object]] = {}

    def record(self, zone: str, head: Head) -> None:
        """Records a zone's position; ignores one that is older than the known position."""
        known = self._known.get(zone)
        if known is None or not head.is_before(known):
            self._known[zone] = head

    def mark_missing(self, zone: str) -> None:
        """Records that a zone is gone or replaced; its keys may be restored one by one."""
        if zone in self._known:
            self._returning[zone] = []

    @property
    def returning(self) -> Collection[str]:
        """The zones that went back or were gone and are not yet served again."""
        return self._returning.keys()

    def changed(self, store: Store, zones: Collection[str]) -> list[str]:
        """Returns those of ``zones`` whose position is not the known one, with one request to Redis."""
        heads = store.heads(zones)
        return [zone for zone in zones if heads[zone] != self._known.get(zone)]

    def check(self, store: Store, zone: str) -> None:
        """Records the zone's position; raises ``RedisRolledBack``, or ``ZoneGone`` if the zone is gone."""
        head = store.head(zone)
        if self._differs(store, zone, head):
            raise RedisRolledBack(zone, self._known[zone], head)
        self.record(zone, head)

    def _differs(self, store: Store, zone: str, head: Head) -> bool:
        """Whether ``head`` is not in the known history and no new epoch was opened since.

        A log that was trimmed past the known position cannot show that.
        """
        known = self._known.get(zone)
        if known is None or head.epoch > known.epoch:
            return False
        if head.position <= known.position:
            return head.is_before(known)
        entry = store.entry_after(zone, known)
        try:
            with suppress(InvalidValue):
                if entry is not None:
                    Event.from_entry(*entry).is_next(known)
        except Fork:
            return True
        return False

    def is_settled(self, store: Store, zone: str) -> bool:
        """Whether a zone may be served; opens a new epoch first if Redis was put back to an older copy.

        A zone that returns is checked again while its keys are still being restored.
        """
        head, known = store.head(zone), self._known.get(zone)
        differs = self._differs(store, zone, head)
        checks = self._returning.setdefault(zone, []) if differs else self._returning.get(zone, [])
        if zone in self._returning and known is not None and head.epoch <= known.epoch:
            checks.append((head, store.sizes(zone)))
            if len(checks) < MAX_CHECKS and checks[-1:] != checks[-2:-1]:
                return False
        self._returning.pop(zone, None)
        if differs and known is not None and store.bump(zone, over=known.epoch):
            log.warning(
                "Redis was put back to an older copy while it ran: zone %s was at %s and came back at %s; "
                "it has a new epoch, and nodes whose joins were lost join again",
                zone,
                known,
                head,
            )
        return True


def load_consistent(store: Store, zone: str, before: ZoneState | None = None) -> ZoneState:
    """Loads a zone; opens a new epoch first if a record is newer than the zone's revision.

    Raises as ``Store.load``.  Records may be newer than the meta data if only some of the zone's keys were
    put back.
    """
    state = store.load(zone, before)
    newest = max((peer.rev for peer in state.peers.values()), default=0)
    if newest > state.rev and store.bump(zone, over=state.epoch):
        log.warning(
            "zone %s is at %s and has a record of revision %d: only some of its keys were put back; "
            "it has a new epoch",
            zone,
            state.head,
            newest,
        )
        state = store.load(zone, before)
    return state
