# SPDX-License-Identifier: GPL-3.0-or-later
"""The path to each peer: direct, by a relay, or none yet.  Pure: events go in, actions come out.

A peer starts at its best candidate endpoint.  If WireGuard reaches it there, nothing else happens.  If not,
each candidate gets one attempt in turn (connectivity checks, after RFC 8445), and meanwhile a relay carries
the traffic.  Only a reply inside the tunnel proves a path, never the age of a handshake, and a peer with a
live path is never touched.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from jaywalk.mesh.endpoints import relay_for
from jaywalk.mesh.node_interface import PeerEndpoint
from jaywalk.wireguard.interface import has_session

from .liveness import (
    ACTIVE_PROBE_SECONDS,
    IDLE_PROBE_SECONDS,
    PLAIN_PROBE_SECONDS,
    PLAIN_PROBE_SPACING_SECONDS,
    Liveness,
)
from .path import (
    ATTEMPT_SECONDS,
    PROBE_WIRE_BYTES,
    RESPONDER_DELAY_SECONDS,
    WIREGUARD_REPLY_SECONDS,
    PeerPath,
    PeerStats,
    State,
    Target,
)

# The time from one round through all candidates to the next. Behind a router that lets stray packets in,
# only the inner side may begin, once the router has forgotten the last stray packet (30 s): half of the
# rounds that are a minute apart meet this.
ROUND_BACKOFF_SECONDS = (2.0, 5.0, 15.0, *[60.0] * 6, 300.0)
# A path gets this time to answer after one of its ends moved, or while its peer answers by a relay only.
VERIFY_SECONDS = 1.0
# The interval of probes to a relay that carries nothing for this node.
RELAY_PROBE_SECONDS = 10.0
# Intervals of observations: while candidates are tried, while paths may break, while all paths are plain.
POLL_FAST_SECONDS, POLL_NORMAL_SECONDS, POLL_SLOW_SECONDS = 0.2, 2.0, 30.0
# A reply is late after this time.
LATE_REPLY_SECONDS = 1.0
# A plain peer without any handshake is observed more often for this time.
NEW_PEER_SECONDS = 60.0


@dataclass
class PathActions:
    """What to do now: peers to reset to an endpoint, probes to send, and peers whose endpoint changed.

    A probe is (peer, relay); without a relay it goes directly to the peer.
    """

    reset_endpoints: list[tuple[str, str]] = field(default_factory=list)
    probes: list[tuple[str, str | None]] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)


class PathStateMachine:
    """The paths to all peers of one node, on the caller's monotonic clock (seconds)."""

    def __init__(self, own_key: str, rng: random.Random | None = None) -> None:
        self._own = own_key
        self._rng = rng or random.Random()
        self.paths: dict[str, PeerPath] = {}
        self.relays: dict[str, Liveness] = {}
        self._reported: dict[str, PeerEndpoint] = {}

    def update_targets(self, targets: Iterable[Target], gone: Iterable[str], now: float) -> None:
        """Adds or updates peers of the zone, and removes the peers ``gone``."""
        for key in gone:
            self.paths.pop(key, None)
        for target in targets:
            path = self.paths.get(target.key)
            if path is None:
                self.paths[target.key] = PeerPath(target, now, keepalive_enabled=self._own < target.key)
            elif path.target != target:
                self._retarget(path, target, now)

    def use_relays(self, keys: Collection[str]) -> None:
        """Sets the relays to which this node has an interface."""
        self.relays = {key: self.relays.get(key) or Liveness() for key in keys}

    def restore(self, key: str, relay: str, now: float) -> None:
        """Restores a peer that a relay carried when the previous agent ended."""
        path = self.paths.get(key)
        if path is not None and not path.target.plain:
            path.enter(State.RELAY, now)
            path.relay, path.carried, path.next_try = relay, True, now + ATTEMPT_SECONDS

    def on_stats(self, stats: Mapping[str, PeerStats], now: float, epoch: float) -> None:
        """Handles the counters of ``wg show``; ``epoch`` is ``now`` in seconds since 1970."""
        for key, path in self.paths.items():
            answers = path.update_stats(stats.get(key, PeerStats()), now)
            fresh = has_session(path.stats.handshake, epoch)
            if not fresh or path.state in (State.PLAIN, State.DIRECT):
                continue
            path.keepalive_enabled = True
            if path.has_new_handshake and (answers or path.target.plain):
                path.direct(now)

    def on_reply(self, key: str, relay: str | None, now: float) -> bool:
        """Handles a reply: directly from a peer, from a peer by ``relay``, or from the relay itself.

        Returns whether the state changed, so that the caller calls :meth:`tick` at once.
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
            news = not path.relay_liveness.alive(now)
            path.relay_liveness.answer(now)
            if news and path.state is State.DIRECT:
                # The agent runs and did not answer directly: either it does now, or the direct path is dead.
                path.verify_since = now
                path.agent_liveness.wake()
            return news
        news = path.carried or path.state not in (State.DIRECT, State.PLAIN)
        path.probe_count += 1
        path.agent_liveness.answer(now)
        path.wireguard_liveness.answer(now)
        path.host_liveness.answer(now)
        path.direct(now)
        return news

    def on_port_unreachable(self, key: str, now: float) -> None:
        """Handles an ICMP port unreachable of a peer's kernel: no agent listens, and the path works."""
        path = self.paths.get(key)
        if path is not None:
            path.wireguard_liveness.answer(now)
            path.host_liveness.answer(now)

    def on_probe(self, key: str, now: float, size: int = PROBE_WIRE_BYTES) -> bool:
        """Handles a probe that came directly from a peer and was answered: this node probes back.

        ``size`` is its size in bytes as WireGuard counts it.  Returns as :meth:`on_reply`.
        """
        path = self.paths.get(key)
        if path is None:
            return False
        path.probe_count += 2
        path.probe_bytes_received += size
        probed = now - path.host_liveness.asked < ACTIVE_PROBE_SECONDS
        if path.state is State.PLAIN and path.silent(now) and not probed:
            path.host_liveness.wake()
            return True
        if path.state in (State.DIRECT, State.PLAIN):
            return False
        path.probed_until = now + ATTEMPT_SECONDS
        return path.agent_liveness.due(now, 0.0)

    def on_address_change(self) -> None:
        """Makes a probe of every path due, since this node has another address."""
        for path in self.paths.values():
            path.agent_liveness.wake()
            path.host_liveness.wake()
        for liveness in self.relays.values():
            liveness.wake()

    def peer_endpoints(self) -> dict[str, PeerEndpoint]:
        """The endpoint and the keepalive of each peer."""
        return {key: path.peer_endpoint() for key, path in self.paths.items()}

    def relayed_peers(self) -> dict[str, str]:
        """The relay of each relayed peer."""
        return {key: path.relay for key, path in self.paths.items() if path.carried and path.relay}

    def path_status(self, key: str, now: float) -> tuple[str, str | None]:
        """``direct``, ``relayed`` and by whom, ``plain`` (WireGuard alone knows), or ``none``."""
        path = self.paths[key]
        if path.carried and path.relay_liveness.alive(now):
            return "relayed", path.relay
        if path.state is State.DIRECT and not path.carried:
            return "direct", None
        if path.state is State.PLAIN and path.silent(now):
            return "none", None
        return ("plain" if path.state in (State.PLAIN, State.START) else "none"), None

    def silent_seconds(self, key: str, now: float) -> float | None:
        """The seconds since a peer was last reached by any path, 0 if it is reached, None while unknown."""
        path = self.paths[key]
        outcome, _ = self.path_status(key, now)
        if outcome in ("direct", "relayed"):
            return 0.0
        if outcome == "none" and (path.tries or path.state is State.PLAIN):
            return max(path.wireguard_liveness.silent(now), path.host_liveness.silent(now), 1.0)
        reached = path.state is State.PLAIN and (path.host_liveness.alive(now) or path.stats.handshake)
        return 0.0 if reached else None

    def needs_relays(self, now: float) -> bool:
        """Whether some pair is not direct, or may not stay so."""
        return any(path.target.both_behind_nat or _needs_relay(path, now) for path in self.paths.values())

    def poll_interval(self, now: float) -> float:
        """Seconds until the next observation, unless an event comes first."""
        pause = POLL_SLOW_SECONDS
        for path in self.paths.values():
            trying = path.state is State.PROBE or path.probed_until > now
            starting = path.state is State.START and not path.target.has_one_candidate
            if trying or starting or path.verify_since is not None:
                return POLL_FAST_SECONDS
            if path.state is State.RELAY and path.has_new_handshake:
                return POLL_FAST_SECONDS
            new = now - path.since < NEW_PEER_SECONDS and not path.stats.handshake
            silent = path.host_liveness.silent(now)
            late = LATE_REPLY_SECONDS < silent <= WIREGUARD_REPLY_SECONDS + POLL_NORMAL_SECONDS
            if path.state is not State.PLAIN or new or late:
                pause = POLL_NORMAL_SECONDS
        return pause

    def tick(self, now: float) -> PathActions:
        """Advances the state of every peer and returns the actions."""
        actions = PathActions()
        for key, path in self.paths.items():
            if path.state is State.START:
                self._start(path, now, actions)
            elif path.state is State.PROBE:
                self._probe(path, now, actions)
            elif path.state is State.DIRECT:
                self._direct(path, now, actions)
            elif path.state is State.RELAY:
                self._rest(path, now, actions)
            elif path.state is State.PLAIN:
                self._watch(path, now, actions)
            self._carry(key, path, now, actions)
        self._probe_relays(now, actions)
        endpoints = self.peer_endpoints()
        actions.changed = {key for key, endpoint in endpoints.items() if endpoint != self._reported.get(key)}
        self._reported = endpoints
        return actions

    def _start(self, path: PeerPath, now: float, actions: PathActions) -> None:
        age = now - path.since
        if path.has_new_handshake:
            _send_probe(path, now, actions, 0.0)
            if age > WIREGUARD_REPLY_SECONDS:
                self._try(path, 0, now)
        elif age >= ATTEMPT_SECONDS:
            path.keepalive_enabled = True
            if path.target.has_one_candidate:
                path.enter(State.PLAIN, now)
            else:
                self._try(path, 1, now)
        elif age >= RESPONDER_DELAY_SECONDS:
            path.keepalive_enabled = True

    def _probe(self, path: PeerPath, now: float, actions: PathActions) -> None:
        age = now - path.since
        if path.has_new_handshake or path.probed_until > now:
            _send_probe(path, now, actions, 0.0)
            if age > WIREGUARD_REPLY_SECONDS:
                self._try(path, path.index + 1, now)
        elif age >= ATTEMPT_SECONDS:
            self._try(path, path.index + 1, now)
        elif not path.attempted and (self._own < path.target.key or age >= RESPONDER_DELAY_SECONDS):
            actions.reset_endpoints.append((path.target.key, path.target.candidates[path.index]))
            path.attempted, path.stats, path.baseline = True, PeerStats(), PeerStats()

    def _try(self, path: PeerPath, index: int, now: float) -> None:
        """Starts the attempt at the candidate ``index``, or waits for the next round after the last one."""
        if index < len(path.target.candidates):
            path.enter(State.PROBE, now)
            path.index = index
            return
        path.enter(State.RELAY, now)
        pause = ROUND_BACKOFF_SECONDS[min(path.tries, len(ROUND_BACKOFF_SECONDS) - 1)]
        path.next_try = now + pause * self._rng.uniform(0.75, 1.25)
        path.tries += 1

    def _direct(self, path: PeerPath, now: float, actions: PathActions) -> None:
        # Also if only WireGuard answered so far: a path that recovers in time is kept.
        silences = (path.agent_liveness.silent(now), path.wireguard_liveness.silent(now))
        waits = any(0 < silent <= WIREGUARD_REPLY_SECONDS for silent in silences)
        asking = path.active_until > now or waits
        # Probes of a thousand peers drift apart, so that their replies fit into the socket buffer.
        idle = IDLE_PROBE_SECONDS * self._rng.uniform(0.9, 1.0)
        _send_probe(path, now, actions, ACTIVE_PROBE_SECONDS if asking else idle)
        dead = path.wireguard_liveness.silent(now) > WIREGUARD_REPLY_SECONDS
        unverified = path.verify_since is not None and now - path.verify_since > VERIFY_SECONDS
        overdue = unverified and path.agent_liveness.silent(now) > 0
        if dead or overdue:
            path.verify_since = None
            self._try(path, 0, now)

    def _watch(self, path: PeerPath, now: float, actions: PathActions) -> None:
        """Probes a plain peer, so that its silence is known; there is nothing to repair."""
        interval = max(PLAIN_PROBE_SECONDS, PLAIN_PROBE_SPACING_SECONDS * len(self.paths))
        idle = interval * self._rng.uniform(0.9, 1.0)
        waits = 0 < path.host_liveness.silent(now) <= WIREGUARD_REPLY_SECONDS
        if now - path.host_liveness.asked >= (ACTIVE_PROBE_SECONDS if waits else idle):
            path.ask(now)
            actions.probes.append((path.target.key, None))
            path.probe_count += 1

    def _rest(self, path: PeerPath, now: float, actions: PathActions) -> None:
        # A previous session may work again by now, and a round ends it.
        last = path.stats.handshake and path.next_try - now < VERIFY_SECONDS
        if path.has_new_handshake or path.probed_until > now or last:
            _send_probe(path, now, actions, 0.0)
            if path.wireguard_liveness.silent(now) > WIREGUARD_REPLY_SECONDS:
                path.baseline = path.stats
        if now >= path.next_try and path.target.candidates:
            self._try(path, 0, now)

    def _carry(self, key: str, path: PeerPath, now: float, actions: PathActions) -> None:
        """Chooses the relay for a peer, and probes the peer by it."""
        if not _needs_relay(path, now):
            path.carried = False
            return
        options = [relay for relay in self._live_relays(now) if relay != key]
        stuck = path.relay_liveness.dead(now) and path.relay_liveness.due(now, IDLE_PROBE_SECONDS)
        if path.relay not in options or stuck:
            others = [relay for relay in options if relay != path.relay]
            chosen = relay_for(self._own, key, others or options)
            if chosen != path.relay:
                path.relay, path.relay_liveness = chosen, Liveness()
        path.carried = path.relay is not None and (
            path.state is not State.DIRECT
            or path.relay_liveness.alive(now)
            or path.wireguard_liveness.dead(now)
        )
        if path.relay is not None and path.relay_liveness.due(now, IDLE_PROBE_SECONDS):
            path.relay_liveness.ask(now)
            actions.probes.append((key, path.relay))

    def _live_relays(self, now: float) -> list[str]:
        """The relays that answer; before any did, those that are not dead."""
        alive = [key for key, liveness in self.relays.items() if liveness.alive(now)]
        return alive or [key for key, liveness in self.relays.items() if not liveness.dead(now)]

    def _probe_relays(self, now: float, actions: PathActions) -> None:
        used = set(self.relayed_peers().values())
        for key, liveness in self.relays.items():
            if liveness.due(now, ACTIVE_PROBE_SECONDS if key in used else RELAY_PROBE_SECONDS):
                liveness.ask(now)
                actions.probes.append((key, key))

    def _retarget(self, path: PeerPath, target: Target, now: float) -> None:
        """Handles a change of a peer's record, or of this node's own observed endpoint."""
        old, path.target = path.target, target
        if target.plain:
            if path.state is State.DIRECT:
                path.direct(now)
                path.enter(State.PLAIN, now)
        elif path.state is State.PLAIN:
            path.enter(State.START, now)
            path.baseline = PeerStats()
        elif _endpoints_of(target) == _endpoints_of(old):
            return
        elif path.state is State.RELAY and path.stats.handshake:
            path.tries, path.next_try = 0, min(path.next_try, now + VERIFY_SECONDS)
        elif path.state is not State.DIRECT:
            path.tries = 0
            self._try(path, 0, now)
        elif not path.agent_silent(now):
            path.verify_since = now
            path.agent_liveness.wake()


def _endpoints_of(target: Target) -> tuple[tuple[str, ...], str]:
    return target.candidates, target.own_observed_endpoint


def _needs_relay(path: PeerPath, now: float) -> bool:
    if path.state is State.START:
        return path.target.both_behind_nat
    if path.state is State.DIRECT:
        return path.agent_liveness.dead(now)
    return path.state is not State.PLAIN


def _send_probe(path: PeerPath, now: float, actions: PathActions, pause: float) -> None:
    if path.agent_liveness.due(now, pause):
        path.ask(now)
        actions.probes.append((path.target.key, None))
        path.probe_count += 1
