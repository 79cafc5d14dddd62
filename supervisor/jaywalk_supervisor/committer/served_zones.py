# SPDX-License-Identifier: GPL-3.0-or-later
"""The zones that a committer serves: opens new ones, follows commits, and drops removed or broken ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from jaywalk.controller.address import ControllerAddress
from jaywalk.core.errors import InvalidValue
from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.zone.models import Zone

from ..admin.default_zones import create_missing_zones
from ..admin.zone_view_models import undeclared_warning
from ..monitoring.clock import Timekeeper
from ..monitoring.fork_detection import Heads, RedisRolledBack, load_consistent
from ..monitoring.health import Health
from ..monitoring.record_check import RecordMonitor
from ..possession.keyring import KeyFile
from ..recovery.recovery import Recovery
from ..recovery.restore import recover_missing_peers
from ..state.pool import PoolFillLog
from ..state.wrong_type import check_types
from ..state.zone_state import ZoneState
from ..store.store import Store, ZoneGone
from .inboxes import Inboxes
from .key_publisher import KeyPublisher
from .zone_users import ZoneUsers

log = logging.getLogger(__name__)


class ServedZones:
    """The served zones; ``states`` maps the name of each to its state."""

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
        key_file: KeyFile,
    ) -> None:
        self.states: dict[str, ZoneState] = {}
        self._where = where
        self.users = ZoneUsers(lambda: key_file.keyring, agent_digest)
        self._defaults = defaults
        self._recovery = recovery
        self._health = health
        self._time = timekeeper
        self._inboxes = inboxes
        self._former: dict[str, ZoneState] = {}
        self._heads = Heads()
        self._fill = PoolFillLog()
        self._records = RecordMonitor(health, repeats)
        self._keys = KeyPublisher(key_file, health)

    def close(self) -> None:
        """Stops serving; what is known of the zones stays for when they are opened again."""
        self._former |= self.states
        self._recovery.update_copies(self.states)
        self.states = {}
        self._inboxes.clear()

    def refresh(self, store: Store) -> None:
        """Restores what was lost, creates the default zones, opens new zones and drops removed ones."""
        self._drop_rolled_back(store)
        if not self._where.nodes:
            self._recovery.restore_shared(store)
        for name in self._recovery.restore_zones(store, self.states, self._heads.returning):
            self.states.pop(name, None)
        self._health.locked_zones = dict(self._recovery.locked)
        names = create_missing_zones(store, self._defaults)
        self._keys.refresh(store, self.states)
        for name in names:
            self._health.last_turn = time.monotonic()
            if name not in self.states:
                self._open(store, name)
        for name in self.states.keys() - set(names):
            self.drop(name, f"zone {name} was removed")
        for name in self._health.broken_zones.keys() - set(names):
            del self._health.broken_zones[name]
        self._recovery.follow(store, self.states)
        self.users.refresh(store, self.states)
        self._warn_of_undeclared()

    def _warn_of_undeclared(self) -> None:
        """Logs once per zone that its policy lacks options, which an older version does not know."""
        found = {name: undeclared_warning(state.zone) for name, state in self.states.items()}
        warnings = {name: warning for name, warning in found.items() if warning}
        for name in warnings.keys() - self._health.undeclared_zones.keys():
            log.warning("%s", warnings[name])
        self._health.undeclared_zones = warnings

    def restart_listening(self, jump: float = 0.0) -> None:
        """Counts no node as silent before now; ``jump`` is the jump of Redis's clock in seconds."""
        for state in (*self._former.values(), *self.states.values()):
            state.restart_listening(self._time.now(), jump)

    def catch_up(self, store: Store, zone: str) -> ZoneState:
        """Applies the commits of others to a zone and returns its state.

        In a new epoch, Redis may have lost last-seen times, so that no node counts as silent from before.
        Raises ``RedisRolledBack``, ``ZoneGone`` and ``InvalidValue``.
        """
        self._heads.check(store, zone)
        epoch = self.states[zone].epoch
        state = self.states[zone] = store.catch_up(self.states[zone])
        if state.epoch != epoch:
            state.restart_listening(self._time.now())
        return state

    def open_epoch(self, store: Store, zone: str) -> None:
        """Opens a new epoch of a zone after a restart of Redis, which also lost the zone's user."""
        if store.bump(zone):
            log.warning(
                "zone %s holds data of another run of Redis, or a log that is newer: it has a new epoch", zone
            )
        self.users.rewrite(store, self.states[zone])

    def committed(self, zone: str) -> None:
        """Records a zone's position after a commit of ours and checks its records and pools."""
        state = self.states[zone]
        self._heads.record(zone, state.head)
        if zone in self._health.unreadable:
            self._records.report(state)
        self._fill.check(zone, state.pools)

    def check_records(self, store: Store) -> None:
        """Checks for records that were corrupted or repaired by hand."""
        for zone in self._records.check(store, self.states):
            self.drop(zone, f"the records of zone {zone} cannot be read any more")

    def drop_spoilt(self, store: Store) -> bool:
        """Drops the zones that have a key of a wrong type; returns whether there are any."""
        before = len(self.states)
        for zone in list(self.states):
            try:
                check_types(store.redis, zone)
            except InvalidValue as error:
                self.drop(zone, str(error))
        return len(self.states) < before

    def drop(self, name: str, why: str) -> None:
        """Stops serving a zone until the next refresh can open it."""
        log.error("%s: its requests wait until it can be served again", why)
        del self.states[name]
        self._health.unreadable.pop(name, None)
        self._heads.mark_missing(name)
        self._inboxes.remove(name)

    def _drop_rolled_back(self, store: Store) -> None:
        """Drops zones that Redis put back to an older copy, so that they are opened in a new epoch."""
        changed = self._heads.changed(store, tuple(self.states))
        if changed:
            self._recovery.update_copies(self.states)
        for name in changed:
            try:
                self._heads.check(store, name)
            except ZoneGone:
                self._heads.mark_missing(name)  # the recovery makes it again, unless it was removed
            except (InvalidValue, RedisRolledBack) as error:
                self.drop(name, str(error))

    def _open(self, store: Store, name: str) -> None:
        try:
            if (state := self._read(store, name)) is None:
                return
            self._keys.publish(store, state)
            self.states[name] = state
            store.trim_last_seen(state)
            self.users.open(store, state)
        except (InvalidValue, ZoneGone) as error:
            if self._health.broken_zones.get(name) != str(error):
                log.error("zone %s cannot be served: %s", name, error)
            self._health.broken_zones[name] = str(error)
            return
        self._health.broken_zones.pop(name, None)
        self._records.report(state)
        self._fill.check(name, state.pools)
        self._inboxes.add(name)

    def _read(self, store: Store, name: str) -> ZoneState | None:
        """Loads a zone for serving; returns None while its keys are still being restored."""
        check_types(store.redis, name)
        if store.bump(name):
            log.warning("the controller %s was restarted: zone %s has a new epoch", self._where, name)
        if not self._heads.is_settled(store, name):
            return None
        former = self._former.pop(name, None)
        state = recover_missing_peers(store, load_consistent(store, name, former))
        self._heads.record(name, state.head)
        if former is not None:
            state.inherit(former)
        state.restart_listening(self._time.now())
        return state
