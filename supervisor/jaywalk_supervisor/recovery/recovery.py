# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts back into Redis what was lost there, from copies that this supervisor keeps; nothing that stands.

Redis holds the truth.  Each supervisor follows all zones and keeps a copy of each, in its memory and where
it has a state folder also there; once a second it holds the copies against Redis:

* A zone of which nothing stands, and which nobody removed, is made again in one step with its settings, its
  password's hash and all reservations; then its other leases follow, as those of nodes that left.
* A zone that contains the copy's position is the truth, and the copy follows it.
* A zone that was made anew since gets the leases that it lacks and has room for.  One that was put back to
  an older state is left as it is; the log says what differs.

Several supervisors may do so at once, with copies of different age.  A zone that was made again carries the
position of the copy that it stems from (``restored``), and ``confirmed`` once an operator changed it.
A supervisor that knows no later position has nothing to add.  One that does puts its own in its place, or
where an operator changed the zone adds what is missing: positions only grow along a zone's life, so whichever
supervisor came first, in the end the newest copy stands, and no operator's later word is overwritten.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import redis

from jaywalk.controller.address import ControllerAddress
from jaywalk.core.errors import InvalidValue
from jaywalk.zone.marks import number
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.view import history_of

from ..admin import zones
from ..state.zone_state import ZoneState
from ..store.acl import password_lost
from ..store.store import Store, ZoneGone
from . import put_back
from .copies import Position, ZoneCopy
from .copy_folder import CopyFolder
from .copy_writer import CopyWriter
from .plan import Relation, differences, relation
from .shared import SharedRecovery

log = logging.getLogger(__name__)

# Zones that one script looks at.
LOOKED_AT = 100


@dataclass(frozen=True)
class Standing:
    """How a zone stands in Redis, as ``look.lua`` says it."""

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
    def read(cls, fields: Sequence[str]) -> Standing | None:
        """None where there is no zone; raises ``InvalidValue`` for one that cannot be read."""
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
    """One supervisor's copies of one controller, in ``state_dir`` if it names a folder.

    ``shut`` says of each zone that lost its agents' password what is to be done.
    """

    def __init__(self, where: ControllerAddress, state_dir: str = "") -> None:
        self.folder = CopyFolder(state_dir, where) if state_dir else None
        self.shut: dict[str, str] = {}
        self._copies: dict[str, ZoneCopy] = self.folder.zones() if self.folder else {}
        self._writer = CopyWriter(self.folder, self._copies.values()) if self.folder else None
        self._shared = SharedRecovery(self.folder)
        if self.folder and not self._copies and (others := self.folder.others()):
            log.info("copies of other controllers are not used for %s: %s", where, ", ".join(others))
        self._standings: dict[str, Standing] = {}
        self._unsettled: dict[str, str] = {}

    @property
    def trouble(self) -> str:
        """Why copies cannot be written; empty while they can, or nobody wants them."""
        return self.folder.trouble if self.folder else ""

    @property
    def summary(self) -> str:
        """Where copies are kept, or why they are not."""
        if self.folder is None:
            return "in memory alone"
        return self.trouble or f"in {self.folder.path}"

    def mend_shared(self, store: Store) -> None:
        """Puts back what all zones share: the list of them, those that were removed, and the API's tokens."""
        positions = {name: copy.position for name, copy in list(self._copies.items())}
        try:
            for name in self._shared.mend(store, positions):
                self._forget(name)
        except redis.exceptions.ReadOnlyError:
            raise  # which is about no zone
        except (InvalidValue, redis.ResponseError) as error:
            self._note_unsettled("", str(error))
        else:
            self._unsettled.pop("", None)

    def learn(self, states: Mapping[str, ZoneState]) -> None:
        """Takes into the copies what this supervisor committed since it looked last.

        A zone in another epoch is held against its copy first: Redis may have been put back.
        """
        for name, state in states.items():
            copy = self._copies.get(name)
            if copy is not None and state.epoch == copy.position[0] and state.rev > copy.position[1]:
                self._copies[name] = copy_of(state, copy.digest, copy.saved)

    def mend(
        self, store: Store, states: Mapping[str, ZoneState], returning: Collection[str] = ()
    ) -> set[str]:
        """Puts back what was lost of each zone; returns the names of those that are to be read anew.

        Of those in ``returning`` somebody else puts keys back: as long as one stands, it is left alone.
        """
        anew: set[str] = set()
        self.learn(states)
        names = store.zones()
        for name, fields in self._look(store, names):
            try:
                standing = Standing.read(fields)
                self._standings.pop(name, None)
                if standing is not None and name in returning:
                    continue  # and its copy stays, so that the next look compares
                if standing is not None:
                    self._standings[name] = standing
                if self._mend_zone(store, name, standing, states.get(name)):
                    anew.add(name)
            except redis.exceptions.ReadOnlyError:
                raise
            except (InvalidValue, ZoneGone, redis.ResponseError) as error:
                self._note_unsettled(name, str(error))
            else:
                self._unsettled.pop(name, None)
        for name in () if store.where.zone else self.shut.keys() - set(names):
            self.shut.pop(name, None)
        return anew

    def keep(self, store: Store, states: MutableMapping[str, ZoneState]) -> None:
        """Has the copies follow the zones that moved, as Redis has them, and ``states`` with them."""
        for name in list(states):
            standing = self._standings.get(name)
            if standing is None or name in self._unsettled:
                continue
            known = self._copies.get(name)
            if known is None or (known.position, known.digest) != (standing.position, standing.digest):
                try:
                    states[name] = store.catch_up(states[name])
                except (InvalidValue, ZoneGone):
                    continue  # the next look tells
                self._copies[name] = copy_of(states[name], standing.digest, int(store.time(name)))
            if self._writer is not None:
                self._writer.offer(self._copies[name])

    def flush(self) -> None:
        """Writes what the disk does not have yet."""
        if self._writer is not None:
            self._writer.flush(list(self._copies.values()))

    def _look(self, store: Store, names: Sequence[str]) -> Iterator[tuple[str, Sequence[Any]]]:
        for at in range(0, len(names), LOOKED_AT):
            some = names[at : at + LOOKED_AT]
            every = [ZoneKeys(name) for name in some]
            wanted = [key for keys in every for key in (keys.meta, keys.peers, keys.leases, keys.creds)]
            yield from zip(some, store.ask("look", wanted, []), strict=True)

    def _mend_zone(self, store: Store, name: str, standing: Standing | None, state: ZoneState | None) -> bool:
        """Puts back what was lost of one zone; returns whether it is to be read anew."""
        copy = self._copies.get(name)
        if standing is None:
            if copy is None or self._removed(store, name) or not put_back.make_again(store, copy):
                return False
            self._copies[name] = copy_of(store.load(name), copy.digest, copy.saved)
            return True
        if copy is not None and _is_another(copy, standing):
            copy = None
        if copy is not None and copy.digest and not standing.digest:
            put_back.put_password(store, copy)
            standing = replace(standing, digest=copy.digest)
        self._note_shut(name, standing)
        if copy is None or copy.position == standing.position:
            self._refill(store, standing, state)
        else:
            self._compare(store, copy, standing)
        return False

    def _compare(self, store: Store, copy: ZoneCopy, standing: Standing) -> None:
        """Settles how a zone that stands elsewhere than ``copy`` goes on; the copy follows it afterwards."""
        found = relation(copy.position, standing.position, standing.history)
        if found is Relation.NEWER:
            return
        if standing.restored is not None and copy.position < standing.restored:
            return
        if standing.restored is not None and not standing.confirmed:
            put_back.replace_older(store, copy)
        elif found is Relation.OLDER:
            self._tell_older(store, copy, standing)
        else:
            put_back.complete(store, copy)

    def _tell_older(self, store: Store, copy: ZoneCopy, standing: Standing) -> None:
        name = copy.zone.name
        state = store.load(name)
        found = differences(copy, state, standing.digest)
        if not found:
            return
        aside = self._writer.put_aside(name, "before-loss") if self._writer else ""
        log.warning(
            "zone %s was put back to an older state, and that stands: %s. Do again what was changed since%s",
            name,
            "; ".join(found),
            f"; the copy of before lies in {aside}" if aside else "",
        )

    def _refill(self, store: Store, standing: Standing, state: ZoneState | None) -> None:
        """Writes records again that are gone although nobody committed anything."""
        if state is None or (state.epoch, state.rev) != standing.position:
            return
        if standing.peers >= len(state.peers) and standing.leases >= len(state.leases):
            return
        if count := put_back.refill(store, state):
            log.warning(
                "zone %s: %d records were gone from the controller and are there again",
                state.zone.name,
                count,
            )

    def _removed(self, store: Store, name: str) -> bool:
        return bool(store.redis.sismember(zones.REMOVED, name))

    def _note_shut(self, name: str, standing: Standing) -> None:
        if standing.digest or not standing.own_password:
            self.shut.pop(name, None)
        elif name not in self.shut:
            self.shut[name] = password_lost(name)
            log.error("%s", self.shut[name])

    def _note_unsettled(self, name: str, trouble: str) -> None:
        if self._unsettled.get(name) != trouble:
            what = f"zone {name}" if name else "what all zones share"
            log.error("%s cannot be held against the copy of it: %s", what, trouble)
        self._unsettled[name] = trouble

    def _forget(self, name: str) -> None:
        """Ends the copy of a zone that was removed on purpose."""
        self._copies.pop(name, None)
        if self._writer is not None:
            self._writer.forget(name)


def _is_another(copy: ZoneCopy, standing: Standing) -> bool:
    """Whether an operator removed the zone of ``copy``, and made another one of its name."""
    found = relation(copy.position, standing.position, standing.history)
    return standing.readded and found is Relation.ANEW


def copy_of(state: ZoneState, digest: str, saved: int) -> ZoneCopy:
    """What a supervisor keeps of a zone as it stands at the time ``saved``."""
    return ZoneCopy(state.zone, (state.epoch, state.rev), digest, dict(state.leases), saved)
