# SPDX-License-Identifier: GPL-3.0-or-later
"""The zones that a committer serves: opened as they appear, followed, and dropped as they go or break."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from jaywalk.controller.address import ControllerAddress
from jaywalk.core.errors import InvalidValue
from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.zone.models import Zone

from ..admin.zones import with_defaults
from ..monitoring.audit import RecordMonitor
from ..monitoring.clock import Timekeeper
from ..monitoring.fork_detection import Heads, RedisRolledBack, loaded
from ..monitoring.health import Health
from ..recovery.recovery import Recovery
from ..recovery.restore import recover_missing_peers
from ..state.pool import PoolFillLog
from ..state.wrong_type import check_types
from ..state.zone_state import ZoneState
from ..store.acl import write_user
from ..store.store import Store, ZoneGone
from .inboxes import Inboxes

log = logging.getLogger(__name__)


class ServedZones:
    """The state of each zone that is served, by its name in ``states``; the rest of what is known of them."""

    def __init__(
        self,
        where: ControllerAddress,
        agent_digest: str,
        defaults: Sequence[Zone],
        recovery: Recovery,
        health: Health,
        timekeeper: Timekeeper,
        inboxes: Inboxes,
        repeats: RepeatFilter,
    ) -> None:
        self.states: dict[str, ZoneState] = {}
        self._where = where
        self._agent_digest = agent_digest
        self._defaults = defaults
        self._recovery = recovery
        self._health = health
        self._time = timekeeper
        self._inboxes = inboxes
        self._former: dict[str, ZoneState] = {}
        self._heads = Heads()
        self._fill = PoolFillLog()
        self._records = RecordMonitor(health, repeats)

    def close(self) -> None:
        """Serves none any more; what is known of them stays for when they are opened again."""
        self._former |= self.states
        self._recovery.learn(self.states)
        self.states = {}
        self._inboxes.clear()

    def refresh(self, store: Store) -> None:
        """Puts back what was lost, makes the default zones, takes up zones that appeared, and lets go of
        those that are gone.
        """
        self._drop_rolled_back(store)
        if not self._where.nodes:
            self._recovery.restore_shared(store)
        for name in self._recovery.restore_zones(store, self.states, self._heads.returning):
            self.states.pop(name, None)
        self._health.locked_zones = dict(self._recovery.locked)
        names = with_defaults(store, self._defaults)
        for name in names:
            self._health.last_turn = time.monotonic()
            if name not in self.states:
                self._open(store, name)
        for name in self.states.keys() - set(names):
            self.drop(name, f"zone {name} was removed")
        for name in self._health.broken_zones.keys() - set(names):
            del self._health.broken_zones[name]
        self._recovery.keep(store, self.states)

    def restart_listening(self, jump: float = 0.0) -> None:
        """Counts nobody as silent who may have spoken before now; ``jump`` is in seconds."""
        for state in (*self._former.values(), *self.states.values()):
            state.restart_listening(self._time.now(), jump)

    def caught_up(self, store: Store, zone: str) -> ZoneState:
        """A zone as it stands; in a new epoch, Redis may have forgotten when it heard of whom.

        Raises ``RedisRolledBack``, ``ZoneGone`` and ``InvalidValue``.
        """
        self._heads.check(store, zone)
        epoch = self.states[zone].epoch
        state = self.states[zone] = store.catch_up(self.states[zone])
        if state.epoch != epoch:
            state.restart_listening(self._time.now())
        return state

    def open_epoch(self, store: Store, zone: str) -> None:
        """Opens a new epoch of a zone whose Redis started anew, which forgot the zone's user, too."""
        if store.bump(zone):
            log.warning(
                "zone %s holds data of another run of Redis, or a log that is newer: it has a new epoch", zone
            )
        write_user(store, zone, self._agent_digest)

    def committed(self, zone: str) -> None:
        """Notes where a zone stands after a commit of ours, and says what that changed about it."""
        state = self.states[zone]
        self._heads.record(zone, state.head)
        if zone in self._health.unreadable:
            self._records.tell(state)
        self._fill.check(zone, state.pools)

    def check_records(self, store: Store) -> None:
        """Looks for records that somebody spoilt or mended by hand."""
        for zone in self._records.look(store, self.states):
            self.drop(zone, f"the records of zone {zone} cannot be read any more")

    def drop_spoilt(self, store: Store) -> bool:
        """Lets go of the zones that have a key of another type; returns whether there are any."""
        before = len(self.states)
        for zone in list(self.states):
            try:
                check_types(store.redis, zone)
            except InvalidValue as error:
                self.drop(zone, str(error))
        return len(self.states) < before

    def drop(self, name: str, why: str) -> None:
        """Serves a zone no more, until the next look finds it whole."""
        log.error("%s: its requests wait until it is there again", why)
        del self.states[name]
        self._health.unreadable.pop(name, None)
        self._heads.mark_missing(name)
        self._inboxes.remove(name)

    def _drop_rolled_back(self, store: Store) -> None:
        """Lets go of zones that Redis was put back with, so that they are opened in a new epoch."""
        moved = self._heads.changed(store, tuple(self.states))
        if moved:
            self._recovery.learn(self.states)
        for name in moved:
            try:
                self._heads.check(store, name)
            except ZoneGone:
                self._heads.mark_missing(name)  # and is made again, or was removed
            except (InvalidValue, RedisRolledBack) as error:
                self.drop(name, str(error))

    def _open(self, store: Store, name: str) -> None:
        try:
            if (state := self._read(store, name)) is None:
                return
            self.states[name] = state
            store.trim_last_seen(state)
            write_user(store, name, self._agent_digest)
        except (InvalidValue, ZoneGone) as error:
            if self._health.broken_zones.get(name) != str(error):
                log.error("zone %s cannot be served: %s", name, error)
            self._health.broken_zones[name] = str(error)
            return
        self._health.broken_zones.pop(name, None)
        self._records.tell(state)
        self._fill.check(name, state.pools)
        self._inboxes.add(name)

    def _read(self, store: Store, name: str) -> ZoneState | None:
        """A zone as it is to be served; None while its keys are still coming back."""
        check_types(store.redis, name)
        if store.bump(name):
            log.warning("the controller %s started anew: zone %s has a new epoch", self._where, name)
        if not self._heads.is_settled(store, name):
            return None
        former = self._former.pop(name, None)
        state = recover_missing_peers(store, loaded(store, name, former))
        self._heads.record(name, state.head)
        if former is not None:
            state.take_over(former)
        state.restart_listening(self._time.now())
        return state
