# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop that decides: takes requests of all zones, commits what they change, and answers them.

Any number of supervisors may do so at once.  Each decides over its own copy of a zone; a commit passes only
if nobody else's came between, and is otherwise taken back and decided anew.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import redis
from redis.backoff import ExponentialWithJitterBackoff

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.errors import Translated, is_full
from jaywalk.core.errors import InvalidValue, JaywalkError
from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.zone.events import Change
from jaywalk.zone.models import Zone
from jaywalk.zone.reply_streams import ReplyTo
from jaywalk.zone.requests import REPORT, Reply, Request

from ..decisions import last_seen
from ..monitoring import request_log
from ..monitoring.clock import SharedClock, Timekeeper, elapsed
from ..monitoring.fork_detection import RedisRolledBack
from ..monitoring.health import Health
from ..monitoring.local_redis import explanation
from ..monitoring.memory import FREEING, MemoryMonitor
from ..recovery.recovery import Recovery
from ..state.wrong_type import is_wrong_type
from ..state.zone_state import ZoneState
from ..store.acl import check_replay
from ..store.connection import REDIS_UNAVAILABLE, client_name
from ..store.store import Store, ZoneGone
from . import lease_expiry
from .batch import Batch, Decider
from .inboxes import InboxBatch, InboxEntry, Inboxes
from .leader import CLAIM_SECONDS, Leadership
from .log_trimming import LogTrimmer
from .served_zones import ServedZones
from .timeliness import needs_exact_time

log = logging.getLogger(__name__)

# After which a Redis that is away has said why, if it is to.
EXPLAIN_SECONDS = 5.0
# How often new zones are looked for and inboxes are trimmed.
REFRESH_SECONDS = 1.0
# Of a change in an event, beside its record.
CHANGE_BYTES = 64


class Committer:
    """Serves all zones of one controller until ``stop`` is set; meant for a thread of its own."""

    def __init__(
        self,
        where: ControllerAddress,
        agent_digest: str,
        defaults: Sequence[Zone],
        stop: threading.Event,
        recovery: Recovery | None = None,
        clock: SharedClock | None = None,
    ) -> None:
        self.where = where
        self.recovery = recovery or Recovery(where)
        self.stop = stop
        self.health = Health()
        self.time = Timekeeper(self.health, clock)
        self.memory = MemoryMonitor(self.health, where)
        repeats = RepeatFilter(request_log.MAX_REMEMBERED)
        self.inboxes = Inboxes(self.health, repeats)
        self.decider = Decider(self.health, repeats)
        self.zones = ServedZones(
            where, agent_digest, defaults, self.recovery, self.health, self.time, self.inboxes, repeats
        )
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._read_ahead: InboxBatch | None = None
        self._explain_at = math.inf
        self._expiry = lease_expiry.Schedule()
        self._logs = LogTrimmer()

    def run(self) -> None:
        """Serves, and connects anew for as long as it takes whenever Redis was away."""
        backoff = ExponentialWithJitterBackoff(cap=5.0, base=0.1)
        failures = 0
        while not self.stop.is_set():
            try:
                with Translated(self.where):
                    self._session()
            except JaywalkError as error:
                self._log_error(error)
            except Exception:
                log.exception("the committer failed and starts again")
                self.health.error = "the committer failed and starts again: see the log"
            failures = 1 if self.zones.states else failures + 1
            self.zones.close()
            self._read_ahead = None
            self.health.last_turn = time.monotonic()
            self.stop.wait(backoff.compute(failures))
        self.recovery.flush()
        self._writer.shutdown()

    def _log_error(self, error: JaywalkError) -> None:
        """Once for each kind of trouble, since a Redis that is away stays so for many attempts.

        What the Redis beside us says about it is told after a while: one that is only restarted says nothing.
        """
        trouble, now = str(error), time.monotonic()
        if trouble != self.health.error:
            log.error("%s; joins wait until this is over", trouble)
            self._explain_at = now + EXPLAIN_SECONDS
        elif now >= self._explain_at:
            self._explain_at = math.inf
            if why := explanation(error, self.where):
                log.error("%s", why)
        self.health.error = trouble

    def _session(self) -> None:
        """Serves on one connection until it breaks or we are to stop."""
        store = Store.open(self.where, client_name())
        leadership = None
        self.time.start_session()
        try:
            leadership = Leadership(self.where)
            self._check_replay(store)
            if store.evicts_answers:
                log.warning(
                    "the controller %s may delete answers when its memory is full, and nodes then ask again: "
                    "set 'maxmemory-policy noeviction'",
                    self.where,
                )
            self._refresh(store)
            log.info("serving %d zones on %s", len(self.zones.states), self.where)
            self.health.error = ""
            self._serve(store, leadership)
            leadership.resign()
            self._refresh(store)  # so that the copies have what was committed last
        finally:
            if leadership is not None:
                leadership.close()
            store.close()

    def _serve(self, store: Store, leadership: Leadership) -> None:
        refreshed, beat = time.monotonic(), 0.0
        while not self.stop.is_set() or self._read_ahead is not None:
            now = self.health.last_turn = time.monotonic()
            self._check_suspension(store)
            if now - refreshed >= REFRESH_SECONDS:
                self._refresh(store)
                self.inboxes.trim(store)
                self._expire(store)
                refreshed = now
            if now - beat >= CLAIM_SECONDS:
                leadership.reluctant = self.time.is_off
                self.health.led = frozenset(self.zones.states if leadership.claim() else ())
                beat = now
            try:
                self.zones.check_records(store)
                self._serve_next(store)
            except redis.ResponseError as error:
                if not is_wrong_type(error) or not self.zones.drop_spoilt(store):
                    raise

    def _expire(self, store: Store) -> None:
        """Ends leases whose time is over, a few at a time, and keeps logs bounded."""
        led = [self.zones.states[zone] for zone in sorted(self.health.led & self.zones.states.keys())]
        self._logs.tend(store.redis, led, elapsed())
        budget = lease_expiry.COMMITS
        for zone in self._expiry.ready(self.health.led & self.zones.states.keys(), elapsed())[
            : lease_expiry.LOOKS
        ]:
            try:
                while budget and self._expiry.is_ready(zone, elapsed()):
                    budget -= self._end_leases(store, zone)
            except (InvalidValue, ZoneGone) as error:
                self.zones.drop(zone, str(error))

    def _end_leases(self, store: Store, zone: str) -> bool:
        """Ends some leases of a zone whose time is over; returns whether there were any."""
        # The zone's policy may have changed, of which an idle zone hears nothing else.
        state = self.zones.caught_up(store, zone)
        changes = lease_expiry.due(state, self.time.now())
        batch = Batch(changes, undos=[state.apply(change) for change in changes])
        if self._write(store, zone, batch, [], more_wait=False, when_full=True):
            self._expiry.done(state, len(changes), elapsed())
            if changes and changes[0].key not in state.leases:
                log.info("zone %s: %d leases of nodes that left long ago ended", zone, len(changes))
        return bool(changes)

    @staticmethod
    def _check_replay(store: Store) -> None:
        with suppress(redis.ResponseError):  # a managed server that does not let us look
            check_replay(store)

    def _refresh(self, store: Store) -> None:
        """Looks at clock, memory and zones."""
        self._check_clock(store)
        self.memory.check(store)
        self.zones.refresh(store)

    def _check_clock(self, store: Store) -> None:
        """Compares clocks; where Redis's jumped, we begin to listen anew."""
        if jump := self.time.look(store.time):
            self.zones.restart_listening(jump)

    def _check_suspension(self, store: Store) -> None:
        """After a halt of this process nobody counts as silent who may have spoken meanwhile."""
        if self.time.was_suspended():
            self._check_clock(store)
            self.zones.restart_listening()

    def _serve_next(self, store: Store) -> None:
        """Takes the requests of one list; that list then goes last, so that none starves."""
        taken, self._read_ahead = self._read_ahead or self._pop_batch(store), None
        # Most halts begin while it waits for requests.
        self._check_suspension(store)
        if taken is None or taken.zone not in self.zones.states:
            return
        try:
            self._serve_batch(store, taken)
        except (InvalidValue, RedisRolledBack, ZoneGone) as error:
            self.zones.drop(taken.zone, str(error))

    def _pop_batch(self, store: Store) -> InboxBatch | None:
        lists = self.inboxes.led()
        if not lists:
            self.stop.wait(CLAIM_SECONDS)
            return None
        taken = store.pop_batch(lists, CLAIM_SECONDS)
        return self.inboxes.read(*taken) if taken else None

    def _serve_batch(self, store: Store, taken: InboxBatch) -> None:
        zone, entries = taken.zone, taken.entries
        requests = [each.request for each in entries if each.request is not None]
        if any(needs_exact_time(each, self.time.now()) for each in requests):
            self._check_clock(store)
        state = self.zones.states[zone]
        reports = [each for each in requests if each.op == REPORT]
        if any(last_seen.refusal(state, each) for each in reports):
            # While another supervisor led, it may have taken in what this node was granted.
            state = self.zones.caught_up(store, zone)
        self._record_last_seen(store, state, reports)
        self._commit(store, zone, [each for each in entries if not each.reports], taken.full)
        self._record_last_seen(
            store, self.zones.states[zone], [each for each in requests if each.op != REPORT]
        )

    def _record_last_seen(self, store: Store, state: ZoneState, requests: Sequence[Request]) -> None:
        """Keeps that the nodes of ``requests`` are there."""
        if not requests:
            return
        heard, dropped = last_seen.partition_senders(state, requests, self.time.now())
        self.health.drops.update(dropped)
        try:
            store.record_last_seen(state.zone.name, heard)
        except redis.ResponseError as error:
            if not is_full(error):
                raise
            self.memory.full()

    def _commit(
        self,
        store: Store,
        zone: str,
        entries: Sequence[InboxEntry],
        more_wait: bool = False,
        when_full: bool = False,
    ) -> None:
        """Decides and commits until all is done; a conflict means that somebody else got on, so this ends."""
        while entries:
            state = self.zones.states[zone]
            if state.zone.policy.takeover == "stale":
                asking = (each.request for each in entries if each.request is not None)
                state.last_seen_at = store.last_seen(zone, last_seen.owners(state, asking))
            batch = self.decider.batch(state, entries, self.time.now())
            if self._write(store, zone, batch, entries[: batch.taken], more_wait, when_full):
                entries = entries[batch.taken :]

    def _write(
        self,
        store: Store,
        zone: str,
        batch: Batch,
        entries: Sequence[InboxEntry],
        more_wait: bool,
        when_full: bool = False,
    ) -> bool:
        """One attempt to commit what ``entries`` come to; False where they are to be decided on anew."""
        state = self.zones.states[zone]
        answers = [(entry.reply_to, reply) for entry, reply in batch.answers if entry.reply_to]
        if not batch.changes and not answers:
            return True
        try:
            outcome = self._commit_and_read_ahead(store, state, batch.changes, answers, more_wait, when_full)
        except REDIS_UNAVAILABLE:
            raise
        except redis.ResponseError as error:
            state.undo(batch.undos)
            if is_wrong_type(error):
                raise
            if is_full(error) and not when_full:
                self._commit_when_full(store, zone, entries)
            else:
                self._commit_singly(store, zone, entries, error)
            return True
        if outcome == "OK":
            self._logs.wrote(zone, batch.size + CHANGE_BYTES * len(batch.changes))
            self.zones.committed(zone)
            self.decider.committed(zone, batch)
            return True
        state.undo(batch.undos)
        if outcome == "CONFLICT":
            self.health.conflicts += 1
        if outcome == "INCARNATION":
            self.zones.open_epoch(store, zone)
        self.zones.caught_up(store, zone)
        return False

    def _commit_and_read_ahead(
        self,
        store: Store,
        state: ZoneState,
        changes: Sequence[Change],
        answers: Sequence[tuple[ReplyTo, Reply]],
        more_wait: bool,
        when_full: bool,
    ) -> str:
        """Commits; in a storm it reads the next requests meanwhile, which takes a fifth of the time."""
        ahead = more_wait and self._read_ahead is None and not self.stop.is_set()
        lists = self.inboxes.led() if ahead else []
        taken = store.pop_waiting(lists) if lists else None
        if taken is None:
            return store.commit(state, changes, answers, when_full)
        commit = self._writer.submit(store.commit, state, changes, answers, when_full)
        try:
            self._read_ahead = self.inboxes.read(*taken)
        finally:
            outcome = commit.result()
        return outcome

    def _commit_when_full(self, store: Store, zone: str, entries: Sequence[InboxEntry]) -> None:
        """Redis has no memory left: what frees some is committed, and the rest is repeated by who asked."""
        self.memory.full()
        freeing = [each for each in entries if each.request is not None and each.request.op in FREEING]
        self.health.drops["memory-full"] += len(entries) - len(freeing)
        self._commit(store, zone, freeing, when_full=True)

    def _commit_singly(
        self, store: Store, zone: str, entries: Sequence[InboxEntry], error: redis.ResponseError
    ) -> None:
        """Redis refused a commit: find the request that it is about, so that the others get their answer."""
        if len(entries) == 1:
            log.error("zone %s: Redis refused to commit a request (%s)", zone, error)
            self.health.drops["redis-refused"] += 1
            return
        for entry in entries:
            self._commit(store, zone, [entry])
