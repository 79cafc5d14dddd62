# SPDX-License-Identifier: GPL-3.0-or-later
"""Following a zone: join, read its events, take a snapshot where they have a gap, and never give up.

:meth:`Follower.updates` is all that the agent's loop sees: the zone as it is now, again and again, whether
the controller answers or not.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from redis.backoff import FullJitterBackoff

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import FIRST_REPEAT, ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.core.errors import (
    ControllerDenied,
    ControllerFull,
    ControllerUnreachable,
    InvalidValue,
    RequestRefused,
)
from jaywalk.zone.events import Fork, Gap
from jaywalk.zone.requests import REPORT, REPORT_SECONDS, Reply, Request
from jaywalk.zone.view import ZoneView

from ..host.signals import StopSignal
from ..host.wall_clock import WallClock
from . import losses
from .notices import Notices, namesakes, supplanted

log = logging.getLogger(__name__)

TICK = 60.0
"""Seconds between two full looks at the interface when nothing happens."""
LOOK_AFTER = 2.0
"""Seconds from an event to the full look that checks and keeps what a burst of events came to."""
LONGEST_REPEAT = 60.0
"""Seconds between two tries of a request that nobody answers, at most."""
RECONNECT = FullJitterBackoff(cap=30.0, base=0.5)
"""Ten thousand agents that lost their controller come back spread over this."""
RESYNC = FullJitterBackoff(cap=30.0, base=1.0)
"""A gap is seen by all agents at once, and snapshots are large."""
RETURN_SECONDS = 60.0
"""A Redis that has just started knows no agent until a supervisor is back: its refusals count later."""
SLOWEST = 10
"""Failures in a row after which a backoff has reached its cap."""
NAP = 5.0
"""Seconds; longer waits are cut into naps, so that the watchdog hears of us."""


class Update(NamedTuple):
    """The zone as it is now; ``changed`` are the keys that an event named, None for "look at all"."""

    view: ZoneView
    changed: frozenset[str] | None = None


@dataclass
class Pending:
    """A request on its way: sent again, ever more slowly, until somebody answers."""

    request: Request
    next_send: float = 0.0
    pause: float = FIRST_REPEAT
    tries: int = 0

    def due(self, now: float) -> bool:
        return now >= self.next_send

    def sent(self, now: float) -> None:
        self.tries += 1
        self.next_send = now + self.pause
        self.pause = min(self.pause * 2, LONGEST_REPEAT)


class Asker(Protocol):
    """Makes this node's requests, with the endpoint that it has at that moment."""

    def join(self) -> Request:
        """All that this node wishes for."""

    def moved(self) -> Request:
        """Only where it is now."""


@dataclass
class Follower:
    """One agent's line to its zone.

    ``removed`` is set when the zone dropped this node on purpose, and ``superseded`` when its key joined from
    a machine with another mark than ``instance``; only a restart undoes either.
    """

    address: Callable[[], ControllerAddress]
    zone: str
    own_key: str
    asker: Asker
    stop: StopSignal
    view: ZoneView | None = None
    alive: Callable[[], None] = lambda: None
    instance: str = ""
    observed: Callable[[], Mapping[str, str]] = dict
    removed: bool = False
    superseded: bool = False
    _trouble: str = ""
    _full: str = ""
    _member: bool = False
    _pending: Pending | None = None
    _starting: bool = True
    _place: tuple[str, ...] = ()
    _former: tuple[str, ...] = ()
    _former_name: str = ""
    _notices: Notices = field(default_factory=Notices)
    _resyncs: int = 0
    _next_tick: float = field(default_factory=time.monotonic)
    _next_report: float = 0.0
    _told: bool = False
    _clock: WallClock = field(default_factory=WallClock)

    @property
    def joined(self) -> bool:
        """Whether this node is in the zone, as far as it knows."""
        return self.view is not None and self.own_key in self.view.peers and not self.superseded

    @property
    def waiting(self) -> bool:
        """Whether the zone has not answered this node's last request yet."""
        return self._pending is not None

    @property
    def trouble(self) -> str:
        """What keeps this node from following its zone, in a sentence; empty while all is well."""
        if self.superseded and not self._trouble:
            return (
                f"superseded: the key of this node joined zone {self.zone} from another machine"
                f"{self._successor()}; give this node a key of its own, or restart the agent to take the "
                "place back"
            )
        if self.removed and not self._trouble:
            return f"this node was removed from zone {self.zone}; restart the agent to join again"
        return self._full or self._trouble

    def updates(self) -> Iterator[Update]:
        """Yields the zone at once if it is known from disk, then at each change and each minute, for ever.

        Raises the controller's or the zone's refusal only while this node was never in the zone.
        """
        failures, away = 0, -RETURN_SECONDS
        self._member = self.joined
        self._remember()
        self._pending = Pending(self._wishes())
        while True:
            try:
                yield from self._tick()
                for update in self._session():
                    failures = 0
                    yield update
            except (ControllerUnreachable, ControllerDenied, InvalidValue) as error:
                if isinstance(error, ControllerUnreachable):
                    away = time.monotonic()
                elif self.view is None and time.monotonic() - away >= RETURN_SECONDS:
                    raise
                self._trouble = str(error)
                failures = min(failures + 1, SLOWEST)
                yield from self._pause(RECONNECT.compute(failures))

    def _session(self) -> Iterator[Update]:
        """One connection's life: ends only by an error."""
        with self.stop.waiting():
            address = self.address()
            connection = connect(address, f"jaywalk-{self.zone}", self.alive)
            client = ZoneClient(connection, address, self.zone, self.alive)
        self._next_report, self._told = 0.0, False
        try:
            yield from self._catch_up(client)
            while True:
                self.alive()
                yield from self._check_in(client)
                self._send(client)
                yield from self._listen(client)
                yield from self._tick()
        finally:
            client.client.close()

    def _catch_up(self, client: ZoneClient) -> Iterator[Update]:
        """A snapshot, unless the log goes on where this node stands; then the wishes that are still open."""
        self.alive()
        with self.stop.waiting():
            goes_on = self.view is not None and client.goes_on_from(self.view)
        if not goes_on:
            yield from self._resync(client)
        if self._pending is None:
            self._trouble = ""
            self._notice_move()
        else:
            # Made anew: this node may have another address by now.
            joining = self._pending.request.op == "join"
            self._pending = Pending(self._wishes() if joining else self.asker.moved())

    def _resync(self, client: ZoneClient) -> Iterator[Update]:
        before = self.view
        if before is None:
            with self.stop.waiting():
                self.view = client.snapshot()
            self._notice(dropped=False)
        else:
            self._resyncs = min(self._resyncs + 1, SLOWEST)
            yield from self._pause(RESYNC.compute(self._resyncs))
            with self.stop.waiting():
                losses.follow_clock(before, self._clock)
                self.view, merged = client.resync(before, self.own_key)
            losses.tell(self.view, before, merged)
            self._notices.say(supplanted(self.view, self.view.retained))
            self._notice(merged.own_removed)
            own = self.view.peers.get(self.own_key)
            if merged.lost_since(before) and own != before.peers.get(self.own_key) and self.joined:
                # Redis lost the last thing that it granted: the node is in the zone as it once was, and asks
                # for all of it again, whatever else it was asking for.
                self._pending = Pending(self._wishes())
        yield Update(self.view)

    def _listen(self, client: ZoneClient) -> Iterator[Update]:
        """One read: events, an answer, both, or a gap that asks for a snapshot."""
        assert self.view is not None
        standing = self.view.rev
        try:
            changed, reply = self._read(client, self.view)
            advanced = self.view.rev != standing
        except Gap as gap:
            yield from self._leap(client, gap)
            return
        if reply is not None:
            self._answered(reply)
        if advanced:
            self._resyncs = 0
            self._next_tick = min(self._next_tick, time.monotonic() + LOOK_AFTER)
        if self.own_key in changed:
            self._notice(dropped=True)
        self._notices.say(namesakes(self.view, self.own_key, changed))
        self._notices.say(supplanted(self.view, changed))
        if changed or reply is not None:
            yield Update(self.view, frozenset(changed))
        if changed:
            yield from self._pause(self.view.wait_ms / 1000)

    def _read(self, client: ZoneClient, view: ZoneView) -> tuple[set[str], Reply | None]:
        until, nonce = min(self._next_tick, self._next_report), ""
        if self._pending is not None:
            until, nonce = min(until, self._pending.next_send), self._pending.request.nonce
        with self.stop.waiting():
            return client.read(view, nonce, block=max(0.0, until - time.monotonic()))

    def _check_in(self, client: ZoneClient) -> Iterator[Update]:
        """Says that this node is there, and looks whether the log is still the one that it follows.

        At once on a new connection and in the zone, and then about once a minute.
        """
        now = time.monotonic()
        if now < self._next_report and (self._told or not self.joined):
            return
        assert self.view is not None
        # Agents that came back together drift apart.
        self._next_report = now + REPORT_SECONDS * random.uniform(0.75, 1.25)
        self._told = self.joined
        view, report = self.view, self.report(self.observed()) if self.joined else None
        try:
            self._submit(lambda: client.check_in(view, report))
        except Gap as gap:
            yield from self._leap(client, gap)

    def _leap(self, client: ZoneClient, gap: Gap) -> Iterator[Update]:
        """A snapshot, since the log does not go on where this node stands."""
        log.log(logging.WARNING if isinstance(gap, Fork) else logging.INFO, "%s; taking a snapshot", gap)
        yield from self._resync(client)

    def _submit(self, send: Callable[[], None]) -> None:
        """Has ``send`` send a request; one that the controller has no memory for is repeated in time."""
        try:
            with self.stop.waiting():
                send()
        except ControllerFull as error:
            if not self._full:
                log.warning("%s; this node's requests wait", error)
            self._full = str(error)
        else:
            self._full = ""

    def report(self, observed: Mapping[str, str]) -> Request:
        """The word that this node is there, with the endpoints at which it sees peers, by key."""
        own = self.own_key
        return Request.checked(REPORT, self.zone, own, instance=self.instance, observed=observed)

    def _send(self, client: ZoneClient) -> None:
        """Sends the request that is due."""
        now = time.monotonic()
        if self._pending is None or not self._pending.due(now):
            return
        request = self._pending.request
        self._submit(lambda: client.submit(request))
        self._pending.sent(now)
        if self._pending.tries > 1:
            self._trouble = f"no supervisor of zone {self.zone} has answered yet; the request waits"

    def _answered(self, reply: Reply) -> None:
        assert self._pending is not None
        request, self._pending = self._pending.request, None
        self._starting = False
        self._notices.say(note for note in reply.notes if note not in request.notes)
        if reply.ok:
            self._place = (request.endpoint, *request.local)
            self._trouble = ""
            self._stand_down_if_superseded()
            return
        if reply.code == "superseded":
            self._stand_down()
            return
        if not self._member:
            raise RequestRefused(reply.code, reply.error)
        # The lease that this node has stays in force; the wish is repeated in case somebody mends it.
        self._trouble = f"the zone refused a request: {reply.error}"
        self._pending = Pending(self._wishes(), next_send=time.monotonic() + LONGEST_REPEAT)

    def _notice(self, dropped: bool) -> None:
        """Takes note of whether this node is in the zone; ``dropped`` tells a removal from a loss.

        A removal from before the node asked to join ends with that join, and from before its start, too.
        """
        self._stand_down_if_superseded()
        if self.superseded:
            return
        joining = self._pending if self._pending and self._pending.request.op == "join" else None
        awaited = joining is not None and (joining.tries > 0 or self._starting)
        if self.joined:
            self._member, self.removed = True, False
            self._remember()
        elif self._member and not self.removed and not awaited:
            log.warning("zone %s %s this node", self.zone, "removed" if dropped else "lost")
            self.removed = dropped
            self._pending = None if dropped else Pending(self._wishes())

    def _remember(self) -> None:
        own = self.view.peers.get(self.own_key) if self.view else None
        self._former = own.addresses if own else ()
        self._former_name = own.name if own and own.asked else ""

    def _wishes(self) -> Request:
        """All that this node wishes for, and softly what it had, should Redis not know it any more."""
        return replace(self.asker.join(), former_ip=self._former, former_name=self._former_name)

    def _stand_down_if_superseded(self) -> None:
        """The newest join of a key wins: once ours is answered, another machine's mark came after it."""
        own = self.view.peers.get(self.own_key) if self.view else None
        asking = self._pending is not None and self._pending.request.op == "join"
        if own is not None and own.instance not in ("", self.instance) and self.instance and not asking:
            self._stand_down()

    def _stand_down(self) -> None:
        if not self.superseded:
            log.warning(
                "zone %s: this node's key joined from another machine%s; standing down",
                self.zone,
                self._successor(),
            )
        self.superseded, self._pending, self._trouble = True, None, ""

    def _successor(self) -> str:
        """Who has this node's key now, as the zone has it: the name, and where it is."""
        own = self.view.peers.get(self.own_key) if self.view else None
        if own is None or own.instance in ("", self.instance):
            return ""
        return f", {own.name}" + (f" at {own.endpoint}" if own.endpoint else "")

    def _notice_move(self) -> None:
        """Asks for a new endpoint once this node's address is another one than it told the zone."""
        if self._pending is None and self.joined:
            moved = self.asker.moved()
            if moved.endpoint and (moved.endpoint, *moved.local) != self._place:
                self._pending = Pending(moved)

    def _tick(self) -> Iterator[Update]:
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK
            self._notice_move()
            if self.view is not None:
                losses.end_retention(self.view, self._clock)
                yield Update(self.view)

    def _pause(self, seconds: float) -> Iterator[Update]:
        """Waits, while the interface is still looked after."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.alive()
            self.stop.sleep(min(left, NAP))
            yield from self._tick()
