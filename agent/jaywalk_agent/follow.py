# SPDX-License-Identifier: GPL-3.0-or-later
"""Following a zone: join, read its events, take a snapshot where they have a gap, and never give up.

:meth:`Follower.updates` is all that the agent's loop sees: the zone as it is now, again and again, whether
the controller answers or not.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from redis.backoff import DecorrelatedJitterBackoff

from jaywalk.controller import FIRST_REPEAT, ControllerAddress, ZoneClient, connect
from jaywalk.errors import ControllerDenied, ControllerUnreachable, InvalidValue, RequestRefused
from jaywalk.models import Reply, Request
from jaywalk.zonelog import Gap, ZoneView

from .stop import StopSignal

log = logging.getLogger(__name__)

TICK = 60.0
"""Seconds between two looks at the interface when nothing happens."""
LONGEST_REPEAT = 60.0
"""Seconds between two tries of a request that nobody answers, at most."""
RECONNECT_CAP = 30.0
"""Seconds; ten thousand agents that lost their controller come back spread over this."""
RESYNC_JITTER = 2.0
"""Seconds; a gap is seen by all agents at once, and snapshots are large."""


@dataclass(frozen=True)
class Update:
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

    ``trouble`` is the sentence about the last failure, empty while all is well; ``removed`` is set when the
    zone dropped this node on purpose, which only a restart undoes.
    """

    address: Callable[[], ControllerAddress]
    zone: str
    own_key: str
    asker: Asker
    stop: StopSignal
    view: ZoneView | None = None
    alive: Callable[[], None] = lambda: None
    trouble: str = "not yet connected"
    removed: bool = False
    _pending: Pending | None = None
    _endpoint: str = ""
    _next_tick: float = field(default_factory=time.monotonic)

    def updates(self) -> Iterator[Update]:
        """Yields the zone at once if it is known from disk, then at each change and each minute, for ever.

        Raises the controller's or the zone's refusal only while this node was never in the zone.
        """
        backoff, failures = DecorrelatedJitterBackoff(cap=RECONNECT_CAP, base=0.5), 0
        self._pending = Pending(self.asker.join())
        while True:
            try:
                yield from self._tick()
                for update in self._session():
                    failures = 0
                    yield update
            except (ControllerUnreachable, ControllerDenied, InvalidValue) as error:
                if self.view is None and not isinstance(error, ControllerUnreachable):
                    raise
                self._say(str(error))
                failures += 1
                yield from self._pause(backoff.compute(failures))

    def _session(self) -> Iterator[Update]:
        """One connection's life: ends only by an error."""
        with self.stop.waiting():
            address = self.address()
            client = ZoneClient(connect(address, name=f"jaywalk-{self.zone}"), address, self.zone)
        try:
            yield from self._catch_up(client)
            while True:
                self.alive()
                self._send(client)
                yield from self._listen(client)
                yield from self._tick()
        finally:
            client.client.close()

    def _catch_up(self, client: ZoneClient) -> Iterator[Update]:
        """A snapshot, unless the log can go on from where this node stands."""
        if self.view is None or not client.goes_on_from(self.view):
            yield self._resync(client)
        if self._pending is None:
            self._say("")
        else:
            self._pending.next_send = 0.0

    def _listen(self, client: ZoneClient) -> Iterator[Update]:
        """One read: events, an answer, both, or a gap that asks for a snapshot."""
        try:
            changed, reply = self._read(client)
        except Gap as gap:
            log.info("%s; taking a snapshot", gap)
            self.stop.sleep(random.uniform(0, RESYNC_JITTER))
            yield self._resync(client)
            return
        if reply is not None:
            self._answered(reply)
        if self.view is not None and (changed or reply is not None):
            self._notice_removal(changed)
            yield Update(self.view, frozenset(changed))
        if changed and self.view is not None:
            self.stop.sleep(self.view.wait_ms / 1000)

    def _resync(self, client: ZoneClient) -> Update:
        self.view = client.snapshot()
        if not self.joined and self._pending is None and not self.removed:
            log.warning("the zone %s does not know this node any more: joining again", self.zone)
            self._pending = Pending(self.asker.join())
        return Update(self.view)

    def _read(self, client: ZoneClient) -> tuple[set[str], Reply | None]:
        assert self.view is not None
        now = time.monotonic()
        until = self._next_tick if self._pending is None else min(self._next_tick, self._pending.next_send)
        nonce = self._pending.request.nonce if self._pending else ""
        with self.stop.waiting():
            return client.read(self.view, nonce, block=max(0.0, until - now))

    def _send(self, client: ZoneClient) -> None:
        """Sends what is due: the join, or a new endpoint once this node's address changed."""
        now = time.monotonic()
        if self._pending is None and self.joined:
            moved = self.asker.moved()
            if moved.endpoint != self._endpoint:
                self._pending = Pending(moved)
        if self._pending is None or not self._pending.due(now):
            return
        client.submit(self._pending.request)
        self._pending.sent(now)
        if self._pending.tries == 2:
            self._say(f"no supervisor of zone {self.zone} has answered yet; the request waits")

    @property
    def joined(self) -> bool:
        """Whether this node is in the zone, as far as it knows."""
        return self.view is not None and self.own_key in self.view.peers

    def _answered(self, reply: Reply) -> None:
        assert self._pending is not None and self.view is not None
        request, self._pending = self._pending.request, None
        if reply.ok:
            self._endpoint = request.endpoint
            self._say("")
            return
        if not self.joined:
            raise RequestRefused(reply.code, reply.error)
        # The lease that this node has stays in force; the wish is repeated in case somebody mends it.
        self._say(f"the zone refused a request: {reply.error}")
        self._pending = Pending(self.asker.join(), next_send=time.monotonic() + LONGEST_REPEAT)

    def _notice_removal(self, changed: set[str]) -> None:
        assert self.view is not None
        if self.own_key in changed:
            self.removed = self.own_key not in self.view.peers
            if self.removed:
                self._pending = None
                self._say(f"this node was removed from zone {self.zone}; restart the agent to join again")

    def _tick(self) -> Iterator[Update]:
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK
            if self.view is not None:
                yield Update(self.view)

    def _pause(self, seconds: float) -> Iterator[Update]:
        """Waits without the controller; the interface is still looked after."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.alive()
            self.stop.sleep(min(left, 5.0))
            yield from self._tick()

    def _say(self, trouble: str) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble:
            log.warning("%s", trouble)
        else:
            log.info("joined zone %s", self.zone)
