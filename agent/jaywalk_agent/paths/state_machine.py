# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way leads to each peer: straight, by a relay, or none yet.  Pure: told what is, says what to do.

A peer starts at its best endpoint.  Where WireGuard gets through, that is all.  Where it does not, each of
the peer's endpoints gets a slot in turn, and meanwhile a relay carries the traffic.  Only an answer inside
the tunnel proves a path, never a handshake's age, and a peer with a live path is never touched.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from jaywalk.mesh.endpoints import relay_for
from jaywalk.mesh.node_interface import Way

from .liveness import BUSY_PAUSE, IDLE_PAUSE, OPEN_PACE, OPEN_PAUSE, Pulse
from .path import BEAT, MUTE, SESSION, SLOT, STAGGER, Path, Seen, State, Target

BACKOFF = (2.0, 5.0, 15.0, *[60.0] * 6, 300.0)
"""Seconds from one round through all endpoints to the next.  Behind a router that lets stray packets in, only
the inner side may begin, once the router has forgotten the last stray (30 s): in half of the rounds that are
a minute apart it happens to."""
HURRY = 1.0
"""Seconds that a path gets to answer once the zone says that one of its ends is somewhere else, or its other
end answers by a relay only."""
RELAY_PAUSE = 10.0
"""Seconds between two questions to a relay that carries nothing for us."""
HOT, WARM, COLD = 0.2, 2.0, 30.0
"""Seconds between two looks: while endpoints are tried, while paths may break, while all are plain."""
LATE = 1.0
"""Seconds after which an answer is late."""
YOUNG = 60.0
"""Seconds after which a plain peer that never spoke is looked at no more often than others."""


@dataclass
class Orders:
    """What to do now: peers to remove and add at an endpoint, questions to ask, peers whose way changed.

    A question goes straight to its peer, or by the relay that stands beside it.
    """

    fires: list[tuple[str, str]] = field(default_factory=list)
    beats: list[tuple[str, str | None]] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)


class Paths:
    """The ways to all peers of one node, on the clock of its user (seconds, monotonic)."""

    def __init__(self, own_key: str, rng: random.Random | None = None) -> None:
        self._own = own_key
        self._rng = rng or random.Random()
        self.paths: dict[str, Path] = {}
        self.relays: dict[str, Pulse] = {}
        self._told: dict[str, Way] = {}

    def learn(self, targets: Iterable[Target], gone: Iterable[str], now: float) -> None:
        """Takes in what the zone says of some peers, and who left it."""
        for key in gone:
            self.paths.pop(key, None)
        for target in targets:
            path = self.paths.get(target.key)
            if path is None:
                self.paths[target.key] = Path(target, now, awake=self._own < target.key)
            elif path.target != target:
                self._retarget(path, target, now)

    def use_relays(self, keys: Collection[str]) -> None:
        """The relays to which this node has an interface."""
        self.relays = {key: self.relays.get(key) or Pulse() for key in keys}

    def resume(self, key: str, relay: str, now: float) -> None:
        """Goes on with a peer that a relay carried when the agent before this one ended."""
        path = self.paths.get(key)
        if path is not None and not path.target.plain:
            path.enter(State.RELAY, now)
            path.relay, path.carried, path.next_try = relay, True, now + SLOT

    def looked(self, seen: Mapping[str, Seen], now: float, epoch: float) -> None:
        """Takes in what ``wg`` shows; ``epoch`` is the same moment in seconds since 1970."""
        for key, path in self.paths.items():
            answers = path.look(seen.get(key, Seen()), now)
            fresh = epoch - path.seen.handshake < SESSION
            if not fresh or path.state in (State.PLAIN, State.DIRECT):
                continue
            path.awake = True
            if path.shaken and (answers or path.target.plain):
                path.direct(now)

    def answered(self, key: str, relay: str | None, now: float) -> bool:
        """An answer came: straight from a peer, from one by ``relay``, or from the relay on its interface.

        Returns whether that is news, on which :meth:`step` should act at once.
        """
        if relay is not None and key == relay:
            news = relay in self.relays and not self.relays[relay].alive(now)
            if relay in self.relays:
                self.relays[relay].answer(now)
            return news
        path = self.paths.get(key)
        if path is None or relay not in (None, path.relay):
            return False
        if relay is not None:
            news = not path.relay_pulse.alive(now)
            path.relay_pulse.answer(now)
            if news and path.state is State.DIRECT:
                # The agent is there and did not answer straight: either it does now, or the path is dead.
                path.hurry = now
                path.pulse.wake()
            return news
        news = path.carried or path.state not in (State.DIRECT, State.PLAIN)
        path.beats += 1
        path.pulse.answer(now)
        path.life.answer(now)
        path.proof.answer(now)
        path.direct(now)
        return news

    def refused(self, key: str, now: float) -> None:
        """A peer's kernel says that no agent listens: the path works."""
        path = self.paths.get(key)
        if path is not None:
            path.life.answer(now)
            path.proof.answer(now)

    def heard(self, key: str, now: float, size: int = BEAT) -> bool:
        """A question came straight from a peer, and is answered: it gets through to us, so we ask back.

        ``size`` are its bytes as WireGuard counts them.  Returns whether that is news.
        """
        path = self.paths.get(key)
        if path is None:
            return False
        path.beats += 2
        path.asked_by += size
        if path.state is State.PLAIN and path.silent(now) and now - path.proof.asked >= BUSY_PAUSE:
            path.proof.wake()
            return True
        if path.state in (State.DIRECT, State.PLAIN):
            return False
        path.called_until = now + SLOT
        return path.pulse.due(now, 0.0)

    def moved(self) -> None:
        """This node has another address: every path is asked anew."""
        for path in self.paths.values():
            path.pulse.wake()
            path.proof.wake()
        for pulse in self.relays.values():
            pulse.wake()

    def ways(self) -> dict[str, Way]:
        """How WireGuard is to treat each peer."""
        return {key: path.way() for key, path in self.paths.items()}

    def carried(self) -> dict[str, str]:
        """The relay of each peer that one carries."""
        return {key: path.relay for key, path in self.paths.items() if path.carried and path.relay}

    def outcome(self, key: str, now: float) -> tuple[str, str | None]:
        """``direct``, ``relayed`` and by whom, ``plain`` (WireGuard alone knows), or ``none``."""
        path = self.paths[key]
        if path.carried and path.relay_pulse.alive(now):
            return "relayed", path.relay
        if path.state is State.DIRECT and not path.carried:
            return "direct", None
        if path.state is State.PLAIN and path.silent(now):
            return "none", None
        return ("plain" if path.state in (State.PLAIN, State.START) else "none"), None

    def silence(self, key: str, now: float) -> float | None:
        """For how many seconds a peer was not reached by whatever way, 0 if it is; None while not known."""
        path = self.paths[key]
        outcome, _ = self.outcome(key, now)
        if outcome in ("direct", "relayed"):
            return 0.0
        if outcome == "none" and (path.tries or path.state is State.PLAIN):
            return max(path.life.silent(now), path.proof.silent(now), 1.0)
        reached = path.state is State.PLAIN and (path.proof.alive(now) or path.seen.handshake)
        return 0.0 if reached else None

    def needs_relays(self, now: float) -> bool:
        """Whether some pair is not direct, or cannot be counted on to be."""
        return any(path.target.hard or _wants_relay(path, now) for path in self.paths.values())

    def pause(self, now: float) -> float:
        """Seconds until the next look, if nothing happens before."""
        pause = COLD
        for path in self.paths.values():
            hot = path.state is State.PROBE or path.called_until > now
            if hot or (path.state is State.START and not path.target.lone) or path.hurry is not None:
                return HOT
            if path.state is State.RELAY and path.shaken:
                return HOT
            young = now - path.since < YOUNG and not path.seen.handshake
            if path.state is not State.PLAIN or young or LATE < path.proof.silent(now) <= MUTE + WARM:
                pause = WARM
        return pause

    def step(self, now: float) -> Orders:
        """Goes on with every peer and returns what there is to do."""
        orders = Orders()
        for key, path in self.paths.items():
            if path.state is State.START:
                self._start(path, now, orders)
            elif path.state is State.PROBE:
                self._probe(path, now, orders)
            elif path.state is State.DIRECT:
                self._direct(path, now, orders)
            elif path.state is State.RELAY:
                self._rest(path, now, orders)
            elif path.state is State.PLAIN:
                self._watch(path, now, orders)
            self._carry(key, path, now, orders)
        self._ask_relays(now, orders)
        ways = self.ways()
        orders.changed = {key for key, way in ways.items() if way != self._told.get(key)}
        self._told = ways
        return orders

    def _start(self, path: Path, now: float, orders: Orders) -> None:
        age = now - path.since
        if path.shaken:
            _ask(path, now, orders, 0.0)
            if age > MUTE:
                self._try(path, 0, now)
        elif age >= SLOT:
            path.awake = True
            if path.target.lone:
                path.enter(State.PLAIN, now)
            else:
                self._try(path, 1, now)
        elif age >= STAGGER:
            path.awake = True

    def _probe(self, path: Path, now: float, orders: Orders) -> None:
        age = now - path.since
        if path.shaken or path.called_until > now:
            _ask(path, now, orders, 0.0)
            if age > MUTE:
                self._try(path, path.index + 1, now)
        elif age >= SLOT:
            self._try(path, path.index + 1, now)
        elif not path.fired and (self._own < path.target.key or age >= STAGGER):
            orders.fires.append((path.target.key, path.target.candidates[path.index]))
            path.fired, path.seen, path.base = True, Seen(), Seen()

    def _try(self, path: Path, index: int, now: float) -> None:
        """Begins the slot of the endpoint ``index``, or rests after the last one."""
        if index < len(path.target.candidates):
            path.enter(State.PROBE, now)
            path.index = index
            return
        path.enter(State.RELAY, now)
        pause = BACKOFF[min(path.tries, len(BACKOFF) - 1)]
        path.next_try = now + pause * self._rng.uniform(0.75, 1.25)
        path.tries += 1

    def _direct(self, path: Path, now: float, orders: Orders) -> None:
        # Also where only WireGuard answered so far: what comes back to life in time is not given up.
        waits = any(0 < pulse.silent(now) <= MUTE for pulse in (path.pulse, path.life))
        asking = path.busy_until > now or waits
        # A thousand peers that were asked at once drift apart, so that their answers find room.
        idle = IDLE_PAUSE * self._rng.uniform(0.9, 1.0)
        _ask(path, now, orders, BUSY_PAUSE if asking else idle)
        dead = path.life.silent(now) > MUTE
        hurried = path.hurry is not None and now - path.hurry > HURRY and path.pulse.silent(now) > 0
        if dead or hurried:
            path.hurry = None
            self._try(path, 0, now)

    def _watch(self, path: Path, now: float, orders: Orders) -> None:
        """Asks a peer that needs no help, so that its silence is known; there is nothing to mend."""
        idle = max(OPEN_PAUSE, OPEN_PACE * len(self.paths)) * self._rng.uniform(0.9, 1.0)
        waits = 0 < path.proof.silent(now) <= MUTE
        if now - path.proof.asked >= (BUSY_PAUSE if waits else idle):
            path.ask(now)
            orders.beats.append((path.target.key, None))
            path.beats += 1

    def _rest(self, path: Path, now: float, orders: Orders) -> None:
        # A session of before may work again by now, and a round ends it.
        last = path.seen.handshake and path.next_try - now < HURRY
        if path.shaken or path.called_until > now or last:
            _ask(path, now, orders, 0.0)
            if path.life.silent(now) > MUTE:
                path.base = path.seen
        if now >= path.next_try and path.target.candidates:
            self._try(path, 0, now)

    def _carry(self, key: str, path: Path, now: float, orders: Orders) -> None:
        """Finds the relay that is to carry a peer, and asks the peer by it."""
        if not _wants_relay(path, now):
            path.carried = False
            return
        options = [each for each in self._live_relays(now) if each != key]
        stuck = path.relay_pulse.dead(now) and path.relay_pulse.due(now, IDLE_PAUSE)
        if path.relay not in options or stuck:
            others = [each for each in options if each != path.relay]
            chosen = relay_for(self._own, key, others or options)
            if chosen != path.relay:
                path.relay, path.relay_pulse = chosen, Pulse()
        path.carried = path.relay is not None and (
            path.state is not State.DIRECT or path.relay_pulse.alive(now) or path.life.dead(now)
        )
        if path.relay is not None and path.relay_pulse.due(now, IDLE_PAUSE):
            path.relay_pulse.ask(now)
            orders.beats.append((key, path.relay))

    def _live_relays(self, now: float) -> list[str]:
        """Those that answer; before any did, those that were not asked in vain."""
        alive = [key for key, pulse in self.relays.items() if pulse.alive(now)]
        return alive or [key for key, pulse in self.relays.items() if not pulse.dead(now)]

    def _ask_relays(self, now: float, orders: Orders) -> None:
        used = set(self.carried().values())
        for key, pulse in self.relays.items():
            if pulse.due(now, BUSY_PAUSE if key in used else RELAY_PAUSE):
                pulse.ask(now)
                orders.beats.append((key, key))

    def _retarget(self, path: Path, target: Target, now: float) -> None:
        """The zone says something new of a peer, or of where we are."""
        old, path.target = path.target, target
        if target.plain:
            if path.state is State.DIRECT:
                path.direct(now)
                path.enter(State.PLAIN, now)
        elif path.state is State.PLAIN:
            path.enter(State.START, now)
            path.base = Seen()
        elif (target.candidates, target.here) == (old.candidates, old.here):
            return
        elif path.state is State.RELAY and path.seen.handshake:
            path.tries, path.next_try = 0, min(path.next_try, now + HURRY)
        elif path.state is not State.DIRECT:
            path.tries = 0
            self._try(path, 0, now)
        elif not path.mute(now):
            path.hurry = now
            path.pulse.wake()


def _wants_relay(path: Path, now: float) -> bool:
    if path.state is State.START:
        return path.target.hard
    if path.state is State.DIRECT:
        return path.pulse.dead(now)
    return path.state is not State.PLAIN


def _ask(path: Path, now: float, orders: Orders, pause: float) -> None:
    if path.pulse.due(now, pause):
        path.ask(now)
        orders.beats.append((path.target.key, None))
        path.beats += 1
