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
from dataclasses import dataclass, field

import redis
from redis.backoff import ExponentialWithJitterBackoff

from jaywalk.controller import ControllerAddress, Translated, is_full
from jaywalk.errors import BadRequest, InvalidValue, JaywalkError
from jaywalk.models import Zone
from jaywalk.repeat_filter import RepeatFilter
from jaywalk.replies import ReplyTo
from jaywalk.requests import AGENT_OPS, OPERATOR_OPS, REPORT, Reply, Request, readable_reply_to
from jaywalk.zonelog import Change, ZoneKeys

from . import expiry, journal, seen
from .acl import check_replay, write_user
from .answered import Answered, Answers, as_first, identity_of, is_order
from .audit import RecordWatch
from .beside import explanation
from .clock import Timekeeper, elapsed
from .decide import Decision, decide
from .heads import Heads, PutBack, loaded
from .health import Health
from .journal import Told
from .leader import BEAT_SECONDS, Leadership
from .log_bound import LogBound
from .memory import FREEING, MemoryWatch
from .pools import FillWatch
from .putback import let_peers_return
from .recovery import Recovery
from .spoilt_keys import check_types, is_wrong_type
from .state import Undo, ZoneState
from .store import AWAY, BATCH, Store, ZoneGone, client_name
from .timeliness import needs_exact_time, untimely
from .zones import with_defaults

log = logging.getLogger(__name__)

EXPLAIN_SECONDS = 5.0
"""After which a Redis that is away has said why, if it is to."""
REFRESH_SECONDS = 1.0
"""How often new zones are looked for and inboxes are trimmed."""
INBOX_BOUND = 20_000
"""Requests that may wait in one inbox.  What waits longest stays: it is served first, and who was cut off
asks again within 2 to 60 s.  As much as is served in the 2 s after which agents repeat, so that no storm of
joins comes near it."""
INBOX_BYTES = 64 << 20
"""Of one inbox: as many requests of 3 kB, where most have 400 bytes and Redis takes texts of 1 MB."""
COMMIT_BYTES = 256 * 1024
"""Records of so many bytes go into one commit, and then those of one request more: well below the 1 MB that
the role lets Redis take as one argument."""
CHANGE_BYTES = 64
"""Of a change in an event, beside its record."""


@dataclass
class Pending:
    """A request that was taken, or the refusal of one that does not parse."""

    reply_to: ReplyTo | None
    request: Request | None = None
    refusal: Reply | None = None
    repeats: bool = False

    @property
    def reports(self) -> bool:
        """Whether this only says that a node is there."""
        return self.request is not None and self.request.op == REPORT and not self.request.observed


@dataclass
class Taken:
    """Requests of one zone that were taken from a list and read; ``full`` if there may well be more."""

    zone: str
    pendings: list[Pending]
    full: bool


@dataclass
class Batch:
    """What the first ``taken`` of a list of requests come to on a state to which it is applied already.

    ``size`` are the bytes of the records in ``changes``, ``changing`` the answers that came with them.
    """

    changes: list[Change] = field(default_factory=list)
    answers: list[tuple[Pending, Reply]] = field(default_factory=list)
    undos: list[Undo] = field(default_factory=list)
    changing: Answers = field(default_factory=dict)
    size: int = 0
    taken: int = 0


class Committer:
    """Serves all zones of one controller until ``stop`` is set; meant for a thread of its own."""

    def __init__(
        self,
        where: ControllerAddress,
        agent_digest: str,
        defaults: Sequence[Zone],
        stop: threading.Event,
        recovery: Recovery | None = None,
    ) -> None:
        self.where = where
        self.recovery = recovery or Recovery(where)
        self.agent_digest = agent_digest
        self.defaults = defaults
        self.stop = stop
        self.health = Health()
        self.time = Timekeeper(self.health)
        self._answered = Answered()
        self.memory = MemoryWatch(self.health, where)
        self._fill = FillWatch()
        self._repeats = RepeatFilter(journal.MAX_REMEMBERED)
        self._states: dict[str, ZoneState] = {}
        self._former: dict[str, ZoneState] = {}
        self._heads = Heads()
        self._lists: dict[str, tuple[str, Sequence[str]]] = {}
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._ahead: Taken | None = None
        self._deep: set[str] = set()
        self._explain_at = math.inf
        self._records = RecordWatch(self.health, self._repeats)
        self._expiry = expiry.Schedule()
        self._logs = LogBound()

    def run(self) -> None:
        """Serves, and connects anew for as long as it takes whenever Redis was away."""
        backoff = ExponentialWithJitterBackoff(cap=5.0, base=0.1)
        failures = 0
        while not self.stop.is_set():
            try:
                with Translated(self.where):
                    self._session()
            except JaywalkError as error:
                self._report(error)
            except Exception:
                log.exception("the committer failed and starts again")
                self.health.trouble = "the committer failed and starts again: see the log"
            failures = 1 if self._states else failures + 1
            self._former |= self._states
            self.recovery.learn(self._states)
            self._states = {}
            self._ahead = None
            self.health.turn = time.monotonic()
            self.stop.wait(backoff.compute(failures))
        self.recovery.flush()
        self._writer.shutdown()

    def _report(self, error: JaywalkError) -> None:
        """Once for each kind of trouble, since a Redis that is away stays so for many attempts.

        What the Redis beside us says about it is told after a while: one that is only restarted says nothing.
        """
        trouble, now = str(error), time.monotonic()
        if trouble != self.health.trouble:
            log.error("%s; joins wait until this is over", trouble)
            self._explain_at = now + EXPLAIN_SECONDS
        elif now >= self._explain_at:
            self._explain_at = math.inf
            if why := explanation(error, self.where):
                log.error("%s", why)
        self.health.trouble = trouble

    def _session(self) -> None:
        """Serves on one connection until it breaks or we are to stop."""
        store = Store.open(self.where, client_name())
        leadership = None
        self.time.begin()
        try:
            leadership = Leadership(self.where)
            self._lists.clear()
            self._check_replay(store)
            if store.evicts_answers:
                log.warning(
                    "the controller %s may delete answers when its memory is full, and nodes then ask again: "
                    "set 'maxmemory-policy noeviction'",
                    self.where,
                )
            self._refresh(store)
            log.info("serving %d zones on %s", len(self._states), self.where)
            self.health.trouble = ""
            self._serve(store, leadership)
            leadership.resign()
            self._refresh(store)  # so that the copies have what was committed last
        finally:
            if leadership is not None:
                leadership.close()
            store.close()

    def _serve(self, store: Store, leadership: Leadership) -> None:
        refreshed, beat = time.monotonic(), 0.0
        while not self.stop.is_set() or self._ahead is not None:
            now = self.health.turn = time.monotonic()
            self._mind_gap(store)
            if now - refreshed >= REFRESH_SECONDS:
                self._refresh(store)
                self._trim(store)
                self._expire(store)
                refreshed = now
            if now - beat >= BEAT_SECONDS:
                leadership.reluctant = self.time.is_off
                self.health.led = frozenset(self._states if leadership.claim() else ())
                beat = now
            try:
                for zone in self._records.look(store, self._states):
                    self._drop(zone, "its records cannot be read any more")
                self._turn(store)
            except redis.ResponseError as error:
                if not is_wrong_type(error) or not self._drop_spoilt(store):
                    raise

    def _drop_spoilt(self, store: Store) -> bool:
        """Lets go of the zones that have a key of another type; returns whether there are any."""
        before = len(self._states)
        for zone in list(self._states):
            try:
                check_types(store.redis, zone)
            except InvalidValue as error:
                self._drop(zone, str(error))
        return len(self._states) < before

    def _trim(self, store: Store) -> None:
        """Keeps inboxes bounded, whoever floods them; one from which no whole batch came needs no look."""
        for zone in self._deep & self.health.led:
            self._deep.discard(zone)
            cut = store.trim(ZoneKeys(zone).inbox, INBOX_BOUND, INBOX_BYTES)
            if cut:
                self.health.drops["inbox-full"] += cut
                log.warning("zone %s: dropped %d requests from the end of a full inbox", zone, cut)

    def _expire(self, store: Store) -> None:
        """Ends leases whose time is over, a few at a time, and keeps logs bounded."""
        led = [self._states[zone] for zone in sorted(self.health.led & self._states.keys())]
        self._logs.tend(store.redis, led, elapsed())
        budget = expiry.COMMITS
        for zone in self._expiry.ready(self.health.led & self._states.keys(), elapsed())[: expiry.LOOKS]:
            try:
                while budget and self._expiry.is_ready(zone, elapsed()):
                    budget -= self._end_leases(store, zone)
            except (InvalidValue, ZoneGone) as error:
                self._drop(zone, str(error))

    def _end_leases(self, store: Store, zone: str) -> bool:
        """Ends some leases of a zone whose time is over; returns whether there were any."""
        # The zone's policy may have changed, of which an idle zone hears nothing else.
        state = self._caught_up(store, self._states[zone])
        changes = expiry.due(state, self.time.now())
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
        """Looks at clock and memory, puts back what was lost, makes the default zones, takes up zones that
        appeared, and lets go of those that are gone.
        """
        self._look(store)
        self.memory.look(store)
        self._look_back(store)
        if not self.where.nodes:
            self.recovery.mend_shared(store)
        for name in self.recovery.mend(store, self._states, self._heads.returning):
            self._states.pop(name, None)
        self.health.shut_zones = dict(self.recovery.shut)
        names = with_defaults(store, self.defaults)
        for name in names:
            self.health.turn = time.monotonic()
            if name not in self._states:
                self._open(store, name)
        for name in self._states.keys() - set(names):
            self._drop(name, f"zone {name} was removed")
        for name in self.health.broken_zones.keys() - set(names):
            del self.health.broken_zones[name]
        self.recovery.keep(store, self._states)

    def _look_back(self, store: Store) -> None:
        """Lets go of zones that Redis was put back with, so that they are opened in a new epoch."""
        moved = self._heads.moved(store, tuple(self._states))
        if moved:
            self.recovery.learn(self._states)
        for name in moved:
            try:
                self._heads.check(store, name)
            except ZoneGone:
                self._heads.lose(name)  # and is made again, or was removed
            except (InvalidValue, PutBack) as error:
                self._drop(name, str(error))

    def _look(self, store: Store) -> None:
        """Compares clocks; where Redis's jumped, we begin to listen anew."""
        if jump := self.time.look(store.time):
            self._listen_anew(jump)

    def _mind_gap(self, store: Store) -> None:
        """After a halt of this process nobody counts as silent who may have spoken meanwhile."""
        if self.time.was_away():
            self._look(store)
            self._listen_anew()

    def _listen_anew(self, jump: float = 0.0) -> None:
        for state in (*self._former.values(), *self._states.values()):
            state.listen_from(self.time.now(), jump)

    def _open(self, store: Store, name: str) -> None:
        try:
            check_types(store.redis, name)
            if store.bump(name):
                log.warning("the controller %s started anew: zone %s has a new epoch", self.where, name)
            if not self._heads.settled(store, name):
                return
            former = self._former.pop(name, None)
            state = let_peers_return(store, loaded(store, name, former))
            self._heads.note(name, state.head)
            if former is not None:
                state.go_on_from(former)
            state.listen_from(self.time.now())
            self._states[name] = state
            store.bound_seen(state)
            write_user(store, name, self.agent_digest)
        except (InvalidValue, ZoneGone) as error:
            if self.health.broken_zones.get(name) != str(error):
                log.error("zone %s cannot be served: %s", name, error)
            self.health.broken_zones[name] = str(error)
            return
        self.health.broken_zones.pop(name, None)
        self._deep.add(name)
        self._records.tell(self._states[name])
        self._fill.look(name, self._states[name].pools)
        keys = ZoneKeys(name)
        # Operators come first: theirs are few, and a flooded inbox must not keep them waiting.
        self._lists = {keys.orders: (name, OPERATOR_OPS), **self._lists, keys.inbox: (name, AGENT_OPS)}

    def _drop(self, name: str, why: str) -> None:
        log.error("%s: its requests wait until it is there again", why)
        del self._states[name]
        self.health.unreadable.pop(name, None)
        self._heads.lose(name)
        keys = ZoneKeys(name)
        for each in (keys.inbox, keys.orders):
            self._lists.pop(each, None)

    def _turn(self, store: Store) -> None:
        """Takes the requests of one list; that list then goes last, so that none starves."""
        taken, self._ahead = self._ahead or self._take(store), None
        # Most halts begin while it waits for requests.
        self._mind_gap(store)
        if taken is None or taken.zone not in self._states:
            return
        try:
            self._serve_list(store, taken)
        except (InvalidValue, PutBack, ZoneGone) as error:
            self._drop(taken.zone, str(error))

    def _take(self, store: Store) -> Taken | None:
        lists = self._led_lists()
        if not lists:
            self.stop.wait(BEAT_SECONDS)
            return None
        taken = store.take(lists, BEAT_SECONDS)
        return self._read(*taken) if taken else None

    def _led_lists(self) -> list[str]:
        return [name for name, (zone, _) in self._lists.items() if zone in self.health.led]

    def _read(self, name: str, texts: Sequence[str]) -> Taken:
        zone, ops = self._lists[name] = self._lists.pop(name)
        log.debug("zone %s: took %d requests from %s", zone, len(texts), name)
        if len(texts) == BATCH:
            self._deep.add(zone)
        return Taken(zone, [self._decode(text, zone, ops) for text in texts], len(texts) == BATCH)

    def _serve_list(self, store: Store, taken: Taken) -> None:
        zone, pendings = taken.zone, taken.pendings
        requests = [each.request for each in pendings if each.request is not None]
        if any(needs_exact_time(each, self.time.now()) for each in requests):
            self._look(store)
        state = self._states[zone]
        reports = [each for each in requests if each.op == REPORT]
        if any(seen.refusal(state, each) for each in reports):
            # While another supervisor led, it may have taken in what this node was granted.
            state = self._caught_up(store, state)
        self._hear(store, state, reports)
        self._commit(store, zone, [each for each in pendings if not each.reports], taken.full)
        self._hear(store, self._states[zone], [each for each in requests if each.op != REPORT])

    def _hear(self, store: Store, state: ZoneState, requests: Sequence[Request]) -> None:
        """Keeps that the nodes of ``requests`` are there."""
        if not requests:
            return
        heard, dropped = seen.sorted_out(state, requests, self.time.now())
        self.health.drops.update(dropped)
        try:
            store.note_seen(state.zone.name, heard)
        except redis.ResponseError as error:
            if not is_full(error):
                raise
            self.memory.full()

    def _decode(self, text: str, zone: str, ops: Sequence[str]) -> Pending:
        try:
            request = Request.from_wire(text, zone, ops)
        except InvalidValue as error:
            reply_to = readable_reply_to(text)
            self.health.bad[error.reason if isinstance(error, BadRequest) else "value"] += 1
            if reply_to is None:
                self.health.drops["unanswerable"] += 1
            journal.tell_unreadable(zone, str(error), self._repeats)
            return Pending(reply_to, refusal=Reply.refused("bad-request", str(error)))
        except Exception:
            log.exception("zone %s: a request could not be read", zone)
            self.health.drops["unreadable"] += 1
            return Pending(None)
        return Pending(request.reply_to, request)

    def _commit(
        self,
        store: Store,
        zone: str,
        pendings: Sequence[Pending],
        more_wait: bool = False,
        when_full: bool = False,
    ) -> None:
        """Decides and commits until all is done; a conflict means that somebody else got on, so this ends."""
        while pendings:
            state = self._states[zone]
            if state.zone.policy.takeover == "stale":
                asking = (each.request for each in pendings if each.request is not None)
                state.seen = store.seen(zone, seen.holders(state, asking))
            batch = self._decide(state, pendings)
            if self._write(store, zone, batch, pendings[: batch.taken], more_wait, when_full):
                pendings = pendings[batch.taken :]

    def _write(
        self,
        store: Store,
        zone: str,
        batch: Batch,
        pendings: Sequence[Pending],
        more_wait: bool,
        when_full: bool = False,
    ) -> bool:
        """One attempt to commit what ``pendings`` come to; False where they are to be decided on anew."""
        state = self._states[zone]
        answers = [(pending.reply_to, reply) for pending, reply in batch.answers if pending.reply_to]
        if not batch.changes and not answers:
            return True
        try:
            outcome = self._written(store, state, batch.changes, answers, more_wait, when_full)
        except AWAY:
            raise
        except redis.ResponseError as error:
            state.undo(batch.undos)
            if is_wrong_type(error):
                raise
            if is_full(error) and not when_full:
                self._commit_when_full(store, zone, pendings)
            else:
                self._commit_singly(store, zone, pendings, error)
            return True
        if outcome == "OK":
            self._heads.note(zone, state.head)
            self._logs.wrote(zone, batch.size + CHANGE_BYTES * len(batch.changes))
            self._note(zone, batch)
            return True
        state.undo(batch.undos)
        if outcome == "CONFLICT":
            self.health.conflicts += 1
        if outcome == "INCARNATION":
            store.bump(zone)
            write_user(store, zone, self.agent_digest)
        self._caught_up(store, state)
        return False

    def _caught_up(self, store: Store, state: ZoneState) -> ZoneState:
        """The zone as it stands; in a new epoch, Redis may have forgotten when it heard of whom.

        Raises ``PutBack``.
        """
        self._heads.check(store, state.zone.name)
        epoch = state.epoch
        state = self._states[state.zone.name] = store.catch_up(state)
        if state.epoch != epoch:
            state.listen_from(self.time.now())
        return state

    def _written(
        self,
        store: Store,
        state: ZoneState,
        changes: Sequence[Change],
        answers: Sequence[tuple[ReplyTo, Reply]],
        more_wait: bool,
        when_full: bool,
    ) -> str:
        """Commits; in a storm it reads the next requests meanwhile, which takes a fifth of the time."""
        ahead = more_wait and self._ahead is None and not self.stop.is_set()
        lists = self._led_lists() if ahead else []
        taken = store.take_waiting(lists) if lists else None
        if taken is None:
            return store.commit(state, changes, answers, when_full)
        commit = self._writer.submit(store.commit, state, changes, answers, when_full)
        try:
            self._ahead = self._read(*taken)
        finally:
            outcome = commit.result()
        return outcome

    def _commit_when_full(self, store: Store, zone: str, pendings: Sequence[Pending]) -> None:
        """Redis has no memory left: what frees some is committed, and the rest is repeated by who asked."""
        self.memory.full()
        freeing = [each for each in pendings if each.request is not None and each.request.op in FREEING]
        self.health.drops["memory-full"] += len(pendings) - len(freeing)
        self._commit(store, zone, freeing, when_full=True)

    def _commit_singly(
        self, store: Store, zone: str, pendings: Sequence[Pending], error: redis.ResponseError
    ) -> None:
        """Redis refused a commit: find the request that it is about, so that the others get their answer."""
        if len(pendings) == 1:
            log.error("zone %s: Redis refused to commit a request (%s)", zone, error)
            self.health.drops["redis-refused"] += 1
            return
        for each in pendings:
            self._commit(store, zone, [each])

    def _decide(self, state: ZoneState, pendings: Sequence[Pending]) -> Batch:
        batch = Batch()
        now = self.time.now()
        for pending in pendings:
            if batch.size > COMMIT_BYTES:
                break
            batch.taken += 1
            reply = pending.refusal
            if pending.request is not None:
                reply = untimely(pending.request, now, self.health.clock_skew)
                reply = reply or self._answer(state, pending, pending.request, now, batch)
            if reply is not None:
                batch.answers.append((pending, reply))
        return batch

    def _answer(
        self, state: ZoneState, pending: Pending, request: Request, now: float, batch: Batch
    ) -> Reply:
        first = self._answered.first(request, batch.changing)
        pending.repeats = first is not None
        if first is not None and is_order(request):
            return first
        reply = as_first(_take_in(state, request, now, batch), first)
        if reply.ok and reply.changed:
            batch.changing[identity_of(request)] = request, reply
        return reply

    def _note(self, zone: str, batch: Batch) -> None:
        self._answered.keep(batch.changing)
        if zone in self.health.unreadable:
            self._records.tell(self._states[zone])
        self._fill.look(zone, self._states[zone].pools)
        told: list[Told] = []
        for pending, reply in batch.answers:
            if pending.repeats and reply.ok:
                continue
            if not reply.ok:
                self.health.refusals[reply.code] += pending.reply_to is not None
            elif reply.changed and pending.request is not None:
                self.health.commits[pending.request.op] += 1
            if pending.request is not None and (reply.changed or not reply.ok):
                told.append((pending.request, reply))
        journal.tell(zone, told, self._repeats)


def _take_in(state: ZoneState, request: Request, now: float, batch: Batch) -> Reply:
    """Decides on one request and applies it; a fault of ours is its answer and leaves the others alone."""
    undos: list[Undo] = []
    try:
        decision: Decision = decide(state, request, now)
        for change in decision.changes:
            undos.append(state.apply(change, decision.peer))
    except Exception:
        state.undo(undos)
        log.exception("zone %s: no decision on %s of %s", state.zone.name, request.op, request.key)
        return Reply.refused("internal", "the supervisor failed on this request: see its log")
    batch.changes.extend(decision.changes)
    batch.size += sum(len(each.text) for each in decision.changes)
    batch.undos.extend(undos)
    return decision.reply
