# SPDX-License-Identifier: GPL-3.0-or-later
"""A zone in a supervisor's memory: its peers, its leases and the indexes over them.

A supervisor applies its own decisions at once and undoes them if another supervisor committed first.  It
applies the commits of others from their events.  Nothing here uses Redis.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from jaywalk.core.errors import InvalidValue
from jaywalk.zone.events import ADMISSION, BLOCK, Change, Event, Gap
from jaywalk.zone.join_tokens import JoinToken
from jaywalk.zone.marks import Head, agree, number, readable
from jaywalk.zone.models import Lease, Peer, Zone, lease_of
from jaywalk.zone.redis_keys import ZoneKeys

from .endpoint_hosts import EndpointHosts
from .endpoint_observations import EndpointObservations
from .floors import ALL, Floor, of_ended
from .floors import parse as parse_floors
from .pool import Pool
from .prefix_index import PrefixIndex
from .unreadable import Unreadable, read
from .wrong_type import unreadable_meta

LEAST_WAIT_MS = 100
# Agents wait 0.1 ms per peer between two reads, so that waking them all uses a fifth of a Redis core at most.
PEERS_PER_MS = 10


def wait_ms_of(peers: int) -> int:
    """Returns the time that agents wait between two reads in a zone with this number of peers."""
    return max(LEAST_WAIT_MS, peers // PEERS_PER_MS)


Record = TypeVar("Record")


class Undo(NamedTuple):
    """What a key had before a change."""

    key: str
    peer: Peer | None
    lease: Lease | None
    unreadable: Unreadable | None = None
    floor: Floor | None = None


class BlockUndo(NamedTuple):
    """Whether a key was blocked before a change."""

    key: str
    blocked: bool


class TokenUndo(NamedTuple):
    """The join token of an id before a change."""

    id: str
    token: JoinToken | None


AnyUndo = Undo | BlockUndo | TokenUndo


class ZoneState:
    """A zone at (epoch, rev), in the history that ``mark`` belongs to ("" if unknown).

    ``leases`` holds a record for each key that has addresses, in the mesh or not; ``pools`` and
    ``prefixes`` are indexes over it.  ``last_seen_at`` maps keys to the time of their last request (seconds
    since 1970), for the keys that were read from Redis.  ``listening_since`` is the time since which requests
    are received without a gap.  ``observations`` holds the endpoints at which peers observe one another.
    ``blocked`` holds the keys that an operator blocked.  ``floors`` holds the last seq of keys whose lease
    ended, and ``least_seq`` is the floor of those that it does not hold.
    ``join_tokens`` holds them as they were read from Redis for the last decision that needed them.
    ``endpoint_hosts`` counts the peers at each address, and ``member_leases`` the leases without an
    operator's word.
    ``unreadable`` marks the keys with a record in Redis that does not parse: the lease of such a key holds
    what could be read, and ``peers`` contains the key if its peer record parses.
    """

    def __init__(
        self, zone: Zone, epoch: int, rev: int, wait_ms: int = LEAST_WAIT_MS, mark: str = ""
    ) -> None:
        self.zone = zone
        self.keys = ZoneKeys(zone.name)
        self.epoch = epoch
        self.rev = rev
        self.mark = mark
        self.wait_ms = wait_ms
        self.peers: dict[str, Peer] = {}
        self.leases: dict[str, Lease] = {}
        self.pools = [Pool(cidr, zone.policy.excluded) for cidr in zone.pools]
        self.prefixes = PrefixIndex()
        self.unreadable: dict[str, Unreadable] = {}
        self.blocked: set[str] = set()
        self.join_tokens: dict[str, JoinToken] = {}
        self.floors: dict[str, Floor] = {}
        self.least_seq = 0
        self.last_seen_at: Mapping[str, int] = {}
        self.observations = EndpointObservations()
        self.endpoint_hosts = EndpointHosts()
        self.member_leases = 0
        self.listening_since = 0.0
        self._adjusted_releases: dict[str, tuple[float, float]] = {}
        self._names: dict[str, set[str]] = {}
        self._released: list[tuple[float, str]] = []

    @classmethod
    def load(
        cls,
        name: str,
        meta: Mapping[str, str],
        peers: Mapping[str, str],
        leases: Mapping[str, str],
        before: ZoneState | None = None,
        blocked: Collection[str] = (),
        floors: Mapping[str, str] = MappingProxyType({}),
    ) -> ZoneState:
        """Loads a zone from its hashes in Redis; marks a record that does not parse (:mod:`.unreadable`).

        ``before`` is an earlier state, which completes such records if it is of the same revision.
        """
        try:
            epoch, rev, wait_ms = number(meta["epoch"]), number(meta["rev"]), int(meta["wait_ms"])
        except (KeyError, ValueError):
            raise unreadable_meta(name) from None
        state = cls(Zone.from_wire(name, meta), epoch, rev, wait_ms, readable(meta.get("mark")))
        state.blocked = set(blocked)
        state.floors = parse_floors(floors)
        state.least_seq = state.floors.pop(ALL, Floor(0)).seq
        same = before and before.stream_id == state.stream_id and agree(before.mark, state.mark)
        known_lease = before.complete_lease if before and same else lambda _key: None
        marked: list[Undo] = []
        for key in sorted(peers.keys() | leases.keys()):
            found = read(state.zone, key, peers.get(key), leases.get(key), known_lease(key))
            if found[2] is None:
                state.put(key, *found)
            else:
                marked.append(Undo(key, *found))
        for mark in marked:  # after the others, whose addresses are certain
            state.put(*mark[:4])
        return state

    @property
    def stream_id(self) -> str:
        """The id of the last event that this state contains."""
        return f"{self.epoch}-{self.rev}"

    def complete_lease(self, key: str) -> Lease | None:
        """Returns the lease of ``key`` if it is known completely, or None."""
        mark = self.unreadable.get(key)
        return None if mark is not None and mark.blocks else self.leases.get(key)

    @property
    def head(self) -> Head:
        """The position of this state."""
        return Head(self.epoch, self.rev, self.mark)

    @property
    def desired_wait_ms(self) -> int:
        """The value of ``meta.wait_ms`` for the current number of peers."""
        return wait_ms_of(len(self.peers))

    def put(
        self, key: str, peer: Peer | None, lease: Lease | None, unreadable: Unreadable | None = None
    ) -> Undo:
        """Sets the peer, lease and mark of ``key`` (None removes one) and returns the former ones."""
        floor = self.floors.get(key) if self.floors else None
        before = Undo(key, self.peers.get(key), self.leases.get(key), self.unreadable.get(key), floor)
        if lease is None and before.lease is not None:
            self.floors[key] = of_ended(before.lease, floor)
        elif floor is not None and lease is not None and lease.seq > floor.seq:
            del self.floors[key]
        self._unname(key, before)
        self.endpoint_hosts.replace(before.peer, peer)
        self.member_leases += _is_members(lease) - _is_members(before.lease)
        if before.lease is not None:
            self._unindex(before.lease, before.unreadable)
        if before.peer is not None and (peer is None or peer.endpoint != before.peer.endpoint):
            self.observations.forget(key)
        _set(self.peers, key, peer)
        _set(self.leases, key, lease)
        if unreadable is not None or before.unreadable is not None:
            _set(self.unreadable, key, unreadable)
        if lease is not None and (unreadable is None or unreadable.covered):
            self._index(lease)
        if self.unreadable:
            self._allocate_unreadable(
                self.unreadable.values() if before.lease else filter(None, [unreadable])
            )
        for name in _names_of(peer, lease, unreadable):
            self._names.setdefault(name, set()).add(key)
        return before

    def _allocate_unreadable(self, marks: Iterable[Unreadable]) -> None:
        """Allocates to the keys of ``marks`` the addresses that they may have and no readable record has."""
        for mark in marks:
            for address in mark.held:
                pool = self.pool_of(address)
                if pool is not None and pool.owner_of(address) is None:
                    pool.allocate(address, mark.key)

    def other_keys_named(self, name: str, keys: Collection[str]) -> set[str]:
        """Returns the other keys than ``keys`` with this name, joined or reserved by an operator."""
        return self._names.get(name, set()) - set(keys)

    def is_taken(self, keys: Collection[str], name: str) -> bool:
        """Whether a key other than ``keys`` has ``name``."""
        return bool(self.other_keys_named(name, keys))

    def _unname(self, key: str, before: Undo) -> None:
        for name in _names_of(before.peer, before.lease, before.unreadable):
            keys = self._names.get(name, set())
            keys.discard(key)
            if not keys:
                self._names.pop(name, None)

    def apply(self, change: Change, peer: Peer | None = None) -> AnyUndo:
        """Applies one change; raises ``InvalidValue`` if its record does not parse.

        ``peer`` is the parsed record of a ``+`` that this supervisor wrote, so that it is not parsed again.
        """
        if change.sign == BLOCK:
            return self._set_blocked(change.key, change.record is not None)
        if change.sign == ADMISSION:
            record = change.record
            return self._set_token(
                change.key, None if record is None else JoinToken.from_wire(change.key, record)
            )
        lease = self.leases.get(change.key)
        if change.sign == "+":
            if peer is None or peer.key != change.key:
                peer = Peer.from_wire(change.key, change.record, self.zone)
            return self.put(change.key, peer, lease_of(peer))
        if change.sign == "-" and lease is None and change.record is None:
            # This change is for nodes that retain a peer which Redis lost; here is nothing to remove.
            return self.put(change.key, None, None)
        if change.sign == "-":
            return self.put(change.key, None, _left(lease, change.record or {}))
        kept = None if change.record is None else Lease.from_wire(change.key, change.record)
        return self.put(change.key, self.peers.get(change.key), kept)

    def undo(self, undos: Iterable[AnyUndo]) -> None:
        """Undoes changes, the last one first."""
        for undo in reversed(list(undos)):
            if isinstance(undo, BlockUndo):
                self._set_blocked(*undo)
            elif isinstance(undo, TokenUndo):
                self._set_token(*undo)
            else:
                self.put(*undo[:4])
                _set(self.floors, undo.key, undo.floor)

    def _set_blocked(self, key: str, blocked: bool) -> BlockUndo:
        before = BlockUndo(key, key in self.blocked)
        if blocked:
            self.blocked.add(key)
        else:
            self.blocked.discard(key)
        return before

    def _set_token(self, token_id: str, token: JoinToken | None) -> TokenUndo:
        before = TokenUndo(token_id, self.join_tokens.get(token_id))
        _set(self.join_tokens, token_id, token)
        return before

    def apply_event(self, event: Event) -> None:
        """Applies the commit of another supervisor; raises ``Gap`` if the zone must be reloaded."""
        if not event.is_next(self.head) or event.zone_changed:
            raise Gap(f"zone {self.zone.name} is at {self.stream_id}, the log at {event.epoch}-{event.rev}")
        try:
            for change in event.changes:
                self.apply(change)
        except InvalidValue as error:
            raise Gap(str(error)) from None
        self.epoch, self.rev, self.mark = event.epoch, event.rev, event.mark
        if event.wait_ms is not None:
            self.wait_ms = event.wait_ms

    def last_seen(self, lease: Lease, now: float) -> float:
        """Returns when the key of ``lease`` was last seen before ``now``, as far as this state knows.

        Later times were written before the clock was set back, and are ignored.  So are all others of a node
        that left: one from before the clock was set back may be reached again.
        """
        released = self.released_at(lease)
        times = (released,) if released else (lease.since, self.last_seen_at.get(lease.key, 0))
        return max((time for time in times if time <= now), default=self.listening_since)

    def released_at(self, lease: Lease) -> float:
        """Returns when the node of ``lease`` left, by the current clock; 0 if it did not leave.

        The record has the time by the clock of that moment, which may have jumped since.
        """
        recorded, moment = self._adjusted_releases.get(lease.key, (None, 0.0))
        return moment if recorded == lease.released else lease.released or 0.0

    def quarantined_until(self, lease: Lease) -> float:
        """Returns until when the addresses of ``lease`` are in quarantine; 0 if its node did not leave."""
        released = self.released_at(lease)
        return released + self.zone.policy.quarantine if released else 0.0

    def restart_listening(self, now: float, jump: float = 0.0) -> None:
        """Sets the start of listening to ``now``: at first, after a jump of the clock, or after a gap.

        ``jump`` is the jump in seconds.  A jump ahead ends no quarantine, and a release that lies in the
        future after a jump back ends in time.
        """
        self.listening_since = now
        self.observations = EndpointObservations()
        adjusted = {}
        for lease in self.leases.values():
            if lease.released:
                before = self.released_at(lease)
                moment = min(before + max(jump, 0.0), now)
                if moment != lease.released:
                    adjusted[lease.key] = (lease.released, moment)
        self._adjusted_releases = adjusted
        self._order_released()

    def inherit(self, before: ZoneState) -> None:
        """Takes over from ``before``, an older state of the zone, what is not in its records."""
        self.listening_since = before.listening_since
        self._adjusted_releases = before._adjusted_releases
        self._order_released()

    def pool_of(self, address: str) -> Pool | None:
        """Returns the pool that contains ``address``, or None."""
        return next((pool for pool in self.pools if address in pool), None)

    def oldest_released(self, before: float) -> Lease | None:
        """Returns the lease that was released first, if that was before the time ``before``."""
        while self._released:
            released, key = self._released[0]
            lease = self.leases.get(key)
            if lease is not None and lease.released and self.released_at(lease) == released:
                return lease if released < before else None
            heapq.heappop(self._released)
        return None

    def released_before(self, before: float) -> Iterator[Lease]:
        """Yields the leases whose nodes left before that time, in no order, some possibly twice."""
        heap, indexes = self._released, [0]
        while indexes:
            index = indexes.pop()
            if index < len(heap) and heap[index][0] < before:
                indexes += (2 * index + 1, 2 * index + 2)
                lease = self.leases.get(heap[index][1])
                if lease is not None and lease.released and self.released_at(lease) < before:
                    yield lease

    def _order_released(self) -> None:
        self._released = [
            (self.released_at(lease), lease.key) for lease in self.leases.values() if lease.released
        ]
        heapq.heapify(self._released)

    def _index(self, lease: Lease) -> None:
        for address in lease.addresses:
            if (pool := self.pool_of(address)) is not None:
                pool.allocate(address, lease.key)
        for prefix in lease.prefixes:
            self.prefixes.add(prefix, lease.key)
        if lease.released:
            heapq.heappush(self._released, (self.released_at(lease), lease.key))
            if len(self._released) > 2 * len(self.leases) + 100:
                self._order_released()

    def _unindex(self, lease: Lease, unreadable: Unreadable | None) -> None:
        for address in (*lease.addresses, *(unreadable.held if unreadable else ())):
            if (pool := self.pool_of(address)) is not None:
                pool.free(address, lease.key)
        for prefix in lease.prefixes:
            self.prefixes.remove(prefix, lease.key)


def _names_of(peer: Peer | None, lease: Lease | None, unreadable: Unreadable | None) -> set[str]:
    """Returns the names that no other key may have."""
    names = (
        peer.name if peer else "",
        lease.host if lease else "",
        unreadable.lease.name if unreadable else "",
    )
    return {name for name in names if name}


def _is_members(lease: Lease | None) -> bool:
    """Returns whether a node has this lease by the zone's password alone."""
    return lease is not None and not lease.is_operators


def _left(lease: Lease | None, record: Mapping[str, object]) -> Lease | None:
    """Returns the lease after its peer left: it keeps the addresses and the operator's prefixes.

    The other prefixes are announced again by the next join.
    """
    released, seq = record.get("t"), record.get("s")
    if lease is None or not isinstance(released, (int, float)) or not isinstance(seq, int):
        raise InvalidValue("an event of the zone removes a peer without its time")
    return replace(lease, released=float(released), prefixes=lease.reserved_prefixes, seq=seq)


def _set(records: dict[str, Record], key: str, record: Record | None) -> None:
    if record is None:
        records.pop(key, None)
    else:
        records[key] = record
