# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop of a supervisor: pops requests of all zones, commits what they change, and answers them.

Any number of supervisors may run this loop at once.  Each decides on its own copy of a zone.  A commit
succeeds only if no other commit came in between; otherwise its changes are undone and decided again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import redis
from redis.backoff import ExponentialWithJitterBackoff

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.errors import RedisErrorTranslator, is_full
from jaywalk.core.errors import ControllerCrowded, InvalidValue, JaywalkError
from jaywalk.service.repeat_filter import RepeatFilter
from jaywalk.zone.models import Zone
from jaywalk.zone.requests import REPORT, Request

from ..decisions import last_seen
from ..decisions.authority import violations
from ..monitoring import request_log
from ..monitoring.certificate import CertificateMonitor
from ..monitoring.client_bounds import ConnectionGuard
from ..monitoring.clock import SharedClock, Timekeeper, elapsed
from ..monitoring.fork_detection import RedisRolledBack
from ..monitoring.health import Health
from ..monitoring.installation import installation_of
from ..monitoring.local_redis import explanation
from ..monitoring.memory import MemoryMonitor
from ..possession.keyring import KeyFile
from ..possession.proofs import ProofChecker
from ..recovery.recovery import Recovery
from ..state.wrong_type import is_wrong_type
from ..state.zone_state import ZoneState
from ..store.acl import check_replay
from ..store.audit import SUPERVISOR, lease_entries
from ..store.connection import client_name
from ..store.store import Store, ZoneGone
from . import lease_expiry
from .batch import Batch, Decider
from .commit import BatchCommitter
from .inboxes import InboxBatch, Inboxes
from .leader import CLAIM_SECONDS, Leadership
from .log_trimming import LogTrimmer
from .served_zones import ServedZones
from .timeliness import needs_exact_time

log = logging.getLogger(__name__)

# After this time a Redis that is down has logged the reason, if it logs one.
EXPLAIN_SECONDS = 5.0
# Interval of the search for new zones.
REFRESH_SECONDS = 1.0
# Interval of the trimming of long inboxes.
TRIM_SECONDS = 0.1


class Committer:
    """Serves all zones of one controller until ``stop`` is set; runs in a thread of its own."""

    def __init__(
        self,
        where: ControllerAddress,
        agent_digest: str,
        defaults: Sequence[Zone],
        stop: threading.Event,
        recovery: Recovery | None = None,
        clock: SharedClock | None = None,
        key_file: KeyFile | None = None,
    ) -> None:
        self.where = where
        self.recovery = recovery or Recovery(where)
        self.stop = stop
        self.health = Health()
        self.time = Timekeeper(self.health, clock)
        self.memory = MemoryMonitor(self.health, where)
        self.clients = ConnectionGuard(self.health, where)
        self.certificate = CertificateMonitor(self.health, where)
        repeats = RepeatFilter(request_log.MAX_REMEMBERED)
        self.decider = Decider(self.health, repeats)
        self.key_file = key_file or KeyFile("")
        proofs = ProofChecker(lambda: self.key_file.keyring)
        self.inboxes = Inboxes(self.health, repeats, proofs)
        self.zones = ServedZones(
            where,
            agent_digest,
            defaults,
            self.recovery,
            self.health,
            self.time,
            self.inboxes,
            repeats,
            self.key_file,
        )
        self._logs = LogTrimmer()
        self.batches = BatchCommitter(
            self.decider,
            self.zones,
            self.inboxes,
            self.health,
            self.memory,
            self.time,
            self._logs,
            stop,
        )
        self._explain_at = math.inf
        self._expiry = lease_expiry.Schedule()

    def run(self) -> None:
        """Serves, and reconnects with a growing delay while Redis is unavailable."""
        backoff = ExponentialWithJitterBackoff(cap=5.0, base=0.1)
        failures = 0
        while not self.stop.is_set():
            try:
                with RedisErrorTranslator(self.where):
                    self._session()
            except ControllerCrowded as error:
                # Each connection that ends makes room for whoever asks first.
                self._log_error(error)
                failures = 0
            except JaywalkError as error:
                self._log_error(error)
            except Exception:
                log.exception("the committer failed and starts again")
                self.health.error = "the committer failed and starts again: see the log"
            failures = 1 if self.zones.states else failures + 1
            self.zones.close()
            self.batches.read_ahead = None
            self.health.last_turn = time.monotonic()
            self.stop.wait(backoff.compute(failures))
        self.recovery.flush()
        self.batches.close()

    def _log_error(self, error: JaywalkError) -> None:
        """Logs each kind of error once, since many attempts to connect may fail for the same reason.

        The log of a Redis on this machine follows after a while: a Redis that only restarts logs no reason.
        """
        text, now = str(error), time.monotonic()
        if text != self.health.error:
            log.error("%s; joins wait until this is over", text)
            self._explain_at = now + EXPLAIN_SECONDS
        elif now >= self._explain_at:
            self._explain_at = math.inf
            if why := explanation(error, self.where):
                log.error("%s", why)
        self.health.error = text

    def _session(self) -> None:
        """Serves on one connection until it breaks or ``stop`` is set."""
        store = Store.open(self.where, client_name())
        leadership = None
        self.time.start_session()
        self.decider.installation = installation_of(self.where)
        try:
            # First of all: other connections of this supervisor may find no room.
            self.clients.check(store)
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
            self._refresh(store)  # so that the copies contain the last commits
        finally:
            if leadership is not None:
                leadership.close()
            store.close()

    def _serve(self, store: Store, leadership: Leadership) -> None:
        refreshed, claimed, trimmed = time.monotonic(), 0.0, 0.0
        while not self.stop.is_set() or self.batches.read_ahead is not None:
            now = self.health.last_turn = time.monotonic()
            self._check_suspension(store)
            if now - trimmed >= TRIM_SECONDS:
                self.inboxes.trim(store)
                self.inboxes.floods.check(store)
                trimmed = now
            if now - refreshed >= REFRESH_SECONDS:
                self._refresh(store)
                self._expire(store)
                refreshed = now
            if now - claimed >= CLAIM_SECONDS:
                leadership.reluctant = self.time.is_off
                self.health.led = frozenset(self.zones.states if leadership.claim() else ())
                claimed = now
            try:
                self.zones.check_records(store)
                self._serve_next(store)
            except redis.ResponseError as error:
                if not is_wrong_type(error) or not self.zones.drop_spoilt(store):
                    raise

    def _expire(self, store: Store) -> None:
        """Trims the logs and ends expired leases, a few at a time."""
        led = [self.zones.states[zone] for zone in sorted(self.health.led & self.zones.states.keys())]
        self._logs.trim(store.redis, led, elapsed())
        for state in led:
            store.trim_floors(state, self.time.now())
        budget = lease_expiry.MAX_COMMITS
        for zone in self._expiry.ready(self.health.led & self.zones.states.keys(), elapsed())[
            : lease_expiry.MAX_ZONES
        ]:
            try:
                while budget and self._expiry.is_ready(zone, elapsed()):
                    budget -= self._end_leases(store, zone)
            except (InvalidValue, ZoneGone) as error:
                self.zones.drop(zone, str(error))

    def _end_leases(self, store: Store, zone: str) -> bool:
        """Ends some expired leases of a zone, or what its policy permits no more; returns whether any."""
        # The zone's policy may have changed: an idle zone does not learn that from its requests.
        state = self.zones.catch_up(store, zone)
        changes = lease_expiry.due(state, self.time.now()) or violations(state, lease_expiry.BATCH)
        undos = [state.apply(change) for change in changes]
        audit = lease_entries(SUPERVISOR, "expire", undos, state.leases)
        batch = Batch(changes, undos=undos, audit=[*audit])
        if self.batches.write(store, zone, batch, [], more_wait=False, when_full=True):
            self._expiry.done(state, len(changes), elapsed())
            if changes and changes[0].sign == "+":
                log.warning("zone %s: its policy permits %d peers less than they had", zone, len(changes))
            elif changes and changes[0].key not in state.leases:
                log.info("zone %s: leases of nodes that left long ago ended (%d)", zone, len(changes))
        return bool(changes)

    @staticmethod
    def _check_replay(store: Store) -> None:
        with suppress(redis.ResponseError):  # a managed server may refuse these commands
            check_replay(store)

    def _refresh(self, store: Store) -> None:
        """Checks the clock, Redis's memory and certificate, and the list of zones."""
        self._check_clock(store)
        self.memory.check(store)
        self.certificate.check()
        self.zones.refresh(store)
        self.clients.check(store)

    def _check_clock(self, store: Store) -> None:
        """Compares the clocks; if Redis's clock jumped, no node counts as silent from before."""
        if jump := self.time.update(store.time):
            self.zones.restart_listening(jump)

    def _check_suspension(self, store: Store) -> None:
        """After a suspension of this process, no node counts as silent for the time it took."""
        if self.time.was_suspended():
            self._check_clock(store)
            self.zones.restart_listening()

    def _serve_next(self, store: Store) -> None:
        """Pops and serves the requests of one inbox; that inbox is then last in the order."""
        batch, self.batches.read_ahead = self.batches.read_ahead or self._pop_batch(store), None
        # Most suspensions begin while this process waits for requests.
        self._check_suspension(store)
        if batch is None or batch.zone not in self.zones.states:
            return
        try:
            self._serve_batch(store, batch)
        except (InvalidValue, RedisRolledBack, ZoneGone) as error:
            self.zones.drop(batch.zone, str(error))

    def _pop_batch(self, store: Store) -> InboxBatch | None:
        keys = self.inboxes.led()
        if not keys:
            self.stop.wait(CLAIM_SECONDS)
            return None
        popped = store.pop_batch(keys, CLAIM_SECONDS)
        return self.inboxes.read(*popped) if popped else None

    def _serve_batch(self, store: Store, batch: InboxBatch) -> None:
        zone, entries = batch.zone, batch.entries
        requests = [entry.request for entry in entries if entry.request is not None]
        if any(needs_exact_time(request, self.time.now()) for request in requests):
            self._check_clock(store)
        state = self.zones.states[zone]
        reports = [request for request in requests if request.op == REPORT]
        if any(last_seen.refusal(state, report) for report in reports):
            # Another supervisor may have admitted this node while it led.
            state = self.zones.catch_up(store, zone)
        self._record_last_seen(store, state, reports)
        self.batches.commit(store, zone, [entry for entry in entries if not entry.reports], batch.full)
        others = [request for request in requests if request.op != REPORT]
        self._record_last_seen(store, self.zones.states[zone], others)

    def _record_last_seen(self, store: Store, state: ZoneState, requests: Sequence[Request]) -> None:
        """Records the time of the last request of each sender."""
        if not requests:
            return
        times, dropped = last_seen.partition_senders(state, requests, self.time.now())
        self.health.drops.update(dropped)
        try:
            store.record_last_seen(state.zone.name, times)
        except redis.ResponseError as error:
            if not is_full(error):
                raise
            self.memory.record_full()
