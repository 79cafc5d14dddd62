# SPDX-License-Identifier: GPL-3.0-or-later
"""The path to one peer: its state, its counters, and the intervals of the connectivity checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from jaywalk.mesh.node_interface import KEEPALIVE_SECONDS, PeerEndpoint

from .liveness import NEVER, Liveness

# The time of one attempt at one endpoint.
ATTEMPT_SECONDS = 2.0
# One end starts later. Two handshake initiations that cross cancel each other, and WireGuard sends the next
# one only after 5 s; with 50 ms between them they do not.
RESPONDER_DELAY_SECONDS = 0.5
# WireGuard answers traffic by itself within 10 s (KEEPALIVE_TIMEOUT), without any agent.
WIREGUARD_REPLY_SECONDS = 12.0
# A handshake initiation proves one direction only.
HANDSHAKE_INITIATION_BYTES = 148
# A probe or a reply on the wire: 36 bytes in UDP over IPv4, padded and encrypted.
PROBE_WIRE_BYTES = 96
# More bytes than this between two observations are traffic, not the keepalive of a session.
ACTIVE_BYTES = 256
# A path counts as active for this time after traffic.
ACTIVE_SECONDS = 10.0


class State(Enum):
    """The state of a path: ``PLAIN`` needs no connectivity checks, ``RELAY`` waits between two rounds."""

    START = "start"
    PROBE = "probe"
    DIRECT = "direct"
    RELAY = "relay"
    PLAIN = "plain"


@dataclass(frozen=True)
class Target:
    """A peer as the zone lists it: its candidate endpoints, best first, and the kind of the pair.

    ``plain``: WireGuard alone reaches the peer.  ``both_behind_nat``: the two ends are behind different NATs,
    so a relay carries the pair until a direct path is proven.
    """

    key: str
    candidates: tuple[str, ...]
    own_observed_endpoint: str = ""
    plain: bool = True
    both_behind_nat: bool = False

    @property
    def has_one_candidate(self) -> bool:
        """Whether a plain peer has at most one candidate, which WireGuard tries by itself."""
        return self.plain and len(self.candidates) < 2


@dataclass(frozen=True)
class PeerStats:
    """Counters of ``wg show``: the last handshake (seconds since 1970, 0 for none), and bytes."""

    handshake: int = 0
    received: int = 0
    sent: int = 0


@dataclass
class PeerPath:
    """The path to one peer.

    ``since`` is the start of its state or attempt, and ``baseline`` holds the counters of that moment.
    ``keepalive_enabled``: WireGuard may send first by itself.  ``verify_since``: the start of the time in
    which the path has to prove itself, because an end moved or answers by a relay only.  Three timers measure
    replies: ``agent_liveness`` those of the peer's agent, ``wireguard_liveness`` anything that WireGuard
    receives (also from a peer whose agent is gone), ``host_liveness`` those of the agent, or of the kernel
    where no agent listens.  ``probe_bytes_received`` are bytes of the peer's own probes since the last
    observation, which prove one direction only.  ``carried``: its traffic goes by ``relay``.
    """

    target: Target
    since: float
    keepalive_enabled: bool
    state: State = State.START
    index: int = 0
    attempted: bool = False
    verify_since: float | None = None
    tries: int = 0
    next_try: float = 0.0
    stats: PeerStats = field(default_factory=PeerStats)
    baseline: PeerStats = field(default_factory=PeerStats)
    probe_count: int = 0
    active_until: float = NEVER
    probed_until: float = NEVER
    agent_liveness: Liveness = field(default_factory=Liveness)
    wireguard_liveness: Liveness = field(default_factory=Liveness)
    host_liveness: Liveness = field(default_factory=Liveness)
    probe_bytes_received: int = 0
    relay: str | None = None
    relay_liveness: Liveness = field(default_factory=Liveness)
    carried: bool = False

    @property
    def has_new_handshake(self) -> bool:
        """Whether there was a handshake since the attempt began."""
        return self.stats.handshake not in (0, self.baseline.handshake)

    def agent_silent(self, now: float) -> bool:
        """Whether WireGuard answers at the other end, but no agent does."""
        answers = self.wireguard_liveness.silent(now) <= WIREGUARD_REPLY_SECONDS
        return answers and self.agent_liveness.silent(now) > WIREGUARD_REPLY_SECONDS

    def peer_endpoint(self) -> PeerEndpoint:
        """The endpoint and the keepalive for WireGuard."""
        if self.state in (State.START, State.PLAIN):
            endpoint = self.target.candidates[0] if self.target.candidates else ""
            return PeerEndpoint(endpoint, KEEPALIVE_SECONDS if self.keepalive_enabled else 0)
        waits = self.state is State.RELAY and not self.carried
        if waits and not self.has_new_handshake and self.target.candidates:
            # The round ended at the least likely candidate, so WireGuard gets the best one.
            return PeerEndpoint(self.target.candidates[0], KEEPALIVE_SECONDS)
        # No keepalive to a relayed peer between two rounds: WireGuard would try a dead endpoint for ever.
        resting = self.carried and self.state is not State.DIRECT and not self.attempted
        return PeerEndpoint("", 0 if resting else KEEPALIVE_SECONDS)

    def silent(self, now: float) -> bool:
        """Whether a peer that WireGuard should reach by itself stopped answering, or never answered.

        A peer that answered probes must answer them further.  For a peer that never did (a firewall may drop
        probes), anything that WireGuard receives counts.
        """
        if self.host_liveness.silent(now) <= WIREGUARD_REPLY_SECONDS:
            return False
        answered_before = self.host_liveness.answered > NEVER
        return answered_before or self.wireguard_liveness.silent(now) > WIREGUARD_REPLY_SECONDS

    def ask(self, now: float) -> None:
        self.agent_liveness.ask(now)
        self.wireguard_liveness.ask(now)
        self.host_liveness.ask(now)

    def update_stats(self, new: PeerStats, now: float) -> bool:
        """Updates the counters; returns whether they answer an open probe."""
        old, self.stats = self.stats, new
        transferred = new.received + new.sent - old.received - old.sent
        received = new.received - old.received - self.probe_bytes_received
        traffic = transferred - PROBE_WIRE_BYTES * self.probe_count
        self.probe_count = self.probe_bytes_received = 0
        if new.handshake not in (0, old.handshake) and self.silent(now):
            self.host_liveness.wake()
        if traffic > ACTIVE_BYTES:
            self.active_until = now + ACTIVE_SECONDS
            if new.received == old.received:
                self.host_liveness.wake()
        only_initiations = received % HANDSHAKE_INITIATION_BYTES == 0 and new.handshake == old.handshake
        if received <= 0 or only_initiations:
            return False
        answers = self.wireguard_liveness.unanswered is not None
        self.wireguard_liveness.answer(now)
        return answers

    def enter(self, state: State, now: float) -> None:
        """Enters a state, or starts an attempt."""
        self.state, self.since, self.attempted, self.baseline = state, now, False, self.stats

    def direct(self, now: float) -> None:
        """Marks the direct path as proven."""
        if self.state not in (State.DIRECT, State.PLAIN):
            self.enter(State.PLAIN if self.target.plain else State.DIRECT, now)
        self.keepalive_enabled, self.verify_since, self.tries = True, None, 0
        self.carried, self.relay = False, None
        self.relay_liveness = Liveness()
