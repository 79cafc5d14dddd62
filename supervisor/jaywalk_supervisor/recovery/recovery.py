# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores in Redis what was lost there, from this supervisor's copies; overwrites nothing that exists.

Redis is authoritative.  Each supervisor follows all zones and keeps a copy of each, in memory and, if it has
a state folder, on disk.  Once a second it compares the copies with Redis:

* A zone that is gone completely, and that nobody removed, is created again in one step with its settings, its
  password's hash and all reservations.  Its other leases follow, as leases of nodes that left.
* A zone that contains the copy's position is authoritative, and the copy follows it.
* A zone that was created again since the copy gets the leases that it lacks and that do not conflict.  A zone
  that was put back to an older state stays as it is; the log names the differences.

Several supervisors may do this at once, with copies of different age.  A zone that was restored has the
position of its copy in the field ``restored``, and ``confirmed`` is set once an operator changed it.  A
supervisor that knows no later position adds nothing.  A supervisor that knows a later position replaces the
zone by its copy or, if an operator changed the zone, adds what is missing.  Positions only grow during a
zone's life.  So the newest copy is restored in the end, whichever supervisor came first, and no later change
of an operator is overwritten.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import redis

from jaywalk.controller.address import ControllerAddress
from jaywalk.core.errors import InvalidValue
from jaywalk.zone.blocks import Block
from jaywalk.zone.marks import number
from jaywalk.zone.redis_keys import REMOVED_ZONES, ZoneKeys
from jaywalk.zone.view import history_of

from ..state.zone_state import ZoneState
from ..store.acl import password_lost
from ..store.store import Store, ZoneGone
from . import restore
from .copies import Position, ZoneCopy
from .copy_folder import CopyFolder
from .copy_writer import CopyWriter
from .plan import Relation, differences, relation
from .shared import SharedRecovery

log = logging.getLogger(__name__)

# Limit of zones whose status one script reads.
ZONES_PER_SCRIPT = 100


@dataclass(frozen=True)
class ZoneStatus:
    """The status of a zone in Redis, as ``zone_status.lua`` returns it."""

    position: Position
    history: tuple[Position, ...]
    restored: Position | None
    confirmed: bool
    readded: bool
    own_password: bool
    peers: int
    leases: int
    digest: str

    @classmethod
    def read(cls, fields: Sequence[str]) -> ZoneStatus | None:
        """Returns None if there is no zone; raises ``InvalidValue`` if its position does not parse."""
        if not fields:
            return None
        epoch, rev, history, restored, confirmed, readded, own, peers, leases, digest = fields
        try:
            position = (number(epoch), number(rev))
        except ValueError:
            raise InvalidValue("its position does not parse") from None
        mark = history_of(restored)[-1:]
        return cls(
            position,
            history_of(history),
            mark[0] if mark else None,
            bool(confirmed),
            bool(readded),
            bool(own),
            int(peers),
            int(leases),
            digest,
        )


class Recovery:
    """One supervisor's copies of one controller, in ``state_dir`` unless it is empty.

    ``locked`` maps each zone that lost its agents' password to the remedy.
    """

    def __init__(self, where: ControllerAddress, state_dir: str = "") -> None:
        self.folder = CopyFolder(state_dir, where) if state_dir else None
        self.locked: dict[str, str] = {}
        self._copies: dict[str, ZoneCopy] = self.folder.zones() if self.folder else {}
        self._writer = CopyWriter(self.folder, self._copies.values()) if self.folder else None
        self._shared = SharedRecovery(self.folder)
        if self.folder and not self._copies and (others := self.folder.other_folders()):
            log.info("copies of other controllers are not used for %s: %s", where, ", ".join(others))
        self._statuses: dict[str, ZoneStatus] = {}
        self._failed: dict[str, str] = {}

    @property
    def error(self) -> str:
        """The reason why copies cannot be written; empty if they can, or if there is no folder."""
        return self.folder.error if self.folder else ""

    @property
    def summary(self) -> str:
        """Where copies are kept, or why they cannot be written."""
        if self.folder is None:
            return "only in memory"
        return self.error or f"in {self.folder.path}"

    def restore_shared(self, store: Store) -> None:
        """Restores what all zones share: the list of zones, the removed zones, and the API's tokens."""
        positions = {name: copy.position for name, copy in list(self._copies.items())}
        try:
            for name in self._shared.restore(store, positions):
                self._forget(name)
        except redis.exceptions.ReadOnlyError:
            raise  # it concerns the whole server
        except (InvalidValue, redis.ResponseError) as error:
            self._note_failed("", str(error))
        else:
            self._failed.pop("", None)

    def update_copies(self, states: Mapping[str, ZoneState]) -> None:
        """Updates the copies with this supervisor's commits since the last time.

        Skips a zone in another epoch: it must be compared with its copy first, since Redis may have been put
        back.
        """
        for name, state in states.items():
            copy = self._copies.get(name)
            if copy is not None and state.epoch == copy.position[0] and state.rev > copy.position[1]:
                self._copies[name] = copy_of(state, copy.digest, copy.saved, copy.blocked)

    def restore_zones(
        self, store: Store, states: Mapping[str, ZoneState], returning: Collection[str] = ()
    ) -> set[str]:
        """Restores what was lost of each zone; returns the names of those that must be reloaded.

        The keys of zones in ``returning`` are being restored by someone else: such a zone is left alone
        unless it is gone completely.
        """
        reload: set[str] = set()
        self.update_copies(states)
        names = store.zones()
        for name, fields in self._read_statuses(store, names):
            try:
                status = ZoneStatus.read(fields)
                self._statuses.pop(name, None)
                if status is not None and name in returning:
                    continue  # its copy stays, so that the next check compares them
                if status is not None:
                    self._statuses[name] = status
                if self._restore_zone(store, name, status, states.get(name)):
                    reload.add(name)
            except redis.exceptions.ReadOnlyError:
                raise
            except (InvalidValue, ZoneGone, redis.ResponseError) as error:
                self._note_failed(name, str(error))
            else:
                self._failed.pop(name, None)
        for name in () if store.where.zone else self.locked.keys() - set(names):
            self.locked.pop(name, None)
        return reload

    def follow(self, store: Store, states: MutableMapping[str, ZoneState]) -> None:
        """Updates the copies of zones that changed in Redis, and ``states`` with them."""
        for name in list(states):
            status = self._statuses.get(name)
            if status is None or name in self._failed:
                continue
            known = self._copies.get(name)
            if known is None or _differs(known, status, states[name]):
                try:
                    states[name] = store.catch_up(states[name])
                    blocked = store.blocks(name) if states[name].blocked else {}
                except (InvalidValue, ZoneGone):
                    continue  # the next check handles it
                self._copies[name] = copy_of(states[name], status.digest, int(store.time(name)), blocked)
            if self._writer is not None:
                self._writer.schedule(self._copies[name])

    def flush(self) -> None:
        """Writes what the disk does not have yet."""
        if self._writer is not None:
            self._writer.flush(list(self._copies.values()))

    def _read_statuses(self, store: Store, names: Sequence[str]) -> Iterator[tuple[str, Sequence[Any]]]:
        for at in range(0, len(names), ZONES_PER_SCRIPT):
            page = names[at : at + ZONES_PER_SCRIPT]
            zone_keys = [ZoneKeys(name) for name in page]
            keys = [key for of in zone_keys for key in (of.meta, of.peers, of.leases, of.credentials)]
            yield from zip(page, store.ask("zone_status", keys, []), strict=True)

    def _restore_zone(
        self, store: Store, name: str, status: ZoneStatus | None, state: ZoneState | None
    ) -> bool:
        """Restores what was lost of one zone; returns whether it must be reloaded."""
        copy = self._copies.get(name)
        if status is None:
            if copy is None or self._removed(store, name) or not restore.recreate_zone(store, copy):
                return False
            self._copies[name] = copy_of(store.load(name), copy.digest, copy.saved, copy.blocked)
            return True
        if copy is not None and _is_another(copy, status):
            copy = None
        if copy is not None and copy.digest and not status.digest:
            restore.restore_password(store, copy)
            status = replace(status, digest=copy.digest)
        self._note_locked(name, status)
        if copy is None or copy.position == status.position:
            self._refill(store, status, state)
        else:
            self._compare(store, copy, status)
        return False

    def _compare(self, store: Store, copy: ZoneCopy, status: ZoneStatus) -> None:
        """Restores parts of ``copy`` in a zone with another position; then the copy follows the zone."""
        found = relation(copy.position, status.position, status.history)
        if found is Relation.NEWER:
            return
        if status.restored is not None and copy.position < status.restored:
            return
        if status.restored is not None and not status.confirmed:
            restore.replace_older(store, copy)
        elif found is Relation.OLDER:
            self._log_rollback(store, copy, status)
        else:
            restore.add_missing_leases(store, copy)

    def _log_rollback(self, store: Store, copy: ZoneCopy, status: ZoneStatus) -> None:
        name = copy.zone.name
        restore.restore_blocks(store, copy)
        state = store.load(name)
        found = differences(copy, state, status.digest)
        if not found:
            return
        aside = self._writer.set_aside(name, "before-loss") if self._writer else ""
        log.warning(
            "zone %s was put back to an older state, which is kept: %s. Repeat the changes made since%s",
            name,
            "; ".join(found),
            f"; the earlier copy is in {aside}" if aside else "",
        )

    def _refill(self, store: Store, status: ZoneStatus, state: ZoneState | None) -> None:
        """Writes records again that are gone without a commit."""
        if state is None or (state.epoch, state.rev) != status.position:
            return
        if status.peers >= len(state.peers) and status.leases >= len(state.leases):
            return
        if count := restore.restore_records(store, state):
            log.warning(
                "zone %s: records were gone from the controller and were restored (%d)",
                state.zone.name,
                count,
            )

    def _removed(self, store: Store, name: str) -> bool:
        return bool(store.redis.sismember(REMOVED_ZONES, name))

    def _note_locked(self, name: str, status: ZoneStatus) -> None:
        if status.digest or not status.own_password:
            self.locked.pop(name, None)
        elif name not in self.locked:
            self.locked[name] = password_lost(name)
            log.error("%s", self.locked[name])

    def _note_failed(self, name: str, error: str) -> None:
        if self._failed.get(name) != error:
            what = f"zone {name}" if name else "what all zones share"
            log.error("%s cannot be compared with the copy: %s", what, error)
        self._failed[name] = error

    def _forget(self, name: str) -> None:
        """Removes the copy of a zone that was removed on purpose."""
        self._copies.pop(name, None)
        if self._writer is not None:
            self._writer.remove(name)


def _is_another(copy: ZoneCopy, status: ZoneStatus) -> bool:
    """Whether an operator removed the zone of ``copy`` and created another zone of that name."""
    found = relation(copy.position, status.position, status.history)
    return status.readded and found is Relation.RECREATED


def _differs(copy: ZoneCopy, status: ZoneStatus, state: ZoneState) -> bool:
    """Whether ``copy`` is not the zone's any more."""
    return (copy.position, copy.digest, set(copy.blocked)) != (status.position, status.digest, state.blocked)


def copy_of(state: ZoneState, digest: str, saved: int, blocked: Mapping[str, Block]) -> ZoneCopy:
    """Returns a copy of a zone's state and of its blocks, taken at the time ``saved``."""
    return ZoneCopy(state.zone, (state.epoch, state.rev), digest, dict(state.leases), saved, dict(blocked))
