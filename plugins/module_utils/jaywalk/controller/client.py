# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of one zone, for a node or an operator: snapshots, events, requests and their replies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

from ..core.errors import ControllerDenied, ControllerUnreachable, InvalidValue, NoAnswer
from ..trust.lock import Lock
from ..zone import retention
from ..zone.events import Event, Fork, Gap, wait_of
from ..zone.join_tokens import JoinToken, checked_id
from ..zone.marks import Head, Position, marks_of, number, readable, remember
from ..zone.models import Lease, Zone
from ..zone.redis_keys import HEAD_FIELDS, NODE_USERS, SUPERVISOR_KEYS, ZoneKeys
from ..zone.reply_streams import AwaitedReply
from ..zone.requests import EXPIRING_OPS, Reply, Request
from ..zone.view import ZoneView, history_of, locked_zone
from . import bounded, reply_kinds
from .address import ControllerAddress
from .errors import RedisErrorTranslator, is_full
from .prover import Prover

with suppress(ImportError):  # the module or command reports how to install it
    import redis

# Until an unanswered request is sent again; doubles each time (the request is idempotent).
FIRST_REPEAT_SECONDS = 2.0
RECORDS_PER_PAGE = 500
# A commit has up to 256 kB of records and one more request.
EVENTS_PER_PAGE = 100
# Of one hash: a million records, far more than any zone has.
MAX_PAGES = 2000
# The part of a connection's timeout for which an XREAD may block.
BLOCK_FRACTION = 0.8

_PUSH = "#!lua flags=allow-oom\nreturn redis.call('RPUSH', KEYS[1], ARGV[1])"

# One entry of a stream: its id and its fields.
Entry = tuple[str, dict[str, str]]
# The same as Redis sends it: the name of each field, then its value.
RawEntry = tuple[str, list[str]]


class ZoneClient:
    """Reads one zone and sends requests to it, over one connection.

    Calls ``alive`` before each command, which may take ``where.timeout``.  The copies of the zone that it
    returns hold only what ``lock`` lets this node take.  ``prover`` proves the requests of a node; an
    operator's client has none.  A client that ``enrols`` logged in with the zone's password, and may only
    send requests and read the zone's meta data and its own replies (:mod:`.login`).
    """

    def __init__(
        self,
        client: redis.Redis,
        where: ControllerAddress,
        zone: str,
        alive: Callable[[], None] = lambda: None,
        lock: Lock | None = None,
        prover: Prover | None = None,
    ) -> None:
        self.client = client
        self.where = where
        self.keys = ZoneKeys(zone)
        self.zone = zone
        self.alive = alive
        self.lock = lock
        self.prover = prover
        self.enrols = False
        self._awaited: AwaitedReply | None = None
        self._sent: Request | None = None

    def snapshot(self) -> ZoneView:
        """The current zone, read by pages; if commits happen meanwhile, the newer record wins.

        Raises ``InvalidValue`` if the zone does not exist yet.
        """
        view = self.head()
        for key, record in self._records(self.keys.peers):
            view.put(key, record)
        self._catch_up(view)
        return view

    def resync(self, before: ZoneView, own_key: str) -> tuple[ZoneView, retention.Merged]:
        """The current zone, with the peers that the controller lost since ``before``; raises like
        :meth:`snapshot`.
        """
        view = self.snapshot()
        shared = retention.shared_by(view, before, self._mark_at)
        lost = retention.missing(view, before, shared)
        left = retention.departed(self._events(shared.least), before, shared) if lost else set()
        return view, retention.merge(view, before, shared, left, own_key, time.time())

    def _mark_at(self, place: Position) -> str:
        """The mark that the log has at ``place``, empty where it holds none."""
        entry = "{}-{}".format(*place)
        with self._asking():
            entries = cast("list[Entry]", self.client.xrange(self.keys.events, entry, entry, count=1))
        try:
            return Event.from_entry(*entries[0]).mark if entries else ""
        except InvalidValue:
            return ""

    def _events(self, since: Position) -> Iterator[Event]:
        """The events of the log after ``since``, as far back as the log reaches."""
        after = "({}-{}".format(*since) if any(since) else "-"
        while True:
            with self._asking():
                entries = cast(
                    "list[Entry]", self.client.xrange(self.keys.events, after, "+", count=EVENTS_PER_PAGE)
                )
            for entry in entries:
                with suppress(InvalidValue):
                    yield Event.from_entry(*entry)
            if len(entries) < EVENTS_PER_PAGE:
                return
            after = f"({entries[-1][0]}"

    def _catch_up(self, view: ZoneView) -> None:
        """Reads events up to the newest record, which makes the copy consistent."""
        newest = max((peer.rev for peer in view.peers.values()), default=0)
        before = ""
        while view.rev < newest and view.stream_id != before:
            before = view.stream_id
            self.alive()
            try:
                self.read(view)
            except Gap:
                return

    def head(self) -> ZoneView:
        """The zone without its peers; raises like :meth:`snapshot`."""
        with self._asking():
            meta = cast("dict[str, str]", self.client.hgetall(self.keys.meta))
        if not meta:
            raise self._unknown_zone()
        return view_from_meta(self.zone, meta, self.lock)

    def lease(self, key: str) -> Lease | None:
        """The lease of one key, or None; only operators may read it."""
        with self._asking():
            record = self.client.hget(self.keys.leases, key)
        return None if record is None else Lease.from_wire(key, record)

    def leases(self) -> list[Lease]:
        """All readable leases of the zone, sorted by key; only operators may read them."""
        return self.lease_records()[0]

    def lease_records(self) -> tuple[list[Lease], dict[str, str]]:
        """As :meth:`leases`, and by key why the other records do not parse."""
        records = dict(self._records(self.keys.leases))
        leases: list[Lease] = []
        unreadable: dict[str, str] = {}
        for key in sorted(records):
            try:
                leases.append(Lease.from_wire(key, records[key]))
            except InvalidValue as error:
                unreadable[key] = error.problem
        return leases, unreadable

    def has_unreadable_record(self, key: str) -> bool:
        """Whether the zone has a record of ``key`` that does not parse."""
        try:
            if self.lease(key) is not None:
                return False
        except InvalidValue:
            return True
        with RedisErrorTranslator(self.where):
            return self.client.hget(self.keys.peers, key) is not None

    def is_blocked(self, key: str) -> bool:
        """Whether an operator blocked ``key``; only operators may read that."""
        with self._asking():
            return self.client.hget(self.keys.blocked, key) is not None

    def join_token(self, token_id: str) -> JoinToken | None:
        """The join token with this id, or None; only operators may read it.  Raises ``InvalidValue``."""
        with self._asking():
            record = self.client.hget(self.keys.join_tokens, checked_id(token_id))
        return None if record is None else JoinToken.from_wire(token_id, record)

    def last_seen(self) -> dict[str, int]:
        """The time of each key's last request, in seconds since 1970; only operators may read it."""
        with self._asking():
            return parse_last_seen(cast("dict[str, str]", self.client.hgetall(self.keys.last_seen)))

    def _records(self, name: str) -> Iterator[tuple[str, str]]:
        """The fields of a hash, read by pages; a field that is set meanwhile may come twice."""
        cursor = 0
        for _page in range(MAX_PAGES):
            with self._asking():
                cursor, records = cast("Any", self.client.hscan(name, cursor, count=RECORDS_PER_PAGE))
            yield from records.items()
            if cursor == 0:
                return
        raise ControllerUnreachable(
            f"the controller {self.where} sends records without end", "is it Redis? Check what listens there"
        )

    def follow_supervisor_keys(self) -> None:
        """Reads which keys the supervisors have; raises ``InvalidValue`` if the node trusts none of them."""
        if self.prover is not None:
            with self._asking():
                published = cast("str | None", self.client.hget(self.keys.meta, SUPERVISOR_KEYS))
            self.prover.trusted.follow(published)

    def has_node_users(self) -> bool:
        """Whether the supervisors make a Redis user of each node."""
        with self._asking():
            return self.client.hget(self.keys.meta, NODE_USERS) is not None

    def wait_for_reply(self, nonce: str, block: float) -> Reply | None:
        """Waits up to ``block`` seconds for the reply to the request with this nonce."""
        awaited = self._awaiting(nonce)
        return self._find(awaited, self._xread(awaited.positions, block))

    def log_continues_from(self, view: ZoneView) -> bool:
        """Whether the log still continues from the position of ``view``; raises like :meth:`snapshot`."""
        with self._asking():
            fields = cast("list[str | None]", self.client.hmget(self.keys.meta, *HEAD_FIELDS))
        return self._log_leads_to(view, self._head(fields))

    def _log_leads_to(self, view: ZoneView, head: Head) -> bool:
        """Whether the log continues from the position of ``view`` to ``head``."""
        if head.position <= view.head.position:
            return not head.is_before(view.head)
        following = f"{view.epoch}-{view.rev + 1}"
        return self._has(view, following, following) or self._has(view, f"{view.epoch + 1}-0", "+")

    def _has(self, view: ZoneView, first: str, last: str) -> bool:
        """Whether the first entry from ``first`` to ``last`` is the next one for ``view``.

        One entry is enough: a node that was away for long need not read a page of a log that was trimmed
        beyond its position, and the entry that opened a new epoch shows a node that it lost nothing in a
        restart of Redis.
        """
        with self._asking():
            entries = cast("list[Entry]", self.client.xrange(self.keys.events, first, last, count=1))
        try:
            return any(Event.from_entry(*entry).is_next(view.head) for entry in entries)
        except (InvalidValue, Gap):
            return False

    def _head(self, fields: Sequence[str | None]) -> Head:
        """The head of the zone, from the ``HEAD_FIELDS`` of its meta data; raises ``InvalidValue``."""
        epoch, rev, mark = (*fields, None, None, None)[: len(HEAD_FIELDS)]
        if epoch is None or rev is None:
            raise self._unknown_zone()
        return Head.from_fields(epoch, rev, mark)

    def _unknown_zone(self) -> InvalidValue:
        return InvalidValue(
            f"the zone '{self.zone}' is unknown to the controller {self.where}",
            "make it with 'jaywalk-supervisor zone add', or start the supervisor",
        )

    def read(self, view: ZoneView, nonce: str = "", block: float = 0.0) -> tuple[set[str], Reply | None]:
        """Waits up to ``block`` seconds for events and, if ``nonce`` is given, for the reply to that request.

        Applies the events to ``view`` and returns the keys that changed, and the reply if it arrived;
        ``view`` then includes the commit of the reply.  Raises ``Gap`` if the reader needs a snapshot.
        """
        awaited = self._awaiting(nonce) if nonce else None
        streams: dict[str, str] = {self.keys.events: view.stream_id}
        batches = self._xread({**streams, **awaited.positions} if awaited else streams, block)
        reply = self._find(awaited, batches) if awaited else None
        entries = batches.get(self.keys.events, [])
        changed = _take_in(view, entries)
        while reply is not None and len(entries) == EVENTS_PER_PAGE:
            self.alive()
            entries = self._xread({self.keys.events: view.stream_id}, 0).get(self.keys.events, [])
            changed |= _take_in(view, entries)
        return changed, reply

    def check_in(self, view: ZoneView, report: Request | None = None) -> None:
        """Sends a report, if there is one, and checks in the same round trip that the log continues from
        ``view``.  A Redis that was emptied or put back to an older copy sends no event that shows it.

        Raises ``Gap`` if it does not, and otherwise like :meth:`snapshot`.
        """
        reports = [("RPUSH", self.keys.inbox, self._wire(report))] if report is not None else []
        read = ("HMGET", self.keys.meta, *HEAD_FIELDS, SUPERVISOR_KEYS)
        fields, *refusals = self._pipelined([read, *reports])
        head = self._head(fields)
        if self.prover is not None:
            self.prover.trusted.follow(fields[len(HEAD_FIELDS)])
        if head.is_before(view.head):
            raise Fork(
                f"zone {self.zone} was followed up to {view.head} and stands at {head}: "
                "Redis was put back to an older copy"
            )
        if not self._log_leads_to(view, head):
            raise Gap(f"the log of zone {self.zone} stands at {head} and does not go on from {view.head}")
        with self._asking():
            for refusal in refusals:
                if isinstance(refusal, redis.ResponseError):
                    raise refusal

    def _pipelined(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        """The replies to several commands in one round trip, with later errors among them; raises the first.

        redis-py's own pipeline would open a second connection.
        """
        connection: Any = self.client.connection
        answers: list[Any] = []
        with self._asking():
            connection.send_packed_command(connection.pack_commands(commands))
            for _each in commands:
                try:
                    answers.append(connection.read_response())
                except redis.ResponseError as error:
                    answers.append(error)
            if isinstance(answers[0], redis.ResponseError):
                raise answers[0]
            if not reply_kinds.fits(commands[0][0], answers[0]):
                raise bounded.unexpected_reply_to(commands[0][0])
        return answers

    def submit(self, request: Request, to: str = "") -> None:
        """Appends a request to the zone's inbox (or the list ``to``); a request may be sent twice."""
        name, text = to or self.keys.inbox, self._wire(request)
        with self._asking():
            try:
                self.client.rpush(name, text)
            except redis.ResponseError as error:
                if name != self.keys.operator_inbox or not is_full(error):
                    raise
                self.client.eval(_PUSH, 1, name, text)  # the operator's request may free memory
        if request.nonce:  # sent again: Redis may have been put back, which restarts the ids
            self._awaited, self._sent = None, request

    def _wire(self, request: Request) -> str:
        if self.enrols:
            request = replace(request, shared=False)
        return request.to_wire() if self.prover is None else self.prover.wire(request)

    def _find(
        self, awaited: AwaitedReply, batches: Mapping[str, Sequence[tuple[str, Sequence[str]]]]
    ) -> Reply | None:
        """The reply to the awaited request among ``batches``; skips what the supervisors did not prove."""
        request, prover = self._sent, self.prover
        if prover is None or request is None or request.nonce != awaited.nonce:
            text = awaited.find(batches)
            return None if text is None else Reply.from_wire(text)
        text = awaited.find(batches, lambda found: prover.read(request, found))
        if text is None:
            return None
        reply = Reply.from_wire(text)
        prover.accept(request, reply)
        return reply

    def _awaiting(self, nonce: str) -> AwaitedReply:
        if self._awaited is None or self._awaited.nonce != nonce:
            self._awaited = AwaitedReply(self.keys, nonce, (False,) if self.enrols else (True, False))
        return self._awaited

    def now(self) -> float | None:
        """The controller's clock, in seconds since 1970; None if the user may not read it."""
        try:
            with RedisErrorTranslator(self.where):
                seconds, microseconds = self.client.time()
        except ControllerDenied:  # a user that an older supervisor or an operator made
            return None
        return seconds + microseconds / 1e6

    def expiring(self, request: Request, timeout: float) -> Request:
        """``request`` with an expiry time: ``timeout`` seconds from now, minus the time for the reply."""
        if request.op not in EXPIRING_OPS or (now := self.now()) is None:
            return request
        return replace(request, expires=int((now + timeout - min(1.0, timeout / 10)) * 1000))

    def ask(self, request: Request, timeout: float, to: str = "") -> Reply:
        """Sends a request until the reply arrives; raises ``NoAnswer`` after ``timeout`` seconds.

        No supervisor carries out a join or an operator's request after that time.
        """
        deadline = time.monotonic() + timeout
        request = self.expiring(request, timeout)
        pause = FIRST_REPEAT_SECONDS
        while (now := time.monotonic()) < deadline:
            self.submit(request, to)
            awaited, until = self._awaiting(request.nonce), min(now + pause, deadline)
            while (left := until - time.monotonic()) > 0:
                reply = self._find(awaited, self._xread(awaited.positions, left))
                if reply is not None:
                    return reply
            pause *= 2
        lapsed = ", and it will not be carried out any more" if request.expires else ""
        raise NoAnswer(
            f"no supervisor answered the request for zone '{self.zone}' within {timeout:g} seconds{lapsed}",
            "check that jaywalk-supervisor runs and reaches the same controller",
        )

    def _asking(self) -> RedisErrorTranslator:
        self.alive()
        return RedisErrorTranslator(self.where)

    def _xread(self, streams: dict[str, str], block: float) -> dict[str, list[RawEntry]]:
        """One XREAD, directly on the client's connection.

        Redis replies to all readers of a zone at once, so the CPU time of each reader counts;
        ``Redis.xread`` would take as long as everything else that an agent does with an event.
        """
        wait = max(1, int(min(block, self.where.timeout * BLOCK_FRACTION) * 1000))
        connection: Any = self.client.connection
        connection.blocked = wait / 1000
        with RedisErrorTranslator(self.where):
            connection.send_command(
                "XREAD", "COUNT", EVENTS_PER_PAGE, "BLOCK", wait, "STREAMS", *streams, *streams.values()
            )
            answer = connection.read_response()
            if not reply_kinds.is_news(answer):
                raise bounded.unexpected_reply_to("XREAD")
        connection.blocked = 0.0
        return dict(answer or ())


def _paired(words: list[str]) -> dict[str, str]:
    """The fields of an entry by name."""
    return dict(zip(words[::2], words[1::2]))


def parse_last_seen(record: Mapping[str, str]) -> dict[str, int]:
    """``{zone}:seen`` as numbers, without invalid values, since no decision depends on it alone."""
    return {key: int(text) for key, text in record.items() if text.isascii() and text.isdigit()}


def _take_in(view: ZoneView, entries: list[RawEntry]) -> set[str]:
    """Applies events as Redis sent them; returns the keys that changed, raises ``Gap``."""
    changed: set[str] = set()
    for entry_id, words in entries:
        try:
            changed |= view.apply(Event.from_entry(entry_id, _paired(words)))
        except InvalidValue as error:
            raise Gap(str(error)) from None
    return changed


def view_from_meta(zone: str, meta: dict[str, str], lock: Lock | None = None) -> ZoneView:
    """A copy of a zone without peers at the position in its meta data, with the pools of ``lock``."""
    try:
        epoch, rev, wait_ms = number(meta["epoch"]), number(meta["rev"]), wait_of(meta["wait_ms"])
    except (KeyError, ValueError):
        raise InvalidValue(
            f"the meta data of zone '{zone}' do not parse", "check the supervisor's log"
        ) from None
    history = history_of(meta.get("history", ""))
    ends = marks_of(meta.get("marks", ""))
    marks = {place: ends[place[0]] for place in history if place[0] in ends}
    remember(marks, (epoch, rev), readable(meta.get("mark")))
    found = locked_zone(Zone.from_wire(zone, meta), lock)
    return ZoneView(found, epoch, rev, wait_ms=wait_ms, history=history, marks=marks, lock=lock)
