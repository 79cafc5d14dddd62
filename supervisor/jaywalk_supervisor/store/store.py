# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor's access to zones in the controller: create, load, follow and commit, on one connection."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType

import redis
from redis.cluster import RedisCluster

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import parse_last_seen
from jaywalk.controller.errors import is_full
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.zone import codec
from jaywalk.zone.blocks import Block
from jaywalk.zone.events import ADMISSION, Change, Event, Gap
from jaywalk.zone.join_tokens import JoinToken
from jaywalk.zone.marks import Head
from jaywalk.zone.models import SCHEMA, Lease, Zone
from jaywalk.zone.redis_keys import HEAD_FIELDS, ZONES, ZoneKeys
from jaywalk.zone.reply_streams import ReplyTo

from ..state.floors import ALL, oldest
from ..state.wrong_type import explaining_wrong_types, members, unreadable_meta
from ..state.zone_state import LEAST_WAIT_MS, Undo, ZoneState
from . import node_users
from .audit import NO_ENTRY, SUPERVISOR, AuditEntry, lease_entries, zone_entry
from .commit_args import commit_args
from .connection import Connection
from .reply_trimming import OwnStreams

log = logging.getLogger(__name__)

# Limit of requests that are popped from an inbox at once, and so of requests in one commit.
BATCH = 256
PAGE = 500
# With this length, two revisions with the same number have equal marks once in 3e14 cases.
MARK_BYTES = 6


@dataclass(frozen=True)
class Origin:
    """The initial state of a zone beside its own fields: its earlier position, password and leases.

    The zone begins after the epoch and rev of ``position``.  ``digest`` is the hash of its agents' password
    if it has one of its own.  ``restored`` marks a zone that was created from a copy, by the copy's position:
    a later copy may replace it.  ``readded`` marks a zone that was removed before, so that no copy of the
    removed zone is restored into it.
    """

    position: tuple[int, int] = (0, 0)
    digest: str = ""
    restored: str = ""
    readded: bool = False
    leases: Mapping[str, Lease] = field(default_factory=dict)

    def arguments(self) -> list[str | int]:
        """Returns the arguments of ``create.lua`` between the zone's own and the audit."""
        records = (
            part for key, lease in self.leases.items() for part in (key, codec.compact(lease.to_wire()))
        )
        return [*self.position, self.digest, self.restored, "1" if self.readded else "", *records]


NO_ORIGIN = Origin()


def new_mark() -> str:
    """Returns a mark for a new revision."""
    return secrets.token_hex(MARK_BYTES)


class ZoneGone(JaywalkError):
    """A known zone is no longer in Redis."""

    def __init__(self, zone: str) -> None:
        super().__init__(f"zone {zone} is gone from the controller", "restore Redis, or add the zone again")


class Store(Connection):
    """All operations of supervisors in Redis; the methods raise like those of :class:`Connection`.

    ``author`` is who makes the changes other than those that requests in an inbox ask for.
    """

    def __init__(self, client: redis.Redis | RedisCluster, where: ControllerAddress) -> None:
        super().__init__(client, where)
        self.author = SUPERVISOR
        self._own_streams = OwnStreams()

    def zones(self) -> list[str]:
        """Returns the sorted names of all zones; only ``where.zone`` if it is set.

        The list of all zones may be on another shard, whose failure must not affect that zone.
        """
        return [self.where.zone] if self.where.zone else sorted(members(self.redis, ZONES))

    def create(self, zone: Zone, origin: Origin = NO_ORIGIN) -> bool:
        """Creates ``zone`` unless one with its name exists; returns whether it was created."""
        pools, description = zone.to_wire()["pools"], zone.description
        own = [SCHEMA, LEAST_WAIT_MS, pools, description, zone.policy.to_wire(), zone.signed, new_mark()]
        keys = ZoneKeys(zone.name)
        names = [keys.meta, keys.peers, keys.events, keys.leases, keys.credentials, keys.audit]
        entry = zone_entry(self.author, "zone-restore" if origin.restored else "zone-add", None, zone)
        created = self.run("create", names, [*own, *origin.arguments(), *entry]) == "CREATED"
        self.redis.sadd(ZONES, zone.name)
        return created

    def load(self, name: str, before: ZoneState | None = None) -> ZoneState:
        """Reads a zone in one transaction.

        Raises ``ZoneGone``, or ``InvalidValue`` if its meta data do not parse or a key has a wrong type.
        ``before`` is the caller's earlier state of the zone; it completes records that cannot be read.
        """
        keys = ZoneKeys(name)
        with explaining_wrong_types(self.redis, name):
            meta, peers, leases, blocked, floors = self._read_together(keys)
        if not meta:
            raise ZoneGone(name)
        return ZoneState.load(name, meta, peers, leases, before, blocked, floors)

    def blocks(self, zone: str) -> dict[str, Block]:
        """Returns the blocks of a zone, by key."""
        with explaining_wrong_types(self.redis, zone):
            records = self.redis.hgetall(ZoneKeys(zone).blocked)
        return {key: Block.from_wire(record) for key, record in records.items()}

    def join_tokens(self, zone: str, ids: Collection[str] | None = None) -> dict[str, JoinToken]:
        """Returns the join tokens of a zone, or those of ``ids``, by id; one that does not parse is none."""
        name = ZoneKeys(zone).join_tokens
        with explaining_wrong_types(self.redis, zone):
            if ids is None:
                records = self.redis.hgetall(name)
            else:
                records = dict(zip(ids, self.redis.hmget(name, *ids), strict=True))
        found = {}
        for token_id, record in records.items():
            with suppress(InvalidValue):
                found[token_id] = JoinToken.from_wire(token_id, record)
        return found

    def set_blocks(self, zone: str, blocks: Mapping[str, Block]) -> None:
        """Writes blocks of a zone that does not exist yet."""
        records = {key: codec.compact(block.to_wire()) for key, block in blocks.items()}
        if records:
            self.redis.hset(ZoneKeys(zone).blocked, mapping=records)

    def _read_together(
        self, keys: ZoneKeys
    ) -> tuple[dict[str, str], dict[str, str], dict[str, str], list[str], dict[str, str]]:
        """Reads meta data, peers, leases, blocked keys and floors of the same revision.

        A Redis whose memory is full refuses transactions: then they are read until no commit came in between.
        """
        try:
            with self.redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(keys.meta).hgetall(keys.peers).hgetall(keys.leases).hkeys(keys.blocked)
                pipe.hgetall(keys.floors)
                meta, peers, leases, blocked, floors = pipe.execute()
                return meta, peers, leases, blocked, floors
        except redis.ResponseError as error:
            if not is_full(error):
                raise
        while True:
            meta, peers, leases = (self.redis.hgetall(key) for key in (keys.meta, keys.peers, keys.leases))
            blocked, floors = self.redis.hkeys(keys.blocked), self.redis.hgetall(keys.floors)
            if self.redis.hmget(keys.meta, *HEAD_FIELDS) == [meta.get(field) for field in HEAD_FIELDS]:
                return meta, peers, leases, blocked, floors

    def head(self, zone: str) -> Head:
        """Returns a zone's position; raises ``ZoneGone``, or ``InvalidValue`` if it does not parse."""
        epoch, rev, mark = self.redis.hmget(ZoneKeys(zone).meta, *HEAD_FIELDS)
        if epoch is None or rev is None:
            raise ZoneGone(zone)
        try:
            return Head.from_fields(epoch, rev, mark)
        except InvalidValue:
            raise unreadable_meta(zone) from None

    def heads(self, zones: Collection[str]) -> dict[str, Head | None]:
        """Returns zones' positions in one round trip; None for one that is gone or does not parse."""
        with self.redis.pipeline(transaction=False) as pipe:
            for zone in zones:
                pipe.hmget(ZoneKeys(zone).meta, *HEAD_FIELDS)
            found = pipe.execute()
        heads: dict[str, Head | None] = dict.fromkeys(zones)
        for zone, (epoch, rev, mark) in zip(zones, found, strict=True):
            with suppress(InvalidValue):
                heads[zone] = Head.from_fields(epoch or "", rev or "", mark)
        return heads

    def entry_after(self, zone: str, head: Head) -> tuple[str, dict[str, str]] | None:
        """Returns the first entry of a zone's log after ``head``, or None."""
        after = f"({head.epoch}-{head.rev}"
        return next(iter(self.redis.xrange(ZoneKeys(zone).events, min=after, count=1)), None)

    def sizes(self, zone: str) -> tuple[int, ...]:
        """Returns a zone's numbers of peers, leases and events."""
        keys = ZoneKeys(zone)
        with self.redis.pipeline(transaction=False) as pipe:
            return tuple(pipe.hlen(keys.peers).hlen(keys.leases).xlen(keys.events).execute())

    def catch_up(self, state: ZoneState) -> ZoneState:
        """Applies new events to ``state``; reloads a state to which they do not apply."""
        keys = state.keys
        while True:
            head = self.head(state.zone.name)
            if head.position == state.head.position and not head.is_before(state.head):
                return state
            entries = self.redis.xrange(keys.events, min=f"({state.stream_id}", count=PAGE)
            try:
                for entry_id, fields in entries:
                    state.apply_event(Event.from_entry(entry_id, fields))
            except Gap:
                return self.reload(state)
            except InvalidValue as error:
                log.warning("zone %s: %s; the zone is reloaded instead", state.zone.name, error)
                return self.reload(state)
            if not entries:
                return self.reload(state)

    def reload(self, state: ZoneState) -> ZoneState:
        """Loads the zone of ``state`` again; raises ``ZoneGone``."""
        loaded = self.load(state.zone.name, state)
        loaded.inherit(state)
        return loaded

    def pop_batch(self, inboxes: Sequence[str], seconds: float) -> tuple[str, list[str]] | None:
        """Waits for requests in any of ``inboxes``, in their order; pops at most ``BATCH`` from one."""
        answer = self.redis.blmpop(seconds, len(inboxes), *inboxes, direction="LEFT", count=BATCH)
        return (answer[0], answer[1]) if answer else None

    def pop_waiting(self, inboxes: Sequence[str]) -> tuple[str, list[str]] | None:
        """As :meth:`pop_batch`, without waiting."""
        answer = self.redis.lmpop(len(inboxes), *inboxes, direction="LEFT", count=BATCH)
        return (answer[0], answer[1]) if answer else None

    def is_over(self, inbox: str, bound: int, size: int) -> bool:
        """Returns whether a list has more than ``bound`` entries, or uses more than about ``size`` bytes."""
        if int(self.redis.llen(inbox)) > bound:
            return True
        try:
            return int(self.redis.memory_usage(inbox) or 0) > size
        except redis.ResponseError:  # a managed server may refuse it
            return False

    def trim(self, inbox: str, bound: int, size: int) -> int:
        """Trims a list to its ``bound`` oldest entries, or fewer if these use more than about ``size`` bytes.

        Returns the number of removed entries.
        """
        length, used = int(self.redis.llen(inbox)), 0
        with suppress(redis.ResponseError):  # a managed server may refuse it
            used = int(self.redis.memory_usage(inbox) or 0)
        kept = min(bound, length * size // used) if used > size else bound
        if length > kept:
            self.redis.ltrim(inbox, 0, max(kept, 1) - 1)
        return max(0, length - max(kept, 1))

    def commit(
        self,
        state: ZoneState,
        changes: Sequence[Change],
        answers: Iterable[tuple[ReplyTo, str]],
        when_full: bool = False,
        audit: Iterable[AuditEntry] = (),
        credentials: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """Writes ``changes``, which are already applied, the answers' texts and the audit, or nothing.

        ``credentials`` are records of nodes' passwords by key.  The users of keys that lost their lease are
        removed.  ``when_full``: even if Redis's memory is full.
        Returns OK (and advances the rev of ``state`` if anything changed), CONFLICT, INCARNATION or GONE.
        """
        wait_ms, mark = state.desired_wait_ms, new_mark()
        replies: dict[ReplyTo, str] = {}
        for to, text in answers:
            replies.setdefault(to, text)  # the first answer to a request sent twice has its change
        args = commit_args(state, changes, replies, mark, audit, credentials)
        outcome = self.run("commit", *args, when_full)
        if outcome == "OK" and (surplus := self._own_streams.surplus(state.keys, replies)):
            self.redis.unlink(*surplus)
        if outcome == "OK" and changes:
            state.rev, state.mark = state.rev + 1, mark
            state.wait_ms = wait_ms
            left = (change.key for change in changes if change.sign != ADMISSION)
            if gone := [key for key in left if key not in state.leases]:
                self.redis.hdel(state.keys.last_seen, *gone)
                if self.makes_users:
                    node_users.remove(self, state.zone.name, gone)
        return outcome

    def commit_all(
        self, zone: str, changes_of: Callable[[ZoneState], list[Change]], action: str = ""
    ) -> list[Change]:
        """Commits the changes that ``changes_of`` makes to a state, in batches; repeats that on conflict.

        With an ``action`` each changed lease gets an entry of the audit.

        Returns the committed changes; raises ``ZoneGone``.
        """
        done: list[Change] = []
        while True:
            state = self.load(zone)
            before = dict(state.leases)
            changes = changes_of(state)
            for at in range(0, len(changes), BATCH):
                batch = changes[at : at + BATCH]
                undos = [Undo(change.key, None, before.get(change.key)) for change in batch if action]
                audit = lease_entries(self.author, action, undos, state.leases)
                outcome = self.commit(state, batch, (), audit=audit)
                if outcome == "INCARNATION":
                    self.bump(zone)
                if outcome != "OK":
                    break
                done += batch
            else:
                return done

    def change(
        self,
        zone: str,
        at: Iterable[str | int],
        fields: Mapping[str, str | int],
        new_epoch: bool = False,
        entry: AuditEntry = NO_ENTRY,
    ) -> str:
        """Changes ``fields`` of a zone's meta data as one revision; ``new_epoch`` makes all agents reload.

        ``entry`` goes into the audit.

        ``at`` are epoch, rev and mark of the state on which the change was decided.  Returns OK, CONFLICT
        (decide again) or GONE.  After a restart of Redis the zone gets a new epoch first, which is a
        conflict.
        """
        keys = ZoneKeys(zone)
        pairs = [part for field in fields.items() for part in field]
        arguments = [*at, new_mark(), "1" if new_epoch else "", *pairs, *entry]
        outcome = self.run("change", [keys.meta, keys.events, keys.audit], arguments)
        if outcome != "INCARNATION":
            return outcome
        self.bump(zone)
        return "CONFLICT"

    def last_seen(self, zone: str, keys: Collection[str] | None = None) -> dict[str, int]:
        """Returns the last-seen time of each key of a zone, or of ``keys``, in seconds since 1970."""
        name = ZoneKeys(zone).last_seen
        with explaining_wrong_types(self.redis, zone):
            if keys is None:
                return parse_last_seen(self.redis.hgetall(name))
            texts = self.redis.hmget(name, *keys) if keys else []
        found = {key: text for key, text in zip(keys, texts, strict=True) if text is not None}
        times = parse_last_seen(found)
        if spoilt := found.keys() - times.keys():
            # No node loses its address for a time that does not parse: a live node reports within a minute.
            times |= dict.fromkeys(spoilt, int(self.time(zone)))
        return times

    def record_last_seen(self, zone: str, times: Mapping[str, int]) -> None:
        """Stores last-seen times of keys."""
        if times:
            self.redis.hset(ZoneKeys(zone).last_seen, mapping=times)

    def trim_last_seen(self, state: ZoneState) -> None:
        """Removes last-seen times of keys without a lease, in case a supervisor stopped before it did so."""
        name = state.keys.last_seen
        if self.redis.hlen(name) > len(state.leases):
            self.redis.hdel(name, *(set(self.redis.hkeys(name)) - state.leases.keys()))

    def trim_floors(self, state: ZoneState, now: float) -> None:
        """Forgets the oldest floors of a zone that has too many, and raises the floor of all other keys.

        That floor stays below the time ``now``, since keys with a clock ahead must not shut out all others.
        """
        forgotten = oldest(state.floors)
        if not forgotten:
            return
        highest = max(floor.seq for floor in forgotten.values())
        least = max(state.least_seq, min(highest, int(now * 1_000_000)))
        self.redis.hset(state.keys.floors, ALL, least)
        keys = list(forgotten)
        for at in range(0, len(keys), PAGE):
            self.redis.hdel(state.keys.floors, *keys[at : at + PAGE])
        state.least_seq = least
        for key in keys:
            del state.floors[key]

    def bump(self, zone: str, over: int = 0) -> bool:
        """Opens a new epoch if needed; returns whether it did.

        It is needed if the server was restarted since the last commit, if the log is newer than the meta
        data, or if the zone is still in the epoch ``over`` or an earlier one.  Raises ``InvalidValue`` if the
        zone's position does not parse, or its log accepts no more entries.
        """
        keys = ZoneKeys(zone)
        names = [keys.meta, keys.events, keys.peers]
        outcome = self.run("bump", names, [new_mark(), over], when_full=True)
        if outcome == "UNREADABLE":
            raise unreadable_meta(zone)
        if outcome == "LOG":
            raise InvalidValue(
                f"the log of zone {zone} has an entry from the far future and accepts no entry after it",
                f"remove the log ('redis-cli DEL {keys.events}'): agents then reload the zone",
            )
        return outcome == "BUMPED"
