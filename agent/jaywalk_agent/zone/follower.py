# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows a zone: joins, reads its events, takes a snapshot where they have a gap, and retries without end.

The agent's loop uses :meth:`Follower.updates` alone: it yields the zone again and again, whether the
controller answers or not.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from redis.backoff import FullJitterBackoff

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.login import NodeLogin
from jaywalk.controller.prover import Prover
from jaywalk.core.errors import (
    ControllerDenied,
    ControllerFull,
    ControllerUnreachable,
    InvalidValue,
    JaywalkError,
)
from jaywalk.trust.lock import Lock
from jaywalk.zone.events import Fork, Gap
from jaywalk.zone.models import Peer
from jaywalk.zone.requests import CHECK, REPORT_SECONDS, Reply, Request
from jaywalk.zone.view import ZoneView

from ..host.signals import StopSignal
from ..host.wall_clock import WallClock
from . import losses
from .membership import ENDPOINT_UPDATE, JOIN, Membership, OutstandingRequest
from .notices import Notices, name_conflicts, reassigned

log = logging.getLogger(__name__)

# Between two full checks of the interface while nothing happens.
TICK_SECONDS = 60.0
# From an event to the full check, and snapshot on disk, that follow a burst of events.
SETTLE_SECONDS = 2.0
# Ten thousand agents that lost their controller reconnect spread over this time.
RECONNECT = FullJitterBackoff(cap=30.0, base=0.5)
# All agents notice a gap at the same time, and snapshots are large.
RESYNC = FullJitterBackoff(cap=30.0, base=1.0)
# A Redis that has just started has no users until a supervisor is back: its refusals count only later.
RETURN_SECONDS = 60.0
# Failures in a row after which a backoff has reached its cap.
MAX_FAILURES = 10
# Longer waits are cut into pieces of this length, for the watchdog.
NAP_SECONDS = 5.0


class Update(NamedTuple):
    """The zone as it is now; ``changed`` are the keys that an event named, None for "check everything"."""

    view: ZoneView
    changed: frozenset[str] | None = None


class Requests(Protocol):
    """Builds this node's requests; :class:`.requests.NodeRequests` is the one of an agent."""

    def join(self) -> Request:
        """All that this node requests."""

    def endpoint_update(self) -> Request:
        """The endpoint that this node has now."""

    def report(self, observed: Mapping[str, str]) -> Request:
        """A sign of life, with the endpoints at which this node observes its peers, by public key."""

    def check(self) -> Request:
        """The question whether a supervisor replies, and whether it refuses this node."""


@dataclass
class Follower:
    """One agent's connection to its zone.

    ``observed`` returns the endpoints for the periodic report, by public key. ``alive`` is called at least
    every :data:`NAP_SECONDS`, for the watchdog. Under a ``lock`` it takes only records that are signed.
    ``check`` raises what this machine refuses of a zone, before the zone gets the first request of a node
    that cannot read it yet. ``prover`` proves the requests. ``address`` returns the controller's address with
    the zone's user and password, and ``place`` the same without them.
    """

    address: Callable[[], ControllerAddress]
    requests: Requests
    membership: Membership
    stop: StopSignal
    view: ZoneView | None = None
    alive: Callable[[], None] = lambda: None
    observed: Callable[[], Mapping[str, str]] = dict
    lock: Lock | None = None
    check: Callable[[ZoneView], object] = lambda view: None
    prover: Prover | None = None
    place: Callable[[], ControllerAddress] | None = None
    _enrolled: bool = False
    _notices: Notices = field(default_factory=Notices)
    _failures: int = 0
    _unreachable_at: float = -RETURN_SECONDS
    _resyncs: int = 0
    _next_tick: float = field(default_factory=time.monotonic)
    _next_report: float = 0.0
    _reported: bool = False
    _clock: WallClock = field(default_factory=WallClock)

    def updates(self) -> Iterator[Update]:
        """Yields the zone at once if the disk has it, then at each change and each minute, without end.

        Raises the controller's or the zone's refusal only while this node was never in the zone.
        """
        self.membership.start(self._own_record())
        for update in self._follow():
            self.membership.check_signed(update.view)
            yield update

    def _follow(self) -> Iterator[Update]:
        while True:
            try:
                yield from self._tick()
                for update in self._session():
                    self._failures = 0
                    yield update
            except (ControllerUnreachable, ControllerDenied, InvalidValue) as error:
                self._connection_failed(error)
                yield from self._pause(RECONNECT.compute(self._failures))

    def _session(self) -> Iterator[Update]:
        """Follows the zone on one connection; ends by an error, or once the node has a user of its own."""
        with self._connected() as client:
            if client.enrols:
                yield from self._enrol(client)
                return
            self._enrolled = False
            yield from self._catch_up(client)
            while True:
                self.alive()
                yield from self._check_in(client)
                self._send_due(client)
                yield from self._read(client)
                yield from self._tick()

    @contextmanager
    def _connected(self) -> Iterator[ZoneClient]:
        zone = self.membership.zone
        login = NodeLogin(zone, self.place or self._place, self.address, self.prover, self.lock)
        with self.stop.waiting():
            client = login.open(f"jaywalk-{zone}", self.alive)
        self._next_report, self._reported = 0.0, False
        try:
            yield client
        finally:
            client.client.close()

    def _place(self) -> ControllerAddress:
        return replace(self.address(), user="", password="")

    def _enrol(self, client: ZoneClient) -> Iterator[Update]:
        """Joins with the zone's password, which only enrols; ends once the node has a user of its own.

        A node that was removed asks each minute whether it is blocked.
        """
        if self._enrolled:  # and the user that the supervisors made was refused
            self._connection_failed(
                ControllerDenied(
                    f"the controller {client.where} does not admit this node after its join",
                    "the supervisor's log says why it made no user of it",
                )
            )
            yield from self._pause(RECONNECT.compute(self._failures))
        if self.view is None:
            self.check(client.head())
        self.membership.enrol(time.monotonic())
        while True:
            self.alive()
            self._send_due(client)
            outstanding = self.membership.outstanding
            assert outstanding is not None
            wait = max(0.0, min(self._next_tick, outstanding.next_send) - time.monotonic())
            if not outstanding.nonce:
                yield from self._pause(min(wait, NAP_SECONDS))
                continue
            with self.stop.waiting():
                reply = client.wait_for_reply(outstanding.nonce, wait)
            if reply is not None and reply.ok and outstanding.op == JOIN:
                self._handle_grant(reply)
                return
            if reply is not None:
                self._handle_reply(reply)
                self.membership.enrol(time.monotonic())
                if self.view is not None:
                    yield Update(self.view)
            yield from self._tick()

    def _handle_grant(self, reply: Reply) -> None:
        """Takes over the reply to the join of a node that has no user of its own yet."""
        self._enrolled = True
        self._warn_of_notes(reply)
        self.membership.granted()

    def _connection_failed(self, error: JaywalkError) -> None:
        """Counts a failure; raises a refusal while no copy of the zone was ever there."""
        if isinstance(error, ControllerUnreachable):
            self._unreachable_at = time.monotonic()
        elif self.view is None and time.monotonic() - self._unreachable_at >= RETURN_SECONDS:
            raise error
        self.membership.connection_error = str(error)
        self._failures = min(self._failures + 1, MAX_FAILURES)

    def _catch_up(self, client: ZoneClient) -> Iterator[Update]:
        """Takes a snapshot, unless the log continues from where this node is."""
        self.alive()
        with self.stop.waiting():
            complete = self.view is not None and not self.view.incomplete
            continues = complete and self.view is not None and client.log_continues_from(self.view)
        if not continues:
            yield from self._resync(client)
        elif self._own_record() != self.membership.own:
            # The connection failed between two pages of events.
            self.membership.update(self._own_record(), removal=True)
        self.membership.connected()
        self._check_endpoint()

    def _resync(self, client: ZoneClient) -> Iterator[Update]:
        before = self.view
        if before is None:
            with self.stop.waiting():
                self.view = client.snapshot()
            self.membership.update(self._own_record(), removal=False)
        else:
            self._resyncs = min(self._resyncs + 1, MAX_FAILURES)
            yield from self._pause(RESYNC.compute(self._resyncs))
            self._merge_snapshot(client, before)
        assert self.view is not None
        yield Update(self.view)

    def _merge_snapshot(self, client: ZoneClient, before: ZoneView) -> None:
        """Replaces ``before`` by a snapshot, and keeps those peers in force that Redis lost."""
        key = self.membership.public_key
        with self.stop.waiting():
            losses.follow_clock(before, self._clock)
            self.view, merged = client.resync(before, key)
        losses.log_losses(self.view, before, merged)
        self._notices.warn(reassigned(self.view, self.view.retained))
        self.membership.update(self._own_record(), removal=merged.own_removed)
        lost = merged.lost_since(before) and self._own_record() != before.peers.get(key)
        if lost and self.membership.member:
            # Redis lost the last thing that it granted: the zone has an older record of this node, which
            # therefore requests everything again, whatever else its outstanding request is.
            self.membership.start_request(JOIN)

    def _read(self, client: ZoneClient) -> Iterator[Update]:
        """One read: events, a reply, both, or a gap, after which a snapshot follows."""
        view = self.view
        assert view is not None
        rev = view.rev
        try:
            changed, reply = self._receive(client, view)
        except Gap as gap:
            yield from self._recover(client, gap)
            return
        if reply is not None:
            self._handle_reply(reply)
        if view.rev != rev:
            self._resyncs = 0
            self._next_tick = min(self._next_tick, time.monotonic() + SETTLE_SECONDS)
        if self.membership.public_key in changed:
            self.membership.update(self._own_record(), removal=True)
        self._notices.warn(name_conflicts(view, self.membership.public_key, changed))
        self._notices.warn(reassigned(view, changed))
        if changed or reply is not None:
            yield Update(view, frozenset(changed))
        if changed:
            yield from self._pause(view.wait_ms / 1000)

    def _receive(self, client: ZoneClient, view: ZoneView) -> tuple[set[str], Reply | None]:
        until, nonce, outstanding = min(self._next_tick, self._next_report), "", self.membership.outstanding
        if outstanding is not None:
            until, nonce = min(until, outstanding.next_send), outstanding.nonce
        with self.stop.waiting():
            return client.read(view, nonce, block=max(0.0, until - time.monotonic()))

    def _handle_reply(self, reply: Reply) -> None:
        self._warn_of_notes(reply)
        self.membership.handle_reply(reply, self._own_record(), time.monotonic())

    def _warn_of_notes(self, reply: Reply) -> None:
        outstanding = self.membership.outstanding
        assert outstanding is not None and outstanding.request is not None
        self._notices.warn(note for note in reply.notes if note not in outstanding.request.notes)

    def _check_in(self, client: ZoneClient) -> Iterator[Update]:
        """Reports, and checks that the log is still the one that this node follows.

        At once on a new connection and in the zone, and then about once a minute.
        """
        now, member = time.monotonic(), self.membership.member
        if now < self._next_report and (self._reported or not member):
            return
        view = self.view
        assert view is not None
        # Agents that came back together drift apart.
        self._next_report = now + REPORT_SECONDS * random.uniform(0.75, 1.25)
        self._reported = member
        report = self.requests.report(self.observed()) if member else None
        try:
            self._submit(lambda: client.check_in(view, report))
        except Gap as gap:
            yield from self._recover(client, gap)
        self._learn_supervisor_keys()

    def _learn_supervisor_keys(self) -> None:
        """Repeats the join if the supervisors have a new key, since the proven answer names it."""
        behind = self.prover is not None and self.prover.trusted.behind
        if behind and self.membership.member and not self.membership.waiting:
            self.membership.start_request(JOIN)

    def _recover(self, client: ZoneClient, gap: Gap) -> Iterator[Update]:
        """Takes a snapshot, since the log does not continue from where this node is."""
        log.log(logging.WARNING if isinstance(gap, Fork) else logging.INFO, "%s; taking a snapshot", gap)
        yield from self._resync(client)

    def _send_due(self, client: ZoneClient) -> None:
        """Sends the outstanding request if it is due; builds it the first time."""
        now, outstanding = time.monotonic(), self.membership.outstanding
        if outstanding is None or not outstanding.due(now):
            return
        if outstanding.request is None:
            outstanding.request = self._build(outstanding.op)
        request = outstanding.request
        self._submit(lambda: client.submit(request))
        self.membership.sent(now)

    def _build(self, op: str) -> Request:
        if op == CHECK:
            return self.requests.check()
        return self.requests.join() if op == JOIN else self.requests.endpoint_update()

    def _submit(self, send: Callable[[], None]) -> None:
        """Calls ``send``; a request for which the controller has no memory is repeated later."""
        try:
            with self.stop.waiting():
                send()
        except ControllerFull as error:
            if not self.membership.memory_error:
                log.warning("%s; this node's requests wait", error)
            self.membership.memory_error = str(error)
        else:
            self.membership.memory_error = ""

    def _check_endpoint(self) -> None:
        """Requests a new endpoint once this node's endpoint differs from the one that it reported."""
        if self.membership.waiting or not self.membership.member:
            return
        request = self.requests.endpoint_update()
        if self.membership.endpoint_changed(request):
            self.membership.outstanding = OutstandingRequest(ENDPOINT_UPDATE, request)

    def _tick(self) -> Iterator[Update]:
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK_SECONDS
            self._check_endpoint()
            if self.view is not None:
                losses.end_retention(self.view, self._clock)
                losses.end_unsigned(self.view, self.membership.public_key)
                yield Update(self.view)

    def _pause(self, seconds: float) -> Iterator[Update]:
        """Waits; ticks and the watchdog continue meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.alive()
            self.stop.sleep(min(left, NAP_SECONDS))
            yield from self._tick()

    def _own_record(self) -> Peer | None:
        return self.view.peers.get(self.membership.public_key) if self.view is not None else None
